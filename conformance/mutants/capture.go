//go:build linux

package mutants

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
)

// captures is a mutant that makes its own mistake when a capture is started.
func captures(name string, start func(inner *qemu.Machinery, ctx context.Context, name string, c machinery.Capture) error, breaks ...string) Mutant {
	return wrap(name, func(inner *qemu.Machinery) machinery.Machinery {
		return &broken{Machinery: inner, startCapture: func(ctx context.Context, name string, c machinery.Capture) error { return start(inner, ctx, name, c) }}
	}, breaks...)
}

// ended is a mutant that makes its mistake when a capture has ended, whichever way it did.
func ended(name string, then func(path string), breaks ...string) Mutant {
	return wrap(name, func(inner *qemu.Machinery) machinery.Machinery {
		var paths sync.Map
		after := func(name string, err error) error {
			if path, ok := paths.LoadAndDelete(name); ok {
				then(path.(string))
			}
			return err
		}
		return &broken{Machinery: inner,
			startCapture: func(ctx context.Context, name string, c machinery.Capture) error {
				err := inner.StartCapture(ctx, name, c)
				if err == nil {
					paths.Store(name, c.Path)
				}
				return err
			},
			stopCapture: func(ctx context.Context, name string) error { return after(name, inner.StopCapture(ctx, name)) },
			stop:        func(ctx context.Context, name string) error { return after(name, inner.Stop(ctx, name)) },
		}
	}, breaks...)
}

func captureMutants() []Mutant {
	return []Mutant{
		recordsLate(),
		wrap("says that a capture has ended before it has", func(inner *qemu.Machinery) machinery.Machinery {
			return &broken{Machinery: inner, stopCapture: func(ctx context.Context, name string) error {
				go func() {
					time.Sleep(300 * time.Millisecond) // the mistake
					_ = inner.StopCapture(context.WithoutCancel(ctx), name)
				}()
				return nil
			}}
		}, "MM-CAPTURE-002", "MM-CAPTURE-005"),
		captures("leaves nothing out of a capture", func(inner *qemu.Machinery, ctx context.Context, name string, c machinery.Capture) error {
			c.Exclude = nil
			return inner.StartCapture(ctx, name, c)
		}, "MM-CAPTURE-003"),
		captures("leaves a port out of a capture, whoever has it", func(inner *qemu.Machinery, ctx context.Context, name string, c machinery.Capture) error {
			for _, e := range c.Exclude {
				c.Exclude = append(c.Exclude, machinery.Endpoint{Host: "198.51.100.7", Port: e.Port})
			}
			return inner.StartCapture(ctx, name, c)
		}, "MM-CAPTURE-003"),
		captures("ends a capture for the sake of another", func(inner *qemu.Machinery, ctx context.Context, name string, c machinery.Capture) error {
			_ = inner.StopCapture(ctx, name)
			return inner.StartCapture(ctx, name, c)
		}, "MM-CAPTURE-004"),
		wrap("says that it has ended a capture where there was none", func(inner *qemu.Machinery) machinery.Machinery {
			return &broken{Machinery: inner, stopCapture: func(ctx context.Context, name string) error {
				_ = inner.StopCapture(ctx, name)
				return nil
			}}
		}, "MM-CAPTURE-005", "MM-CAPTURE-006"),
		captures("removes what is in the way of a capture", func(inner *qemu.Machinery, ctx context.Context, name string, c machinery.Capture) error {
			_ = os.Remove(c.Path)
			return inner.StartCapture(ctx, name, c)
		}, "MM-CAPTURE-006"),
		ended("lets everybody read a capture", func(path string) { _ = os.Chmod(path, 0o644) }, "MM-CAPTURE-007"),
		ended("leaves its working file beside a capture", func(path string) { _ = os.WriteFile(path+".part", nil, 0o600) }, "MM-CAPTURE-007"),
		wrap("does not take back a capture that is armed", func(inner *qemu.Machinery) machinery.Machinery {
			return &broken{Machinery: inner, stopCapture: func(ctx context.Context, name string) error {
				if s, err := inner.State(ctx, name); err == nil && s.State == machinery.StatePoweroff {
					return nil
				}
				return inner.StopCapture(ctx, name)
			}}
		}, "MM-CAPTURE-005", "MM-CAPTURE-008"),
		recordsForGood(),
		captures("knows no bound", func(inner *qemu.Machinery, ctx context.Context, name string, c machinery.Capture) error {
			c.MaxBytes = 0
			return inner.StartCapture(ctx, name, c)
		}, "MM-CAPTURE-009"),
		captures("takes one machine's traffic for another's", func(inner *qemu.Machinery, ctx context.Context, name string, c machinery.Capture) error {
			if other, ok := map[string]string{"a": "b", "b": "a"}[name]; ok && len(inner.Machines()) > 1 {
				name = other
			}
			return inner.StartCapture(ctx, name, c)
		}, "MM-CAPTURE-010"),
		leavesEmptyCapture(),
		completesOnlyWhenTold(),
		wrap("ends captures when it is closed", func(inner *qemu.Machinery) machinery.Machinery {
			return &broken{Machinery: inner, close: func() error {
				for _, m := range inner.Machines() {
					_ = inner.StopCapture(context.Background(), m.Name)
				}
				return inner.Close()
			}}
		}, "MM-CAPTURE-013"),
	}
}

