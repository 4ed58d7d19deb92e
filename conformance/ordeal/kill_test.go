//go:build linux

package ordeal

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/qemulab"
	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/internal/pcap"
	"github.com/machineries/machineries/machinery"
)

// latest is how long a driver is left to work before it is killed. It goes through some dozen operations in that time.
const latest = 1500 * time.Millisecond

// TestADriverMayBeKilledAtAnyMoment kills a program with drivers that work at three machines, and opens the next driver on what is
// left: every machine is in a known state, at most one emulator runs for each, whatever runs can be used and stopped, and then
// nothing is left. What belongs to others is not touched.
func TestADriverMayBeKilledAtAnyMoment(t *testing.T) {
	emulators(t, func(t *testing.T, l *qemulab.Lab) {
		kills := length(t, "MACHINERY_KILLS", 6)
		seed := uint64(length(t, "MACHINERY_SEED", int(time.Now().UnixNano()&0xffffffff)))
		t.Logf("%d kills, MACHINERY_SEED=%d", kills, seed)
		k := &killer{t: t, random: rand.New(rand.NewPCG(seed, 1)), states: map[machinery.State]int{},
			machines: []conformance.MachineSpec{{Name: recorded, Network: true}, {Name: "b", SavedPaused: true}, {Name: "c", Kind: conformance.SnapshotZstd}}}
		k.bench = newBench(t, l, k.machines...)
		k.out = t.TempDir()
		stranger := strangers(t, l, k.bench)
		for i := range kills {
			k.killOne(uint64(i) + seed)
			if t.Failed() {
				t.Fatalf("after kill %d of %d", i+1, kills)
			}
		}
		stranger()
		t.Logf("the machines were found in these states: %v; %d memory dumps, %d recordings and %d saved machines were whole", k.states, k.dumps, k.captures, k.saved)
	})
}

// killer kills drivers.
type killer struct {
	t        *testing.T
	bench    conformance.Bench
	machines []conformance.MachineSpec
	out      string // where memory dumps are written to
	random   *rand.Rand
	states   map[machinery.State]int
	dumps    int
	captures int
	saved    int
}

// strangers are processes that look like the machines' and are not. What it returns fails the test unless they are well.
func strangers(t *testing.T, l *qemulab.Lab, other conformance.Bench) (check func()) {
	t.Helper()
	// A machine of the same name, of another configuration.
	b := newBench(t, l, conformance.MachineSpec{Name: "a"})
	m, err := open(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := m.RestoreStart(within(t), "a"); err != nil {
		t.Fatal(err)
	}
	g, err := b.Guest(within(t), "a")
	if err != nil {
		t.Fatal(err)
	}
	// Something with the name of an emulator, and arguments like those of the machines.
	alike := &exec.Cmd{Path: "/bin/sleep", Args: []string{filepath.Base(other.Saved("a").Files["program"]), "3600"}}
	if err := alike.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = alike.Process.Kill(); _ = alike.Wait() })
	return func() {
		t.Helper()
		if _, err := g.Counter(within(t)); err != nil {
			t.Errorf("the guest of another configuration does not answer any more: %v", err)
		}
		if err := alike.Process.Signal(syscall.Signal(0)); err != nil {
			t.Errorf("a process that is none of the machines' was ended: %v", err)
		}
	}
}

// killOne starts a program with drivers, kills it, and sees what is left.
func (k *killer) killOne(seed uint64) {
	t := k.t
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+task{k.bench.ConfigPath(), k.bench.RuntimeDir(), k.out, seed}.String())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		_ = cmd.Wait()
		t.Fatalf("the program with the drivers did not begin: %s", said.String())
	}
	time.Sleep(time.Duration(k.random.Int64N(int64(latest)))) // that the moment is random is the point
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	did := ""
	for lines.Scan() {
		did += lines.Text() + "\n"
		if strings.HasPrefix(lines.Text(), wrongMark) {
			t.Error(lines.Text())
		}
	}
	_ = cmd.Wait()
	k.look(seed, did)
	if t.Failed() {
		t.Logf("seed %d: what the program did before it was killed:\n%s%s", seed, did, said.String())
	}
}

// look opens the next driver on what is left.
func (k *killer) look(seed uint64, did string) {
	t := k.t
	t.Helper()
	m, err := open(k.bench)
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range k.machines {
		k.oneEmulator(spec.Name)
		status, err := m.State(within(t), spec.Name)
		if err != nil {
			t.Errorf("State(%s) after the kill: %v", spec.Name, err)
			continue
		}
		k.states[status.State]++
		if !known(status) {
			t.Errorf("%s is %s (%s) after the kill", spec.Name, status, status.Detail)
		}
		if k.random.IntN(2) == 0 {
			k.use(m, spec.Name)
		}
	}
	if k.random.IntN(2) == 0 { // as another program would, without having looked
		if err := m.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if m, err = open(k.bench); err != nil {
			t.Fatal(err)
		}
	}
	for _, spec := range k.machines {
		if err := m.Stop(within(t), spec.Name); err != nil && !errors.Is(err, machinery.ErrStateReached) {
			t.Errorf("Stop(%s) after the kill: %v", spec.Name, err)
		}
		if status, err := m.State(within(t), spec.Name); err != nil || status.State != machinery.StatePoweroff {
			t.Errorf("%s is %s (%v) after Stop", spec.Name, status, err)
		}
	}
	nothingLeft(t, k.bench, "after the machines were stopped")
	k.wholeFiles()
	// It works as if nothing had been.
	name := k.machines[k.random.IntN(len(k.machines))].Name
	if err := machinery.Start(within(t), m, name); err != nil {
		t.Errorf("starting %s after all: %v", name, err)
	}
	if err := m.Shutdown(within(t)); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	nothingLeft(t, k.bench, "after Shutdown")
}

