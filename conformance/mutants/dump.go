//go:build linux

package mutants

import (
	"context"
	"errors"
	"os"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
)

// dumps is a mutant with another DumpMemory.
func dumps(name string, dump func(inner *qemu.Machinery, ctx context.Context, name, path string) error, breaks ...string) Mutant {
	return wrap(name, func(inner *qemu.Machinery) machinery.Machinery {
		return &broken{Machinery: inner, dumpMemory: func(ctx context.Context, name, path string) error { return dump(inner, ctx, name, path) }}
	}, breaks...)
}

// execute runs a command on the machine's monitor, whatever becomes of it.
func execute(inner *qemu.Machinery, ctx context.Context, name, command string) {
	if m, err := inner.Monitor(ctx, name); err == nil {
		_ = m.Execute(ctx, command, nil, nil)
	}
}

func dumpMutants() []Mutant {
	return []Mutant{
		keepsFirstDump(),
		dumps("dumps nothing but zeros", func(inner *qemu.Machinery, ctx context.Context, name, path string) error {
			if err := inner.DumpMemory(ctx, name, path); err != nil {
				return err
			}
			info, err := os.Stat(path)
			if err == nil {
				err = os.Truncate(path, 0)
			}
			if err == nil {
				err = os.Truncate(path, info.Size())
			}
			return err
		}, "MM-DUMP-001"),
		dumps("leaves a machine paused after a dump", func(inner *qemu.Machinery, ctx context.Context, name, path string) error {
			defer execute(inner, ctx, name, "stop")
			return inner.DumpMemory(ctx, name, path)
		}, "MM-DUMP-002", "MM-DUMP-005"),
		dumps("resets a machine after a dump", func(inner *qemu.Machinery, ctx context.Context, name, path string) error {
			defer execute(inner, ctx, name, "system_reset")
			return inner.DumpMemory(ctx, name, path)
		}, "MM-DUMP-002"),
		dumps("resumes a paused machine after a dump", func(inner *qemu.Machinery, ctx context.Context, name, path string) error {
			defer func() { _ = inner.HandlePaused(ctx, name) }()
			return inner.DumpMemory(ctx, name, path)
		}, "MM-DUMP-003"),
		dumps("replaces a file that is there with a dump", func(inner *qemu.Machinery, ctx context.Context, name, path string) error {
			_ = os.Remove(path)
			return inner.DumpMemory(ctx, name, path)
		}, "MM-DUMP-004"),
		dumps("says nothing when the dump cannot be written", func(inner *qemu.Machinery, ctx context.Context, name, path string) error {
			if err := inner.DumpMemory(ctx, name, path); err != nil && machinery.KindOf(err) != machinery.ErrConfig {
				return err
			}
			return nil
		}, "MM-DUMP-004", "MM-DUMP-005"),
		dumps("leaves a part of a dump that failed", func(inner *qemu.Machinery, ctx context.Context, name, path string) error {
			err := inner.DumpMemory(ctx, name, path)
			if err != nil {
				_ = os.WriteFile(path, []byte("\x7fELF"), 0o600)
			}
			return err
		}, "MM-DUMP-006", "MM-DUMP-009", "MM-DUMP-010", "MM-DUMP-011"),
		dumps("does not say why a dump failed", func(inner *qemu.Machinery, ctx context.Context, name, path string) error {
			if err := inner.DumpMemory(ctx, name, path); err != nil {
				return fail(machinery.OpDumpMemory, name, machinery.KindOf(err))
			}
			return nil
		}, "MM-DUMP-006"),
		dumps("lets everybody read a dump", func(inner *qemu.Machinery, ctx context.Context, name, path string) error {
			err := inner.DumpMemory(ctx, name, path)
			if err == nil {
				err = os.Chmod(path, 0o644)
			}
			return err
		}, "MM-DUMP-007"),
		dumps("leaves its working file beside a dump", func(inner *qemu.Machinery, ctx context.Context, name, path string) error {
			err := inner.DumpMemory(ctx, name, path)
			if err == nil {
				err = os.WriteFile(path+".part", nil, 0o600)
			}
			return err
		}, "MM-DUMP-007"),
		mapped("takes its own dump for an error", func(s machinery.Status, err error) (machinery.Status, error) {
			if err == nil && s.State == machinery.StatePaused && s.Reason == "memory dump" {
				return machinery.Status{State: machinery.StateError, Reason: "save-vm"}, nil
			}
			return s, err
		}, "MM-DUMP-008"),
		dumps("does not heed its context in a dump", func(inner *qemu.Machinery, ctx context.Context, name, path string) error {
			err := inner.DumpMemory(context.WithoutCancel(ctx), name, path)
			if ctx.Err() != nil {
				return errors.Join(fail(machinery.OpDumpMemory, name, machinery.ErrInterrupted), ctx.Err())
			}
			return err
		}, "MM-DUMP-009"),
		waitsForDump(),
		dumps("makes an empty file of a machine that is off", func(inner *qemu.Machinery, ctx context.Context, name, path string) error {
			if s, err := inner.State(ctx, name); err == nil && s.State == machinery.StatePoweroff {
				return os.WriteFile(path, nil, 0o600)
			}
			return inner.DumpMemory(ctx, name, path)
		}, "MM-DUMP-011"),
	}
}

// keepsFirstDump gives out the first dump of a machine again and again.
func keepsFirstDump() Mutant {
	return wrap("dumps the memory as it was the first time", func(inner *qemu.Machinery) machinery.Machinery {
		first := ""
		return &broken{Machinery: inner, dumpMemory: func(ctx context.Context, name, path string) error {
			if first != "" {
				return os.Link(first, path)
			}
			first = path
			return inner.DumpMemory(ctx, name, path)
		}}
	}, "MM-DUMP-001")
}

// waitsForDump lets Stop wait until a dump is done.
func waitsForDump() Mutant {
	return wrap("waits for a dump before it stops", func(inner *qemu.Machinery) machinery.Machinery {
		turn := make(chan struct{}, 1)
		return &broken{Machinery: inner,
			dumpMemory: func(ctx context.Context, name, path string) error {
				turn <- struct{}{}
				defer func() { <-turn }()
				return inner.DumpMemory(ctx, name, path)
			},
			stop: func(ctx context.Context, name string) error {
				turn <- struct{}{}
				defer func() { <-turn }()
				return inner.Stop(ctx, name)
			}}
	}, "MM-DUMP-010")
}
