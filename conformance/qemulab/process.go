package qemulab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/machineries/machineries/conformance"
)

var _ conformance.ProcessViewer = (*bench)(nil)

// Descriptors implements conformance.ProcessViewer.
func (b *bench) Descriptors(_ context.Context, name string) ([]string, error) {
	var open []string
	err := b.eachProcess(name, func(dir string) error {
		entries, err := os.ReadDir(filepath.Join(dir, "fd"))
		if err != nil {
			return err
		}
		for _, e := range entries {
			target, err := os.Readlink(filepath.Join(dir, "fd", e.Name()))
			if err != nil {
				continue // closed meanwhile
			}
			open = append(open, target)
		}
		return nil
	})
	return open, err
}

// Environment implements conformance.ProcessViewer.
func (b *bench) Environment(_ context.Context, name string) ([]string, error) {
	var env []string
	err := b.eachProcess(name, func(dir string) error {
		data, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err == nil && len(data) > 0 {
			env = append(env, strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")...)
		}
		return err
	})
	return env, err
}

// eachProcess calls f with the directory below /proc of each process of a
// machine. One that ends meanwhile is passed over.
func (b *bench) eachProcess(name string, f func(dir string) error) error {
	found := processes(b.machines[name].socket)
	if len(found) == 0 {
		return fmt.Errorf("%q has no process", name)
	}
	for _, p := range found {
		if err := f(fmt.Sprintf("/proc/%d", p.pid)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
