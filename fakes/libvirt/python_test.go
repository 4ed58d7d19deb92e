package libvirt

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/machineries/machineries/internal/require"
)

func TestPythonDoesWhatASandboxModuleDoes(t *testing.T) {
	python := require.Python(t, "libvirt", "libvirt")
	s, d := started(t, Options{}, "tc")
	for _, step := range []func() error{d.Start, func() error { return d.TakeSnapshot("clean") }, d.Destroy} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, python, "testdata/module.py", s.URI(), "tc", filepath.Join(t.TempDir(), "dump")).CombinedOutput()
	const want = `version QEMU 7002022 9000000
domains ['tc'] []
active 0 state [5, 2]
lookup 42 10 Domain not found: no domain with matching name 'nosuch'
destroy 55 20 Requested operation is not valid: domain is not running
snapshots ['clean'] current clean 1
names ['clean'] made True
snapshot 72 10 Domain snapshot not found: no domain snapshot with matching name 'nosuch'
define 27 5 XML error: expecting root element of 'domain', not 'network'
reverted [1, 4] info 1 by id ['tc']
dumped [1, 5]
stats {'state.state': 1, 'state.reason': 5}
screenshot image/png PNG
destroyed [5, 2]
started [3, 1] 3
shut down [5, 1]
`
	if err != nil || string(out) != want {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestPythonWatchesMachinesOverARestart(t *testing.T) {
	python := require.Python(t, "libvirt", "libvirt")
	s, d := started(t, Options{}, "tc")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, "testdata/restart.py", s.URI(), "tc")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cancel()
	lines := bufio.NewScanner(out)
	for _, step := range []struct {
		want string
		do   func() error
	}{
		{"ready", d.Start}, {"restart", func() error { return s.Restart(10 * time.Millisecond) }},
		{"ended 1 0", nil}, {"state [1, 1]", nil}, {"ready", d.Destroy}, {"alive 1", nil}, {"done", nil},
	} {
		if !lines.Scan() || lines.Text() != step.want {
			t.Fatalf("it says %q, want %q", lines.Text(), step.want)
		}
		if step.do == nil {
			continue
		}
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
	}
}
