//go:build linux

package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/machineries/machineries/internal/require"
)

// TestAKilledAddLeavesTheOldFileOrTheNew kills "machine add" at random moments of its run. MACHINERY_KILLS is how many.
func TestAKilledAddLeavesTheOldFileOrTheNew(t *testing.T) {
	kills := 20
	if s := os.Getenv("MACHINERY_KILLS"); s != "" {
		var err error
		if kills, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "kvm.yaml")
	old := "# Ours.\ndsn: qemu:///system\ninterface: lo\nmachines: # none yet\n"
	for n := range 500 {
		old += fmt.Sprintf("  m%d: {label: m%[1]d, ip: 10.0.%d.%d, platform: linux, os_version: '12', architecture: amd64, tags: []} # %[1]d\n", n, n/250, n%250)
	}
	set := func() {
		if err := os.WriteFile(path, []byte(old), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"machine", "add", "-c", path, "new", "label=new", "ip=10.1.0.1", "platform=linux", "os_version=12", "architecture=amd64", "tags="}
	set()
	began := time.Now()
	runCLI(t, args...).want(t, 0, "stderr")
	whole := time.Since(began)
	added := readFile(t, path)
	if added == old {
		t.Fatal("nothing was added")
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d; a whole run takes %v", seed, whole)
	random := rand.New(rand.NewPCG(seed, 0))
	olds, news := 0, 0
	for i := range kills {
		set()
		cmd := command(t, args...)
		cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(random.Int64N(int64(whole + whole/4)))) // the moment of its death is to be any
		_ = cmd.Process.Kill()                                           // it may have ended
		_ = cmd.Wait()
		switch now := readFile(t, path); now {
		case old:
			olds++
		case added:
			news++
		default:
			t.Fatalf("after kill %d the file is neither the old one nor the new:\n%s", i+1, now)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 {
			t.Fatalf("after kill %d: %v, %v", i+1, info, err)
		}
		// What a killed one had not finished is taken away by the next, so that there is never more than one.
		if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 1 {
			t.Fatalf("after kill %d there are %q, %v", i+1, left, err)
		}
	}
	t.Logf("%d kills: the old file %d times, the new one %d times", kills, olds, news)
	set()
	runCLI(t, args...).want(t, 0, "stderr")
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || readFile(t, path) != added {
		t.Errorf("in the end there are %v, %v", left, err)
	}
}

func TestAnAddOnAFullDiskLeavesTheFileAsItWas(t *testing.T) {
	if !require.OwnMounts(t) {
		return
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprint("size=", 2*os.Getpagesize())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "kvm.yaml")
	old := "# " + strings.Repeat("x", os.Getpagesize()) + "\ndsn: qemu:///system\ninterface: lo\nmachines:\n"
	if err := os.WriteFile(path, []byte(old), 0o640); err != nil {
		t.Fatal(err)
	}
	r := runCLI(t, "machine", "add", "-c", path, "new", "label=new", "ip=10.1.0.1", "platform=linux", "os_version=12", "architecture=amd64", "tags=")
	r.want(t, exitFailed, "stdout")
	if !strings.Contains(r.err, "no space left on device") {
		t.Errorf("it says %s", r.err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || readFile(t, path) != old {
		t.Errorf("there are %v, %v", left, err)
	}
}
