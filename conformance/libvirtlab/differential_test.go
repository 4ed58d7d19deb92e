//go:build linux

package libvirtlab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/conformance/guest"
	"github.com/machineries/machineries/conformance/internal/labkit"
	fakelibvirt "github.com/machineries/machineries/fakes/libvirt"
	"github.com/machineries/machineries/internal/require"
)

// The fake is compared with a real libvirtd: both are called in the same way, and what both answer, with codes
// and origins of errors, states, reasons, and the order of events, has to be the same.

func TestTheFakeAnswersAsARealLibvirtdWithQEMU(t *testing.T) {
	require.Tool(t, "libvirt", "/usr/sbin/libvirtd")
	require.Tool(t, "qemu", "qemu-system-x86_64")
	compare(t, driverQEMU, fakelibvirt.QEMU, qemuSteps)
}

func TestTheFakeAnswersAsLibvirtsTestDriver(t *testing.T) {
	require.Tool(t, "libvirt", "/usr/sbin/libvirtd")
	compare(t, driverTest, fakelibvirt.Test, testSteps)
}

// compare runs the steps on both, and compares.
func compare(t *testing.T, driver string, flavour fakelibvirt.Flavour, steps []step) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	realDir, fakeDir := shortDir(t), shortDir(t)
	daemon, err := startHostDaemon(ctx, "/usr/sbin/libvirtd", filepath.Join(realDir, "d"), driver)
	if err != nil {
		t.Fatal(err)
	}
	defer daemon.Close()
	fake, err := fakelibvirt.New(fakelibvirt.Options{Flavour: flavour, Socket: filepath.Join(fakeDir, "s")})
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	d := domain{Type: "qemu", Name: "compared", UUID: newUUID(), Memory: memory}
	if driver == driverTest {
		d.Type = "test"
	} else if d.Emulator, err = lookPath("qemu-system-x86_64"); err != nil {
		t.Fatal(err)
	}
	want := record(ctx, t, daemon.Socket(), daemon.URI(), realDir, d, steps, 0)
	got := record(ctx, t, fake.Socket(), daemon.URI(), fakeDir, d, steps, len(want.events))
	if diff := cmp.Diff(want.answers, got.answers); diff != "" {
		t.Errorf("the fake answers otherwise (-libvirt +fake):\n%s", diff)
	}
	if diff := cmp.Diff(want.events, got.events); diff != "" {
		t.Errorf("the fake's events are others (-libvirt +fake):\n%s", diff)
	}
}

// shortDir is a directory whose path leaves room for sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "mld")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// recording is what a daemon has said.
type recording struct {
	answers []string
	events  []string
}

// scene is what a step has to work with.
type scene struct {
	ctx      context.Context
	c        *client
	tap      *tap
	dir      string
	d        domain
	dom      libvirt.Domain
	listener *guest.Listener
}

// step is one call.
type step struct {
	name string
	do   func(s *scene) error
}

// tap is a connection that notes the origin of the last error.
type tap struct {
	net.Conn
	mu     sync.Mutex
	in     []byte
	origin string
}

// Read implements net.Conn.
func (p *tap) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.in = append(p.in, b[:n]...)
	for len(p.in) >= 4 {
		size := int(binary.BigEndian.Uint32(p.in))
		if size < 28 || len(p.in) < size {
			break
		}
		if binary.BigEndian.Uint32(p.in[24:]) == 1 && size >= 36 { // an error
			p.origin = fmt.Sprintf("%d/%d", binary.BigEndian.Uint32(p.in[28:]), binary.BigEndian.Uint32(p.in[32:]))
		}
		p.in = p.in[size:]
	}
	return n, err
}

// settled is how long a daemon may take for the events of what was done, or to see that a guest is off.
const settled = 10 * time.Second

