//go:build linux

package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
	"go.uber.org/goleak"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/libvirtlab"
	"github.com/machineries/machineries/drivers/kvm/rpc"
	"github.com/machineries/machineries/internal/require"
)

func TestMain(m *testing.M) {
	libvirtlab.Main()
	goleak.VerifyTestMain(m)
}

// A daemon is a private libvirtd with the machine "a" of its test driver.
type daemon struct {
	*libvirtlab.Lab
	bench conformance.Bench
}

func start(t testing.TB) *daemon {
	t.Helper()
	require.Tool(t, "libvirt", "/usr/sbin/libvirtd")
	l, err := libvirtlab.New(t.Context(), libvirtlab.Options{Daemon: "libvirtd", Driver: "test"})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "mrpc")
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.NewBench(t.Context(), filepath.Clean(dir), []conformance.MachineSpec{{Name: "a"}})
	t.Cleanup(func() {
		var problem error
		if b != nil {
			problem = b.Close(context.Background())
		}
		if err := errors.Join(problem, l.Close(), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return &daemon{l, b}
}

func (d *daemon) uri() string { return "test+unix:///default?socket=" + d.Socket() }

func client(t testing.TB, o rpc.Options) *rpc.Client {
	t.Helper()
	c, err := rpc.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func firstDomain(t testing.TB, c *rpc.Client) libvirt.Domain {
	t.Helper()
	var all []libvirt.Domain
	if err := c.Do(t.Context(), "list the domains", func(l *libvirt.Libvirt) (err error) {
		all, _, err = l.ConnectListAllDomains(1, 0)
		return err
	}); err != nil || len(all) == 0 {
		t.Fatalf("domains: %v, %v", all, err)
	}
	return all[0]
}

func TestARealLibvirtdAnswersAndRefusesWithCodeAndDomain(t *testing.T) {
	d := start(t)
	c := client(t, rpc.Options{URI: d.uri()})
	dom := firstDomain(t, c)
	var want [2]int32
	if err := c.Do(t.Context(), "ask for one by the library", func(l *libvirt.Libvirt) (err error) {
		want[0], want[1], err = l.DomainGetState(dom, 0)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if state, reason, err := c.State(t.Context(), "ask for one", dom); err != nil || [2]int32{state, reason} != want {
		t.Errorf("the state is %d, %d, %v; the library says %v", state, reason, err, want)
	}
	if _, _, err := c.State(t.Context(), "ask for nobody", libvirt.Domain{Name: "nobody", UUID: libvirt.UUID{1}, ID: -1}); !rpc.IsCode(err, libvirt.ErrNoDomain) {
		t.Errorf("the state of nobody: %v", err)
	}
	err := c.Do(t.Context(), "look for a machine", func(l *libvirt.Libvirt) error {
		_, err := l.DomainLookupByName("nobody")
		return err
	})
	var e *rpc.Error
	if !errors.As(err, &e) || e.Code != libvirt.ErrNoDomain || e.Domain != 12 || e.Level != 2 || e.Procedure != "DomainLookupByName" || !e.Sent {
		t.Errorf("the error of a lookup is %#v; want code 42 of domain 12 and level 2", err)
	}
	if err := c.Do(t.Context(), "subscribe", func(l *libvirt.Libvirt) error {
		_, err := l.ConnectDomainEventCallbackRegisterAny(0, nil)
		return err
	}); err == nil || !strings.Contains(err.Error(), "Client.Watch") {
		t.Errorf("a subscription around the client is answered with %v", err)
	}
}

func TestAStreamOfARealLibvirtdComesWholeAndIsConfirmed(t *testing.T) {
	d := start(t)
	c := client(t, rpc.Options{URI: d.uri()})
	dom := firstDomain(t, c)
	if err := c.DoLong(t.Context(), "start", func(l *libvirt.Libvirt) error { return l.DomainCreate(dom) }); err != nil && !rpc.IsCode(err, libvirt.ErrInternalError) && !rpc.IsCode(err, libvirt.ErrOperationInvalid) {
		t.Fatal(err)
	}
	// More than the four calls of one connection: an open stream would hold a place.
	for range 2 * 4 {
		var b bytes.Buffer
		if err := c.Do(t.Context(), "take a picture", func(l *libvirt.Libvirt) error {
			_, err := l.DomainScreenshot(dom, &b, 0, 0)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if b.Len() < 1000 {
			t.Fatalf("a picture of %d bytes", b.Len())
		}
	}
}

func TestTheSameClientWorksOnADaemonThatWasStartedAgain(t *testing.T) {
	d := start(t)
	c := client(t, rpc.Options{URI: d.uri()})
	firstDomain(t, c)
	events := c.Watch(t.Context())
	if e := next(t, events); !e.Lost || e.Err != nil {
		t.Fatalf("the first event is %+v; want the sign that some may be lost", e)
	}
	if err := d.bench.Inject(t.Context(), "a", conformance.Fault{Kind: conformance.FaultNoProgram}); err != nil {
		t.Fatal(err)
	}
	if e := next(t, events); !e.Lost || e.Err == nil {
		t.Errorf("without a daemon the event is %+v; want a sign with the reason", e)
	}
	err := c.Do(t.Context(), "ask", func(l *libvirt.Libvirt) error { _, err := l.ConnectGetType(); return err })
	var e *rpc.Error
	if !errors.Is(err, rpc.ErrDisconnected) || !errors.As(err, &e) || e.Sent || !strings.Contains(err.Error(), d.Socket()) {
		t.Errorf("without a daemon, a call ends with %v", err)
	}
	if err := d.bench.Heal(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	firstDomain(t, c)
	for {
		if e := next(t, events); e.Lost && e.Err == nil {
			break
		}
	}
	dom := firstDomain(t, c)
	err = c.DoLong(t.Context(), "change its state", func(l *libvirt.Libvirt) error {
		if err := l.DomainDestroy(dom); err == nil {
			return nil
		}
		return l.DomainCreate(dom)
	})
	if err != nil {
		t.Fatal(err)
	}
	if e := next(t, events); e.Lost || e.Domain.UUID != dom.UUID {
		t.Errorf("by the new daemon, the event is %+v; want one of %s", e, dom.Name)
	}
}

func TestARealDaemonThatIsStoppedDelaysOnlyWhoAsksMeanwhile(t *testing.T) {
	d := start(t)
	c := client(t, rpc.Options{URI: d.uri(), Probe: 100 * time.Millisecond})
	firstDomain(t, c)
	if err := d.bench.Inject(t.Context(), "a", conformance.Fault{Kind: conformance.FaultSilent}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		began := time.Now()
		err := c.Do(ctx, "ask", func(l *libvirt.Libvirt) error { _, err := l.ConnectGetType(); return err })
		cancel()
		if !errors.Is(err, rpc.ErrTimeout) || time.Since(began) > 5*time.Second {
			t.Errorf("after %v, a stopped daemon answers with %v", time.Since(began), err)
		}
	}
	if err := d.bench.Heal(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	firstDomain(t, c)
}

func next(t *testing.T, events <-chan rpc.Event) rpc.Event {
	t.Helper()
	select {
	case e, ok := <-events:
		if !ok {
			t.Fatal("the events have ended")
		}
		return e
	case <-time.After(20 * time.Second):
		t.Fatal("no event came")
	}
	panic("unreachable")
}

func TestAWrongURIIsRefusedInOneSentence(t *testing.T) {
	d := start(t)
	gone := filepath.Join(t.TempDir(), "gone")
	l, err := net.Listen("unix", gone)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ uri, want string }{
		{"lxc+unix:///system?socket=" + d.Socket(), "does not open \"lxc:///system\""},
		{"nonsense+unix:///x?socket=" + d.Socket(), "does not open \"nonsense:///x\""},
		{"qemu+unix:///system?socket=" + gone, "start it again"},
		{"qemu+unix:///system?socket=" + gone + "-not", "start libvirtd or virtqemud"},
		{"test+unix:///default?socket=" + gone + "-not", "start libvirtd"},
		{"qemu+unix:///system?socket=" + t.TempDir(), "is a directory: no socket"},
		{"qemu+unix:///system?socket=" + file, "is a file: no socket"},
		{file, "is a file: no socket"},
		{"qemu+tcp://127.0.0.1:1/system", "listen_tcp"},
	} {
		c := client(t, rpc.Options{URI: tt.uri})
		err := c.Do(t.Context(), "ask", func(l *libvirt.Libvirt) error { _, err := l.ConnectGetType(); return err })
		if !errors.Is(err, rpc.ErrDisconnected) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want %q in it", tt.uri, err, tt.want)
		}
		t.Log(err)
	}
	for _, uri := range []string{"qemu", "qemu+carrier:///system", "qemu+unix://host/system", "://"} {
		if _, err := rpc.New(rpc.Options{URI: uri}); err == nil {
			t.Errorf("%q is taken for a URI", uri)
		}
	}
}
