//go:build linux

package mutants

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
)

func restoreMutants() []Mutant {
	return []Mutant{
		wrap("says that it restored, and did nothing", func(inner *qemu.Machinery) machinery.Machinery {
			return &broken{Machinery: inner, restoreStart: func(context.Context, string) error { return nil }}
		}, "MM-RESTORE-001"),
		wrap("boots the machine that it has restored", func(inner *qemu.Machinery) machinery.Machinery {
			return &broken{Machinery: inner, restoreStart: func(ctx context.Context, name string) error {
				if err := inner.RestoreStart(ctx, name); err != nil {
					return err
				}
				m, err := inner.Monitor(ctx, name)
				if err != nil {
					return err
				}
				return m.Execute(ctx, "system_reset", nil, nil)
			}}
		}, "MM-RESTORE-002"),
		memoryNotReverted(),
		rewire("lets the disk be as the last run left it", diskNotReverted, nil, "MM-RESTORE-004"),
		originalsChanged(),
		wrap("resumes by itself what was saved paused", func(inner *qemu.Machinery) machinery.Machinery {
			return &broken{Machinery: inner, restoreStart: func(ctx context.Context, name string) error {
				if err := inner.RestoreStart(ctx, name); err != nil {
					return err
				}
				_ = inner.HandlePaused(ctx, name)
				return nil
			}}
		}, "MM-RESTORE-006"),
		wrap("restores over a machine that is on", func(inner *qemu.Machinery) machinery.Machinery {
			return &broken{Machinery: inner, restoreStart: func(ctx context.Context, name string) error {
				_ = inner.Stop(ctx, name)
				return inner.RestoreStart(ctx, name)
			}}
		}, "MM-RESTORE-007", "MM-RESTORE-008"),
		rewire("takes a changed disk for the right one", nil, func(inner *qemu.Machinery, c qemu.Config) machinery.Machinery {
			return &broken{Machinery: inner, restoreStart: func(ctx context.Context, name string) error {
				// A snapshot that is newer is taken for one of the disk as it is.
				_ = os.Chtimes(machine(c, name).Snapshot, time.Now(), time.Now())
				return inner.RestoreStart(ctx, name)
			}}
		}, "MM-RESTORE-015", "MM-MEDIA-002"),
		rewire("restores plain snapshots only", nil, plainOnly, "MM-RESTORE-009"),
		wrap("cannot restore what was not stopped", func(inner *qemu.Machinery) machinery.Machinery {
			started := newSet()
			return &broken{Machinery: inner,
				restoreStart: func(ctx context.Context, name string) error {
					if started.has(name) {
						return fail(machinery.OpRestoreStart, name, machinery.ErrUnexpectedState)
					}
					started.add(name)
					return inner.RestoreStart(ctx, name)
				},
				stop: func(ctx context.Context, name string) error {
					started.remove(name)
					return inner.Stop(ctx, name)
				}}
		}, "MM-RESTORE-010"),
		rewire("restores every machine from the first one's snapshot", firstSnapshot, nil, "MM-RESTORE-011"),
		wrap("works only twice", func(inner *qemu.Machinery) machinery.Machinery {
			var mu sync.Mutex
			n := 0
			return &broken{Machinery: inner, restoreStart: func(ctx context.Context, name string) error {
				mu.Lock()
				n++
				tired := n > 2
				mu.Unlock()
				if tired {
					return fail(machinery.OpRestoreStart, name, machinery.ErrHypervisor)
				}
				return inner.RestoreStart(ctx, name)
			}}
		}, "MM-RESTORE-012", "MM-PAUSED-005"),
		rewire("does not read what the hypervisor prints", deafToOutput, nil, "MM-RESTORE-013"),
		wrap("cannot restore after the hypervisor was killed", func(inner *qemu.Machinery) machinery.Machinery {
			spoilt := newSet()
			return &broken{Machinery: inner,
				restoreStart: func(ctx context.Context, name string) error {
					if spoilt.has(name) {
						return fail(machinery.OpRestoreStart, name, machinery.ErrHypervisor)
					}
					return inner.RestoreStart(ctx, name)
				},
				stop: func(ctx context.Context, name string) error {
					if s, err := inner.State(ctx, name); err != nil || s.State != machinery.StateRunning {
						spoilt.add(name)
					}
					return inner.Stop(ctx, name)
				}}
		}, "MM-RESTORE-014"),
	}
}

// plainOnly refuses snapshots that are compressed.
func plainOnly(inner *qemu.Machinery, c qemu.Config) machinery.Machinery {
	return &broken{Machinery: inner, restoreStart: func(ctx context.Context, name string) error {
		data, err := os.ReadFile(machine(c, name).Snapshot)
		if err != nil || !bytes.HasPrefix(data, []byte("QEVM")) {
			return fail(machinery.OpRestoreStart, name, machinery.ErrHypervisor)
		}
		return inner.RestoreStart(ctx, name)
	}}
}

