package libvirt

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
)

func TestAloneItHasMachinesAndLeavesNothing(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "m")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	status := make(chan int, 1)
	go func() { status <- Run(ctx, []string{"--socket", socket, "--machines", "2"}) }()
	var conn net.Conn
	await(t, "the socket is there", func() bool {
		conn, err = net.Dial("unix", socket)
		return err == nil
	})
	defer conn.Close()
	c := &rawClient{t: t, conn: conn}
	if _, err := c.call("ConnectOpen", golibvirt.ConnectOpenArgs{}); err != nil {
		t.Fatal(err)
	}
	var dom golibvirt.DomainLookupByNameRet
	await(t, "the last machine has its snapshot and is off", func() bool {
		b, err := c.call("DomainLookupByName", golibvirt.DomainLookupByNameArgs{Name: "machine2"})
		if err != nil || decodeXDR(b, &dom) != nil {
			return false
		}
		b, err = c.call("DomainHasCurrentSnapshot", golibvirt.DomainHasCurrentSnapshotArgs{Dom: dom.Dom})
		return err == nil && b[3] == 1 && dom.Dom.ID < 0
	})
	if _, err := c.call("DomainRevertToSnapshot", golibvirt.DomainRevertToSnapshotArgs{Snap: golibvirt.DomainSnapshot{Name: "clean", Dom: dom.Dom}}); err != nil {
		t.Error(err)
	}
	stop()
	select {
	case got := <-status:
		if got != 0 {
			t.Errorf("exit status %d", got)
		}
	case <-time.After(patience):
		t.Fatal("it did not end")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestWrongArgumentsAreRefused(t *testing.T) {
	for _, args := range [][]string{{"x"}, {"--machines", "-1"}, {"--nosuch"}} {
		if got := Run(t.Context(), args); got != 2 {
			t.Errorf("%v: exit status %d", args, got)
		}
	}
	if got := Run(t.Context(), []string{"--socket", "/nonexistent/s"}); got != 1 {
		t.Errorf("exit status %d where there can be no socket", got)
	}
}

func TestHelpFitsATerminalAndTellsHowToReachIt(t *testing.T) {
	old := os.Stderr
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	os.Stderr = w
	status := Run(t.Context(), []string{"--help"})
	os.Stderr = old
	w.Close()
	text, err := io.ReadAll(r)
	r.Close()
	if err != nil || status != 0 || !strings.Contains(string(text), "the dsn of a kvm.yaml") || !strings.Contains(string(text), "-machines") {
		t.Errorf("status %d, %v:\n%s", status, err, text)
	}
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\t", "        ")) {
		if len(strings.TrimRight(line, "\n")) > 80 {
			t.Errorf("%d columns: %s", len(line)-1, line)
		}
	}
}
