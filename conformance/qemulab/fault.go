package qemulab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/machineries/machineries/conformance"
	fakeqemu "github.com/machineries/machineries/fakes/qemu"
)

// plans says how each fault that strikes at a start is made. The command that
// the faults on the monitor need to be seen is the fake emulator's, or the
// interposer's before a real one.
var plans = map[conformance.FaultKind]func(f conformance.Fault) fakeqemu.Fault{
	conformance.FaultSlowStart: func(f conformance.Fault) fakeqemu.Fault {
		return fakeqemu.Fault{Point: fakeqemu.PointStart, Action: fakeqemu.Delay, Delay: f.Delay}
	},
	conformance.FaultRefuseStart: func(f conformance.Fault) fakeqemu.Fault {
		return fakeqemu.Fault{Point: fakeqemu.PointStart, Action: fakeqemu.Exit, Code: 1, Text: "qemu-system-x86_64: " + f.Text + "\n"}
	},
	conformance.FaultNeverReady: func(conformance.Fault) fakeqemu.Fault {
		return fakeqemu.Fault{Point: fakeqemu.PointStart, Action: fakeqemu.Hang}
	},
	conformance.FaultNoise: func(conformance.Fault) fakeqemu.Fault {
		return fakeqemu.Fault{Point: fakeqemu.PointStart, Action: fakeqemu.Noise, Bytes: 1 << 20}
	},
	conformance.FaultRefuseResume: func(f conformance.Fault) fakeqemu.Fault {
		return fakeqemu.Fault{Point: fakeqemu.PointCommand, Command: "cont", Action: fakeqemu.Refuse, Text: f.Text}
	},
	conformance.FaultRefuseQuit: func(conformance.Fault) fakeqemu.Fault {
		return fakeqemu.Fault{Point: fakeqemu.PointExit, Action: fakeqemu.Stay, Deaf: true}
	},
	conformance.FaultRefuseDump: func(f conformance.Fault) fakeqemu.Fault {
		return fakeqemu.Fault{Point: fakeqemu.PointCommand, Command: "dump-guest-memory", Action: fakeqemu.Refuse, Text: f.Text}
	},
	conformance.FaultSlowDump: func(f conformance.Fault) fakeqemu.Fault {
		return fakeqemu.Fault{Point: fakeqemu.PointCommand, Command: "dump-guest-memory", Action: fakeqemu.Delay, Delay: f.Delay}
	},
	// Someone who pauses the machine needs a way in: the interposer stays if
	// any fault on the wire is planned, and this one does nothing.
	conformance.FaultStrangerPause: func(conformance.Fault) fakeqemu.Fault {
		return fakeqemu.Fault{Point: fakeqemu.PointReply, Command: "query-machines", Action: fakeqemu.Delay}
	},
}

// planned translates the faults of a machine's spec.
func planned(faults []conformance.Fault) []fakeqemu.Fault {
	var all []fakeqemu.Fault
	for _, f := range faults {
		if plan := plans[f.Kind]; plan != nil {
			all = append(all, plan(f))
		}
	}
	return all
}

// Inject implements conformance.Bench.
func (b *bench) Inject(ctx context.Context, name string, f conformance.Fault) error {
	m := b.machines[name]
	switch f.Kind {
	case conformance.FaultKill:
		return b.signal(ctx, m, syscall.SIGKILL)
	case conformance.FaultWedge:
		return b.signal(ctx, m, syscall.SIGSTOP)
	case conformance.FaultChangeDisk:
		return changeDisk(m.files["disk"])
	case conformance.FaultChangeSecondDisk:
		return changeDisk(m.files["second disk"])
	case conformance.FaultNoProgram:
		return os.Rename(b.install.Emulator, b.hiddenEmulator())
	case conformance.FaultStrangerPause:
		for _, p := range b.install.Alive() {
			if strings.Contains(strings.Join(p.Args, " "), m.socket) {
				_, err := p.Do(ctx, `{"execute": "stop"}`)
				return err
			}
		}
		return fmt.Errorf("no process of %q is there to be paused", name)
	}
	return fmt.Errorf("the fault %q cannot be made on a running machine", f.Kind)
}

// Heal implements conformance.Bench.
func (b *bench) Heal(_ context.Context, name string) error {
	m := b.machines[name]
	b.install.Clear(m.socket)
	if err := os.Rename(b.hiddenEmulator(), b.install.Emulator); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, p := range processes(m.socket) {
		if err := kill(p, syscall.SIGCONT); err != nil {
			return err
		}
	}
	return nil
}

// hiddenEmulator is where the emulator is while it is not there.
func (b *bench) hiddenEmulator() string { return b.install.Emulator + ".away" }

// signal sends a signal to every process of a machine.
func (b *bench) signal(ctx context.Context, m *machine, s syscall.Signal) error {
	found := processes(m.socket)
	if len(found) == 0 {
		return fmt.Errorf("no process of %q is there for %v", m.spec.Name, s)
	}
	for _, p := range found {
		if err := kill(p, s); err != nil {
			return err
		}
	}
	if s != syscall.SIGSTOP {
		return nil
	}
	// The signal is delivered to one thread after the other; until the last
	// has it, the process may still answer.
	for _, p := range found {
		if err := stopped(ctx, p.pid); err != nil {
			return err
		}
	}
	return nil
}

// kill sends a signal to a process, which may have ended meanwhile.
func kill(p process, s syscall.Signal) error {
	if err := syscall.Kill(p.pid, s); err != nil && err != syscall.ESRCH {
		return fmt.Errorf("%v to process %d: %w", s, p.pid, err)
	}
	return nil
}

// stopped waits until every thread of a process stands still. The kernel has
// no event for that.
func stopped(ctx context.Context, pid int) error {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil {
			return err
		}
		running := 0
		for _, path := range paths {
			if _, fields := readStat(path); len(fields) > 0 && fields[0] != "T" && fields[0] != "Z" {
				running++
			}
		}
		if running == 0 {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("process %d does not stop: %w", pid, ctx.Err())
		}
	}
}

// damage spoils a machine's files.
func damage(files map[string]string, d conformance.Damage) error {
	switch d {
	case conformance.Undamaged, conformance.SnapshotForeign, conformance.Dangerous:
		return nil
	case conformance.SnapshotMissing:
		return os.Remove(files["snapshot"])
	case conformance.DiskMissing:
		return os.Remove(files["disk"])
	case conformance.SnapshotEmpty:
		return os.Truncate(files["snapshot"], 0)
	case conformance.SnapshotTruncated:
		info, err := os.Stat(files["snapshot"])
		if err != nil {
			return err
		}
		return os.Truncate(files["snapshot"], info.Size()/2)
	case conformance.SnapshotGarbage:
		return scribble(files["snapshot"], 64)
	case conformance.DiskGarbage:
		return scribble(files["disk"], 0)
	}
	return fmt.Errorf("the lab cannot make the damage %q", d)
}

// changeDisk changes the last byte of a disk's file.
func changeDisk(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	data[len(data)-1] ^= 1
	return os.WriteFile(path, data, 0o600)
}

// scribble overwrites a file from an offset on with noise, the same each time.
func scribble(path string, from int64) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	noise := rand.NewChaCha8([32]byte{1})
	for i := from; i < int64(len(data)); i += 8 {
		word := noise.Uint64()
		for k := int64(0); k < 8 && i+k < int64(len(data)); k++ {
			data[i+k] = byte(word >> (8 * k))
		}
	}
	return os.WriteFile(path, data, 0o600)
}