// known is whether a machine whose driver was killed may be in a state. Nobody works at it, so that it is not stopping, and
// nothing is wrong with it.
func known(s machinery.Status) bool {
	switch s.State {
	case machinery.StateRunning, machinery.StatePaused, machinery.StatePoweroff, machinery.StateSuspended:
		return true
	case machinery.StateStarting: // its QEMU has not ended yet for want of the rest of its snapshot
		return true
	}
	return false
}

// oneEmulator fails the test if two emulators run one machine.
func (k *killer) oneEmulator(name string) {
	k.t.Helper()
	power, err := k.bench.Power(context.Background(), name)
	if err != nil {
		k.t.Fatal(err)
	}
	if n := strings.Count(power.Detail, "process "); n > 2 { // the fake lab's interposer and its emulator are two
		k.t.Errorf("%d processes run the machine %s: %s", n, name, power.Detail)
	}
}

// use does to a machine what an owner can, and does not mind what it is. What is known of it afterwards is looked at.
func (k *killer) use(m *qemu.Machinery, name string) {
	t := k.t
	t.Helper()
	status, err := m.State(within(t), name)
	if err != nil {
		t.Errorf("State(%s): %v", name, err)
		return
	}
	switch status.State {
	case machinery.StatePoweroff:
		if err := m.RestoreStart(within(t), name); err != nil {
			t.Errorf("restoring %s, which is off after the kill: %v", name, err)
		}
	case machinery.StatePaused:
		// One that stands because its driver was dumping or saving it goes on when it is taken over, or when QEMU is done.
		passing := status.Reason != "from snapshot"
		if err := m.HandlePaused(within(t), name); err != nil && !(passing && errors.Is(err, machinery.ErrStateReached)) && !gone(m, name, err) {
			t.Errorf("resuming %s, which is %s: %v", name, status, err)
		}
	case machinery.StateRunning:
		path := filepath.Join(k.out, fmt.Sprintf("%s-adopted-%d", name, k.random.Uint32()))
		if err := m.DumpMemory(within(t), name, path); err != nil && !gone(m, name, err) {
			t.Errorf("dumping the memory of %s, which was found running: %v", name, err)
		}
		if _, err := m.Screenshot(within(t), name); err != nil && !gone(m, name, err) {
			t.Errorf("taking a picture of %s, which was found running: %v", name, err)
		}
		if err := m.ACPIStop(within(t), name); err != nil && !gone(m, name, err) {
			t.Errorf("pressing the power button of %s, which was found running: %v", name, err)
		}
	}
}

// gone is whether an operation failed because the machine went off: its power button may have been pressed before.
func gone(m *qemu.Machinery, name string, err error) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	status, stateErr := machinery.WaitState(ctx, m, name, machinery.StatePoweroff)
	return stateErr == nil && status.State == machinery.StatePoweroff && err != nil
}

// wholeFiles fails the test if a memory dump or a recording is not whole, or anything else was left where they are.
func (k *killer) wholeFiles() {
	t := k.t
	t.Helper()
	entries, err := os.ReadDir(k.out)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		path := filepath.Join(k.out, e.Name())
		switch filepath.Ext(path) {
		case ".pcap":
			if err := wholeCapture(path); err != nil {
				t.Errorf("%s is no whole recording: %v", path, err)
			}
			k.captures++
		case savedSuffix:
			if err := wholeSaved(path); err != nil {
				t.Errorf("%s is no whole machine: %v", path, err)
			}
			k.saved++
		default:
			if err := wholeDump(path); err != nil {
				t.Errorf("%s is no whole memory dump: %v", path, err)
			}
			k.dumps++
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
}

// wholeSaved is nil for a saved machine whose files are those of its manifest.
func wholeSaved(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		m, err := qemu.ReadManifest(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is of another file
		}
		if err != nil {
			return err
		}
		for _, file := range m.Files {
			content, err := os.ReadFile(file.Path)
			if err != nil {
				return err
			}
			if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != file.SHA256 {
				return fmt.Errorf("%s is not what the manifest says", file.Path)
			}
		}
		return nil
	}
	return fmt.Errorf("it has no manifest, but %d other files", len(entries))
}

// wholeDump is nil for an ELF core file that has all that its headers speak of.
func wholeDump(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if f.Type != elf.ET_CORE || len(f.Progs) == 0 {
		return fmt.Errorf("its type is %v, with %d segments", f.Type, len(f.Progs))
	}
	for _, p := range f.Progs {
		if p.Off+p.Filesz > uint64(info.Size()) {
			return fmt.Errorf("a segment ends at %d, and the file at %d", p.Off+p.Filesz, info.Size())
		}
	}
	return nil
}

// wholeCapture is nil for a recording that ends with a whole packet.
func wholeCapture(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := pcap.NewReader(f)
	for err == nil {
		_, err = r.Next()
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// task is what a program with drivers is to do.
type task struct {
	Config, Runtime, Out string
	Seed                 uint64
}

func (t task) String() string {
	text, _ := json.Marshal(t) // strings and a number
	return string(text)
}