// moments are times in QEMU's messages.
var moments = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`)

// record calls the steps and notes what comes back. It waits for that many events; for 0, until none come any
// more.
func record(ctx context.Context, t *testing.T, socket, uri, dir string, d domain, steps []step, events int) (r recording) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	s := &scene{ctx: ctx, tap: &tap{Conn: conn}, dir: dir, d: d}
	s.c = libvirt.NewWithDialer(dialers.NewAlreadyConnected(s.tap))
	if err := s.c.ConnectToURI(libvirt.ConnectURI(uri)); err != nil {
		t.Fatalf("connecting to %s: %v", uri, err)
	}
	defer func() { _ = s.c.Disconnect() }()
	if d.Type == "test" {
		s.d.Disk = filepath.Join(dir, "none") // the test driver looks at no file
	} else {
		s.d.Disk, s.d.Serial = filepath.Join(dir, "disk.qcow2"), filepath.Join(dir, "g")
		if err := labkit.MakeDisk(s.d.Disk); err != nil {
			t.Fatal(err)
		}
		if s.listener, err = guest.Listen(s.d.Serial); err != nil {
			t.Fatal(err)
		}
		defer s.listener.Close()
	}
	watched, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.c.LifecycleEvents(watched)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		text := step.name + ": "
		if err := step.do(s); err != nil {
			words := moments.ReplaceAllString(strings.ReplaceAll(err.Error(), dir, "DIR"), "TIME")
			s.tap.mu.Lock()
			text += s.tap.origin + " " + words
			s.tap.mu.Unlock()
		} else {
			text += "ok"
		}
		if s.dom.Name != "" {
			if state, reason, err := s.c.DomainGetState(s.dom, 0); err == nil {
				text += fmt.Sprintf("; state %d/%d", state, reason)
			} else {
				text += "; gone"
			}
		}
		r.answers = append(r.answers, text)
	}
	quiet := time.NewTimer(settled)
	defer quiet.Stop()
	for events == 0 || len(r.events) < events {
		if events == 0 {
			quiet.Reset(time.Second) // that nothing more comes has no event
		}
		select {
		case e, ok := <-stream:
			if !ok {
				t.Fatal("the events ended")
			}
			if e.Dom.Name == d.Name {
				r.events = append(r.events, fmt.Sprintf("%d/%d", e.Event, e.Detail))
			}
		case <-quiet.C:
			return r
		}
	}
	return r
}

// on is a step on the domain.
func on(name string, f func(c *client, dom libvirt.Domain) error) step {
	return step{name, func(s *scene) error { return f(s.c, s.dom) }}
}

var (
	lookupName = step{"look up a name that is not there", func(s *scene) error { _, err := s.c.DomainLookupByName("nosuch"); return err }}
	lookupUUID = step{"look up a uuid that is not there", func(s *scene) error { _, err := s.c.DomainLookupByUUID(libvirt.UUID{1, 2, 3}); return err }}
	define     = step{"define", func(s *scene) (err error) { s.dom, err = s.c.DomainDefineXML(s.d.xml()); return err }}
	create     = on("create", (*client).DomainCreate)
	destroy    = on("destroy", (*client).DomainDestroy)
	suspend    = on("suspend", (*client).DomainSuspend)
	resume     = on("resume", (*client).DomainResume)
	shutdown   = on("shutdown", (*client).DomainShutdown)
	startHeld  = on("create paused", func(c *client, dom libvirt.Domain) error {
		_, err := c.DomainCreateWithFlags(dom, uint32(libvirt.DomainStartPaused))
		return err
	})
	noCurrent = on("current snapshot", func(c *client, dom libvirt.Domain) error { _, err := c.DomainSnapshotCurrent(dom, 0); return err })
	noSuch    = on("look up a snapshot that is not there", func(c *client, dom libvirt.Domain) error {
		_, err := c.DomainSnapshotLookupByName(dom, "nosuch", 0)
		return err
	})
	undefine = on("undefine", (*client).DomainUndefine)
	clear_   = on("undefine with snapshots", func(c *client, dom libvirt.Domain) error {
		return c.DomainUndefineFlags(dom, libvirt.DomainUndefineSnapshotsMetadata)
	})
)

func snap(name string) step {
	return on("snapshot "+name, func(c *client, dom libvirt.Domain) error {
		_, err := c.DomainSnapshotCreateXML(dom, "<domainsnapshot><name>"+name+"</name></domainsnapshot>", 0)
		return err
	})
}

func revertTo(name string, flags libvirt.DomainSnapshotRevertFlags) step {
	return on(fmt.Sprintf("revert to %s, flags %d", name, flags), func(c *client, dom libvirt.Domain) error {
		return c.DomainRevertToSnapshot(libvirt.DomainSnapshot{Name: name, Dom: dom}, uint32(flags))
	})
}

// dump is a memory dump to a file of that name in the scene's directory.
func dump(file string, format libvirt.DomainCoreDumpFormat) step {
	return step{fmt.Sprintf("dump to %s, format %d", file, format), func(s *scene) error {
		return s.c.DomainCoreDumpWithFormat(s.dom, filepath.Join(s.dir, file), uint32(format), libvirt.DumpMemoryOnly)
	}}
}

func restore(file string, flags libvirt.DomainSaveRestoreFlags) step {
	return step{fmt.Sprintf("restore %s, flags %d", file, flags), func(s *scene) error {
		return s.c.DomainRestoreFlags(filepath.Join(s.dir, file), nil, uint32(flags))
	}}
}

// put writes a file for the steps that come.
func put(file, content string) step {
	return step{"put " + file, func(s *scene) error { return os.WriteFile(filepath.Join(s.dir, file), []byte(content), 0o600) }}
}

// move renames a file.
func move(from, to string) step {
	return step{"move " + from, func(s *scene) error { return os.Rename(filepath.Join(s.dir, from), filepath.Join(s.dir, to)) }}
}

// booted waits until the guest answers.
var booted = step{"boot", func(s *scene) error { _, err := s.listener.Client(s.ctx); return err }}

// reboot presses the power button of a guest that obeys, and waits until it has begun anew.
var reboot = step{"reboot", func(s *scene) error {
	g, err := s.listener.Client(s.ctx)
	if err == nil {
		err = g.SetMemory(s.ctx, 0, 4711)
	}
	if err == nil {
		err = s.c.DomainReboot(s.dom, 0)
	}
	for mark := uint32(4711); mark != 0 && err == nil; {
		ctx, cancel := context.WithTimeout(s.ctx, time.Second) // a question on the way is lost with the machine it was for
		if m, err := g.Memory(ctx, 0); err == nil {
			mark = m
		}
		cancel()
		err = s.ctx.Err()
	}
	return err
}}

// obeyed presses the power button, and waits until libvirt says that the domain is off. What it says meanwhile
// is a matter of the moment.
var obeyed = step{"shutdown of a guest that obeys", func(s *scene) error {
	if err := s.c.DomainShutdown(s.dom); err != nil {
		return err
	}
	for deadline := time.Now().Add(settled); ; {
		state, _, err := s.c.DomainGetState(s.dom, 0)
		if err != nil || libvirt.DomainState(state) == libvirt.DomainShutoff {
			return err
		}
		if time.Now().After(deadline) {
			return errors.New("it is not off")
		}
		time.Sleep(10 * time.Millisecond) // libvirt is asked, not its events, which are compared
	}
}}

func screenshot(c *client, dom libvirt.Domain) error {
	var picture bytes.Buffer
	_, err := c.DomainScreenshot(dom, &picture, 0, 0)
	return err
}

// defineText defines something else.
func defineText(name, text string) step {
	return step{"define " + name, func(s *scene) error { _, err := s.c.DomainDefineXML(text); return err }}
}

// inactive is what an inactive domain is asked.
var inactive = []step{destroy, shutdown, suspend, resume, on("reboot", func(c *client, dom libvirt.Domain) error { return c.DomainReboot(dom, 0) }), noCurrent, noSuch, revertTo("nosuch", 0)}

var qemuSteps = append(append([]step{
	lookupName, lookupUUID, defineText("another element", "<foo/>"), defineText("without an os", "<domain type='qemu'><name>a</name></domain>"), define,
}, inactive...), []step{
	dump("core", 0), on("reset", func(c *client, dom libvirt.Domain) error { return c.DomainReset(dom, 0) }), on("screenshot", screenshot),
	on("abort", (*client).DomainAbortJob),
	on("managed save", func(c *client, dom libvirt.Domain) error { return c.DomainManagedSave(dom, 0) }),
	create, create, booted, suspend, suspend, snap("paused"), snap("paused"), resume, resume, snap("running"),
	on("abort", (*client).DomainAbortJob), reboot, obeyed,
	revertTo("running", 0), revertTo("running", 0), revertTo("paused", 0), resume, revertTo("paused", libvirt.DomainSnapshotRevertRunning),
	revertTo("running", libvirt.DomainSnapshotRevertPaused), destroy, destroy, startHeld, resume,
	dump("core", 0), dump("core", 2), dump("nowhere/core", 0),
	{"save", func(s *scene) error { return s.c.DomainSaveFlags(s.dom, filepath.Join(s.dir, "image"), nil, 0) }},
	restore("image", 0), restore("image", 0), destroy, restore("image", libvirt.DomainSavePaused), resume, destroy,
	restore("missing", 0), put("empty", ""), restore("empty", 0), put("garbage", strings.Repeat("x", 5000)), restore("garbage", 0),
	snap("off"), revertTo("off", 0), revertTo("off", libvirt.DomainSnapshotRevertRunning), revertTo("off", 0),
	move("disk.qcow2", "away"), create, move("away", "disk.qcow2"), create, destroy,
	undefine, clear_, create,
}...)

var testSteps = append(append([]step{lookupName, lookupUUID, define}, inactive...), []step{
	startHeld, create, create, snap("running"), suspend, suspend, snap("paused"), resume, resume, destroy, destroy, snap("off"),
	revertTo("running", 0), revertTo("running", 0), revertTo("paused", 0), resume, revertTo("paused", libvirt.DomainSnapshotRevertRunning),
	revertTo("running", libvirt.DomainSnapshotRevertPaused), destroy, revertTo("off", 0), revertTo("off", libvirt.DomainSnapshotRevertRunning),
	revertTo("running", 0), shutdown, dump("core", 0), undefine, clear_, create,
}...)