// recordsLate begins to record when the machine is up.
func recordsLate() Mutant {
	return wrap("begins to record when the machine is up", func(inner *qemu.Machinery) machinery.Machinery {
		var armed sync.Map
		return &broken{Machinery: inner,
			startCapture: func(ctx context.Context, name string, c machinery.Capture) error {
				if s, err := inner.State(ctx, name); err == nil && s.State == machinery.StatePoweroff {
					armed.Store(name, c)
					return nil
				}
				return inner.StartCapture(ctx, name, c)
			},
			restoreStart: func(ctx context.Context, name string) error {
				err := inner.RestoreStart(ctx, name)
				if c, ok := armed.LoadAndDelete(name); ok && err == nil {
					err = inner.StartCapture(ctx, name, c.(machinery.Capture))
				}
				return err
			}}
	}, "MM-CAPTURE-001")
}

// recordsForGood arms a capture for every run, not for the next alone.
func recordsForGood() Mutant {
	return wrap("records every run after one that was to be recorded", func(inner *qemu.Machinery) machinery.Machinery {
		var asked sync.Map
		return &broken{Machinery: inner,
			startCapture: func(ctx context.Context, name string, c machinery.Capture) error {
				asked.Store(name, c)
				return inner.StartCapture(ctx, name, c)
			},
			restoreStart: func(ctx context.Context, name string) error {
				if c, ok := asked.Load(name); ok {
					_ = inner.StartCapture(ctx, name, c.(machinery.Capture))
				}
				return inner.RestoreStart(ctx, name)
			}}
	}, "MM-CAPTURE-008")
}

// leavesEmptyCapture leaves a file of a run that never was.
func leavesEmptyCapture() Mutant {
	return wrap("leaves an empty capture of a start that failed", func(inner *qemu.Machinery) machinery.Machinery {
		var paths sync.Map
		return &broken{Machinery: inner,
			startCapture: func(ctx context.Context, name string, c machinery.Capture) error {
				paths.Store(name, c.Path)
				return inner.StartCapture(ctx, name, c)
			},
			restoreStart: func(ctx context.Context, name string) error {
				err := inner.RestoreStart(ctx, name)
				if path, ok := paths.Load(name); ok && err != nil {
					_ = os.WriteFile(path.(string), nil, 0o600)
				}
				return err
			}}
	}, "MM-CAPTURE-011")
}

// completesOnlyWhenTold gives a capture its name only when it is told to end it, or the machine.
func completesOnlyWhenTold() Mutant {
	const hidden = ".recording"
	return wrap("forgets the capture of a machine that went off by itself", func(inner *qemu.Machinery) machinery.Machinery {
		var paths sync.Map
		named := func(name string, err error) error {
			if path, ok := paths.LoadAndDelete(name); ok {
				_ = os.Rename(path.(string)+hidden, path.(string))
			}
			return err
		}
		return &broken{Machinery: inner,
			startCapture: func(ctx context.Context, name string, c machinery.Capture) error {
				paths.Store(name, c.Path)
				c.Path += hidden
				return inner.StartCapture(ctx, name, c)
			},
			stopCapture: func(ctx context.Context, name string) error { return named(name, inner.StopCapture(ctx, name)) },
			stop:        func(ctx context.Context, name string) error { return named(name, inner.Stop(ctx, name)) },
		}
	}, "MM-CAPTURE-012")
}