// migrate saves a machine that runs.
func migrate(ctx context.Context, run *qemu.Machinery, name, path string) error {
	mon, err := run.Monitor(ctx, name)
	if err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := mon.ExecuteFile(ctx, "getfd", map[string]string{"fdname": "save"}, file, nil); err != nil {
		return err
	}
	if err := mon.Execute(ctx, "migrate", map[string]string{"uri": "fd:save"}, nil); err != nil {
		return err
	}
	for {
		var state struct {
			Status string `json:"status"`
		}
		if err := mon.Execute(ctx, "query-migrate", nil, &state); err != nil {
			return err
		}
		switch state.Status {
		case "completed":
			return nil
		case "failed":
			return fmt.Errorf("migrate failed")
		}
	}
}

// memoryNotReverted saves the machine's memory when it is stopped, and goes on
// from there the next time.
func memoryNotReverted() Mutant {
	return rewire("lets the memory be as the last run left it", func(c *qemu.Config, _ *machinery.Options) error {
		for i := range c.Machines {
			own := c.Machines[i].Snapshot + ".own"
			if err := copyFile(own, c.Machines[i].Snapshot); err != nil {
				return err
			}
			c.Machines[i].Snapshot = own
		}
		return nil
	}, func(inner *qemu.Machinery, c qemu.Config) machinery.Machinery {
		return &broken{Machinery: inner, stop: func(ctx context.Context, name string) error {
			if s, err := inner.State(ctx, name); err == nil && s.State == machinery.StateRunning {
				_ = migrate(ctx, inner, name, machine(c, name).Snapshot)
			}
			return inner.Stop(ctx, name)
		}}
	}, "MM-RESTORE-003")
}

// diskNotReverted gives each machine a disk of its own that lives on.
func diskNotReverted(c *qemu.Config, _ *machinery.Options) error {
	for i := range c.Machines {
		m := &c.Machines[i]
		args, err := startArgs(m.Info)
		if err != nil {
			return err
		}
		own := m.Disk + ".own"
		if err := copyFile(own, m.Disk); err != nil {
			return err
		}
		for k := range args {
			args[k] = strings.ReplaceAll(args[k], "%DISPOSABLE_DISK_PATH%", own)
		}
		// The driver insists on a disposable disk; this one is not used.
		m.Args = append(args, "-name", "%DISPOSABLE_DISK_PATH%")
	}
	return nil
}

// startArgs reads the arguments in a machineinfo.json.
func startArgs(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var info struct {
		Machine struct {
			StartArgs []string `json:"start_args"`
		} `json:"machine"`
	}
	err = json.Unmarshal(data, &info)
	return info.Machine.StartArgs, err
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = io.Copy(out, in)
	return err
}

// originalsChanged writes to the configured disk.
func originalsChanged() Mutant {
	return rewire("writes to the original disk", nil, func(inner *qemu.Machinery, c qemu.Config) machinery.Machinery {
		return &broken{Machinery: inner, stop: func(ctx context.Context, name string) error {
			err := inner.Stop(ctx, name)
			if f, openErr := os.OpenFile(machine(c, name).Disk, os.O_WRONLY|os.O_APPEND, 0); openErr == nil {
				_, _ = f.Write(make([]byte, 512))
				_ = f.Close()
			}
			return err
		}}
	}, "MM-RESTORE-005")
}

// firstSnapshot gives every machine a copy of the first one's snapshot.
func firstSnapshot(c *qemu.Config, _ *machinery.Options) error {
	for i := 1; i < len(c.Machines); i++ {
		own := c.Machines[i].Snapshot + ".own"
		if err := copyFile(own, c.Machines[0].Snapshot); err != nil {
			return err
		}
		c.Machines[i].Snapshot = own
	}
	return nil
}

// deafToOutput runs the emulator with its output going into a pipe that nobody
// reads.
func deafToOutput(c *qemu.Config, _ *machinery.Options) error {
	script := filepath.Join(filepath.Dir(c.DisposableDir), "bin", "deaf")
	text := fmt.Sprintf("#!/bin/sh\nmkfifo '%[1]s.pipe' 2>/dev/null\nexec '%[2]s' \"$@\" 2<>'%[1]s.pipe'\n", script, c.QEMU)
	c.QEMU = script
	return os.WriteFile(script, []byte(text), 0o700)
}

// set is a set of machines.
type set struct {
	mu    sync.Mutex
	names map[string]bool
}

func newSet() *set { return &set{names: make(map[string]bool)} }

func (s *set) has(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.names[name]
}

func (s *set) add(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[name] = true
}

func (s *set) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.names, name)
}
