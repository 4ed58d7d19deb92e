//go:build linux

package labkit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Descriptors returns what the processes with the text in their command lines
// have open: paths, for files.
func Descriptors(text string) ([]string, error) {
	var open []string
	err := eachProcess(text, func(dir string) error {
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

// Environment returns the environment variables of the processes with the text
// in their command lines.
func Environment(text string) ([]string, error) {
	var env []string
	err := eachProcess(text, func(dir string) error {
		data, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err == nil && len(data) > 0 {
			env = append(env, strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")...)
		}
		return err
	})
	return env, err
}

// eachProcess calls f with the directory below /proc of each process. One that
// ends meanwhile is passed over.
func eachProcess(text string, f func(dir string) error) error {
	found := Processes(text)
	if len(found) == 0 {
		return errors.New("the machine has no process")
	}
	for _, p := range found {
		if err := f(fmt.Sprintf("/proc/%d", p.PID)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
