//go:build linux

package qemu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/drivers/qemu/monitor"
	"github.com/machineries/machineries/internal/require"
	"github.com/machineries/machineries/machinery"
	"github.com/pierrec/lz4/v4"
)

// bootSector is a guest that waits for interrupts for ever: sti; again: hlt; jmp again.
func bootSector() []byte {
	b := make([]byte, 512)
	copy(b, []byte{0xfb, 0xf4, 0xeb, 0xfd})
	b[510], b[511] = 0x55, 0xaa
	return b
}

// machineArgs is a small machine. Its disk is on IDE so that the guest's firmware boots from it.
func machineArgs(more ...string) []string {
	args := []string{"-accel", "tcg", "-M", "q35", "-m", "16", "-nodefaults", "-display", "none",
		"-drive", "file=" + placeholder + ",format=qcow2,if=ide"}
	return append(args, more...)
}

// scratch is a directory with a short path, because sockets are made in it.
func scratch(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "m")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// snapshots are the states of the small machine, made once for all tests with the real QEMU.
type snapshots struct {
	disk    []byte
	paused  []byte
	running []byte
	fresh   []byte // saved before the machine ever ran
}

var makeSnapshots = sync.OnceValues(func() (s snapshots, err error) {
	dir, err := os.MkdirTemp("/tmp", "m")
	if err != nil {
		return s, err
	}
	defer os.RemoveAll(dir)
	s.disk = append(bootSector(), make([]byte, 1<<20-512)...)
	disk, sock := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "qmp.sock")
	if err := os.WriteFile(disk, s.disk, 0o600); err != nil {
		return s, err
	}
	c := &commandArgs{args: machineArgs(), quote: make([]func(string, string) string, len(machineArgs()))}
	c.quote[len(c.quote)-1] = asSetting
	args := c.with(disk)
	args[len(args)-1] = "file=" + disk + ",format=raw,if=ide"
	var said bytes.Buffer
	cmd := exec.Command("qemu-system-x86_64", append(args, "-S", "-qmp", "unix:"+sock+",server=on,wait=off")...)
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return s, err
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var m *monitor.Monitor
	for m == nil {
		if m, err = monitor.Dial(ctx, sock); err != nil {
			if ctx.Err() != nil {
				return s, fmt.Errorf("%w: %s", err, said.String())
			}
			time.Sleep(5 * time.Millisecond) // the socket appears without a sign
		}
	}
	defer m.Close()
	save := func(name string) ([]byte, error) {
		path := filepath.Join(dir, name)
		f, err := os.Create(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if err := m.ExecuteFile(ctx, "getfd", map[string]any{"fdname": name}, f, nil); err != nil {
			return nil, err
		}
		if err := m.Execute(ctx, "migrate", map[string]any{"uri": "fd:" + name}, nil); err != nil {
			return nil, err
		}
		for {
			var q struct{ Status string }
			if err := m.Execute(ctx, "query-migrate", nil, &q); err != nil {
				return nil, err
			}
			switch q.Status {
			case "completed":
				return os.ReadFile(path)
			case "failed":
				return nil, errors.New("migrate failed")
			}
			time.Sleep(2 * time.Millisecond) // the monitor of this test asks for no events
		}
	}
	if s.fresh, err = save("fresh"); err != nil {
		return s, err
	}
	// The guest gets no further than into its firmware, so that any disk goes with the snapshots.
	for _, command := range []string{"cont", "stop"} {
		if err := m.Execute(ctx, command, nil, nil); err != nil {
			return s, err
		}
	}
	if s.paused, err = save("paused"); err != nil {
		return s, err
	}
	if err := m.Execute(ctx, "cont", nil, nil); err != nil {
		return s, err
	}
	s.running, err = save("running")
	return s, err
})

func realSnapshots(t testing.TB) snapshots {
	t.Helper()
	require.Tool(t, "qemu", "qemu-system-x86_64")
	s, err := makeSnapshots()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// site is a directory with machines, and what a test wants to know of it.
type site struct {
	t       testing.TB
	dir     string
	runtime string
	config  Config
}

func newSite(t testing.TB) *site {
	t.Helper()
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		qemu = "/bin/true"
	}
	dir := scratch(t)
	s := &site{t: t, dir: dir, runtime: filepath.Join(dir, "run"), config: Config{QEMU: qemu, DisposableDir: filepath.Join(dir, "disposable")}}
	if err := os.Mkdir(s.config.DisposableDir, 0o700); err != nil {
		t.Fatal(err)
	}
	return s
}

