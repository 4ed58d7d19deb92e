package libvirt

import (
	"context"
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
	const want = `domains ['tc'] []
active 0 state [5, 2]
lookup 42 10 Domain not found: no domain with matching name 'nosuch'
destroy 55 20 Requested operation is not valid: domain is not running
snapshots ['clean'] current clean 1
reverted [1, 4] info 1
dumped [1, 5]
stats {'state.state': 1, 'state.reason': 5}
screenshot image/png PNG
destroyed [5, 2]
`
	if err != nil || string(out) != want {
		t.Errorf("%v:\n%s", err, out)
	}
}
