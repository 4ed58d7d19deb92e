package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/machineries/machineries/conformance/report"
)

// runPrefix begins the name of every directory that the suite makes. It is
// short, because sockets lie below it and their paths may have 107 bytes.
const runPrefix = "mmc-"

// sweepCommand is how a person clears up after a run that died.
const sweepCommand = "machinery conformance sweep"

// tempRoot is where run directories are made. It is not os.TempDir, whose path
// may be too long for sockets.
func tempRoot() string {
	if runtime.GOOS == "windows" {
		return os.TempDir()
	}
	return "/tmp"
}

// runDir is the directory of one run, with a ledger file that says whose it
// is.
type runDir struct{ path string }

// newRunDir makes the directory of a run, and refuses to start over what an
// earlier run that died left behind.
func newRunDir() (*runDir, error) {
	if left := Leftovers(); len(left) > 0 {
		return nil, fmt.Errorf("an earlier run died and left %s behind; %q clears it up", strings.Join(left, ", "), sweepCommand)
	}
	path, err := os.MkdirTemp(tempRoot(), runPrefix)
	if err != nil {
		return nil, err
	}
	d := &runDir{path}
	// Written under another name first: another run that looked at a ledger
	// without its content would take this one for dead.
	whole := d.ledger() + ".new"
	err = os.WriteFile(whole, fmt.Appendf(nil, "%d %s\n", os.Getpid(), processStart(os.Getpid())), 0o600)
	if err == nil {
		err = os.Rename(whole, d.ledger())
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(path))
	}
	return d, nil
}

func (d *runDir) ledger() string { return filepath.Join(d.path, "owner") }

func (d *runDir) remove() error { return os.RemoveAll(d.path) }

// Leftovers lists the directories of runs that died and could not clear up.
func Leftovers() []string {
	paths, _ := filepath.Glob(filepath.Join(tempRoot(), runPrefix+"*", "owner"))
	var dead []string
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		pid, start, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
		n, err := strconv.Atoi(pid)
		if err != nil || processStart(n) != start || start == "" {
			dead = append(dead, filepath.Dir(path))
		}
	}
	return dead
}

// Sweep ends the processes and removes the files of runs that died, by the
// lab's means, and returns the directories that it removed.
func Sweep(ctx context.Context, lab Lab) ([]string, error) {
	var swept []string
	for _, dir := range Leftovers() {
		if err := lab.Sweep(ctx, dir); err != nil {
			return swept, fmt.Errorf("%s: %w", dir, err)
		}
		if err := os.RemoveAll(dir); err != nil {
			return swept, err
		}
		swept = append(swept, dir)
	}
	return swept, nil
}

// host describes this machine.
func host() report.Host {
	return report.Host{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), GoVersion: runtime.Version(), Kernel: kernel()}
}