// write makes a file in the site and returns its path.
func (s *site) write(name string, data []byte) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// add adds a machine with files of its own.
func (s *site) add(name string, disk, snapshot []byte, args ...string) *MachineConfig {
	s.t.Helper()
	if args == nil {
		args = machineArgs()
	}
	info, err := json.Marshal(map[string]any{"machine": map[string]any{"start_args": args}})
	if err != nil {
		s.t.Fatal(err)
	}
	dir := fmt.Sprintf("vm%d", len(s.config.Machines))
	s.config.Machines = append(s.config.Machines, MachineConfig{Name: name,
		Disk: s.write(dir+"/disk", disk), Snapshot: s.write(dir+"/snapshot", snapshot), Info: s.write(dir+"/machineinfo.json", info)})
	return &s.config.Machines[len(s.config.Machines)-1]
}

// open makes a driver that is closed at the end of the test.
func (s *site) open(o machinery.Options) *Machinery {
	s.t.Helper()
	o.RuntimeDir = s.runtime
	if testing.Verbose() {
		o.Logger = slog.New(slog.NewTextHandler(testWriter{s.t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	m, err := New(context.Background(), s.config, o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := m.Shutdown(ctx); err != nil && !errors.Is(err, machinery.ErrClosed) {
			s.t.Error(err)
		}
	})
	return m
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(bytes.TrimSpace(p)))
	return len(p), nil
}

// clean fails the test if a run of any machine has left something.
func (s *site) clean() {
	s.t.Helper()
	for _, dir := range []string{s.runtime, s.config.DisposableDir} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			s.t.Error(err)
		}
		for _, e := range entries {
			s.t.Errorf("%s is left in %s", e.Name(), dir)
		}
	}
	for _, pid := range process.Processes() {
		for _, arg := range process.CommandLine(pid) {
			if bytes.Contains([]byte(arg), []byte(s.dir)) && pid != os.Getpid() {
				s.t.Errorf("process %d is left: %q", pid, process.CommandLine(pid))
				break
			}
		}
	}
}

func limit(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func mustState(t testing.TB, m machinery.Machinery, name string, want machinery.State, reason string) machinery.Status {
	t.Helper()
	got, err := m.State(limit(t), name)
	if err != nil {
		t.Fatalf("State: %v", err)
	}
	if got.State != want || reason != "" && got.Reason != reason {
		t.Fatalf("State is %s: %s, want %s (%s)", got, got.Detail, want, reason)
	}
	return got
}

func mustKind(t testing.TB, err, want error) {
	t.Helper()
	var e *machinery.Error
	if !errors.As(err, &e) || !errors.Is(err, want) || e.Kind != want {
		t.Fatalf("error is %v (kind %v), want kind %v", err, machinery.KindOf(err), want)
	}
}

func packed(t testing.TB, data []byte) map[string][]byte {
	t.Helper()
	out := map[string][]byte{"raw": data}
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	gz.Write(data)
	gz.Close()
	out["gzip"] = bytes.Clone(b.Bytes())
	b.Reset()
	lz := lz4.NewWriter(&b)
	lz.Write(data)
	lz.Close()
	out["lz4"] = bytes.Clone(b.Bytes())
	b.Reset()
	zs, _ := zstd.NewWriter(&b)
	zs.Write(data)
	zs.Close()
	out["zstd"] = bytes.Clone(b.Bytes())
	return out
}

// readSite is the configuration of a site that another process made, with one machine, "vm".
func readSite(dir string) Config {
	qemu, _ := exec.LookPath("qemu-system-x86_64")
	if wrapper := filepath.Join(dir, "qemu"); fileExists(wrapper) {
		qemu = wrapper
	}
	return Config{QEMU: qemu, DisposableDir: filepath.Join(dir, "disposable"), AllowArguments: []string{"-netdev stream", "-device loader"}, Machines: []MachineConfig{{Name: "vm",
		Disk: filepath.Join(dir, "vm0/disk"), Snapshot: filepath.Join(dir, "vm0/snapshot"), Info: filepath.Join(dir, "vm0/machineinfo.json")}}}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// stateBegin is how a memory snapshot begins, up to its first section.
const stateBegin = "QEVM\x00\x00\x00\x03\x07\x00\x00\x00\x03q35\x04"
