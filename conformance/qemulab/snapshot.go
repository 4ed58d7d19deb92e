//go:build linux

package qemulab

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"golang.org/x/sys/unix"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/guest"
	"github.com/machineries/machineries/conformance/internal/labkit"
	"github.com/machineries/machineries/drivers/qemu/monitor"
	fakeqemu "github.com/machineries/machineries/fakes/qemu"
)

// template is a kind of machine that a snapshot is made of.
type template struct {
	// paused: it is saved while it is paused.
	paused bool
	// variant tells machines of one bench apart, by their marks.
	variant int
	// foreign: it has other hardware, more memory.
	foreign bool
	// headless: it has no display.
	headless bool
	// network: it has a network card.
	network bool
	// second: it has a second disk.
	second bool
}

// saved is a disk and a snapshot that belong together.
type saved struct {
	template       template
	disk, snapshot string
	second         string // the second disk, a raw one; empty without
	marks          labkit.Marks
	kinds          map[conformance.SnapshotKind]string
}

// Memory of a machine, in MiB, and of one that does not fit its snapshots.
const (
	memory        = 16
	memoryForeign = 32
)

// deviceArgs is a machine's command line but for its disk: what has to be the
// same when its snapshot is made and when it is restored. net is the socket that its
// network card is connected to; empty for none.
func (l *Lab) deviceArgs(socket, net string, t template) []string {
	size := memory
	if t.foreign {
		size = memoryForeign
	}
	args := []string{
		"-M", "q35", "-accel", l.accel, "-m", fmt.Sprint(size), "-nodefaults", "-display", "none",
		"-chardev", "socket,id=guest,path=" + socket, "-serial", "chardev:guest",
	}
	if !t.headless {
		// As little of a display as there can be: no firmware of its own, and
		// the least memory.
		args = append(args, "-device", "VGA,romfile=,vgamem_mb=1")
	}
	return append(args, l.cardArgs(t, net)...)
}

// cardArgs is the machine's network card, if it has one.
func (l *Lab) cardArgs(t template, net string) []string {
	if !t.network {
		return nil
	}
	return card(net)
}

// driveArg is a machine's disk on the command line.
func driveArg(path string) []string {
	return []string{"-drive", "file=" + path + ",if=ide,format=qcow2"}
}

// secondArg is a machine's second disk on the command line, in another way than
// the first, without what a driver would put its own path for.
func secondArg(path string) []string {
	return []string{"-drive", "file=" + path + ",if=ide,index=1,format=raw"}
}

// saved returns the snapshot of a template, making it if need be.
func (l *Lab) saved(ctx context.Context, t template) (*saved, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.saves[t]; s != nil {
		return s, nil
	}
	root, err := l.tempDir()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, fmt.Sprint(len(l.saves)))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s, err := l.save(ctx, dir, t)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making a snapshot: %w", err), os.RemoveAll(dir))
	}
	l.saves[t] = s
	return s, nil
}

// save boots a machine, marks its memory and disk, and saves it.
func (l *Lab) save(ctx context.Context, dir string, t template) (s *saved, err error) {
	s = &saved{
		template: t,
		disk:     filepath.Join(dir, "disk.qcow2"), snapshot: filepath.Join(dir, "memory.snapshot"),
		marks: labkit.NewMarks(t.variant, t.second),
		kinds: make(map[conformance.SnapshotKind]string),
	}
	if err := labkit.MakeDisk(s.disk); err != nil {
		return nil, err
	}
	if t.second {
		s.second = filepath.Join(dir, "second.raw")
		if err := os.WriteFile(s.second, make([]byte, labkit.DiskSize), 0o600); err != nil {
			return nil, err
		}
	}
	emulator := l.emulator
	if l.fake() {
		in, err := fakeqemu.Install(dir, fakeqemu.Options{})
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, in.Close()) }()
		emulator = in.Emulator
	}
	socket := filepath.Join(dir, "g")
	listener, err := guest.Listen(socket)
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	args := append(l.deviceArgs(socket, "", t), driveArg(s.disk)...)
	if t.second {
		args = append(args, secondArg(s.second)...)
	}
	e, err := startEmulator(ctx, emulator, args)
	if err != nil {
		return nil, err
	}
	defer e.end()
	g, err := listener.Client(ctx)
	if err == nil {
		err = s.marks.Write(ctx, g)
	}
	if err == nil {
		err = e.migrate(ctx, s.snapshot, t.paused)
	}
	if err != nil {
		return nil, e.explain(err)
	}
	s.kinds[conformance.SnapshotPlain] = s.snapshot
	return s, nil
}

// emulator is one that the lab runs for itself.
type emulator struct {
	cmd    *exec.Cmd
	m      *monitor.Monitor
	stderr *bytes.Buffer
	exited chan error
}

// startEmulator starts an emulator with a monitor on an inherited socket.
func startEmulator(ctx context.Context, path string, args []string) (*emulator, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "monitor"), os.NewFile(uintptr(pair[1]), "monitor")
	defer ours.Close()
	defer theirs.Close()
	e := &emulator{stderr: new(bytes.Buffer), exited: make(chan error, 1)}
	e.cmd = exec.Command(path, append(args, "-chardev", "socket,id=lab,fd=3", "-mon", "chardev=lab,mode=control")...)
	e.cmd.ExtraFiles = []*os.File{theirs}
	e.cmd.Stdout, e.cmd.Stderr = e.stderr, e.stderr
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := e.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { e.exited <- e.cmd.Wait() }()
	theirs.Close()
	conn, err := net.FileConn(ours)
	if err == nil {
		e.m, err = monitor.New(ctx, conn, monitor.Options{})
	}
	if err != nil {
		e.end()
		return nil, e.explain(err)
	}
	return e, nil
}

// end ends the emulator, if it has not ended.
func (e *emulator) end() {
	if e.m != nil {
		_ = e.m.Close()
	}
	_ = e.cmd.Process.Kill()
	if err, open := <-e.exited; open {
		_ = err
		close(e.exited)
	}
}

// explain adds what the emulator printed to an error. The emulator has to be
// ended first for that to be whole.
func (e *emulator) explain(err error) error {
	e.end()
	if said := strings.TrimSpace(e.stderr.String()); said != "" {
		return fmt.Errorf("%w (it printed: %s)", err, said)
	}
	return err
}

// migrate saves the machine's state to a file, as a stop of the machine and
// `migrate` do it, and ends the emulator.
func (e *emulator) migrate(ctx context.Context, path string, paused bool) error {
	if paused {
		if err := e.m.Execute(ctx, "stop", nil, nil); err != nil {
			return err
		}
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := e.m.ExecuteFile(ctx, "getfd", map[string]string{"fdname": "save"}, file, nil); err != nil {
		return err
	}
	if err := e.m.Execute(ctx, "migrate", map[string]string{"uri": "fd:save"}, nil); err != nil {
		return err
	}
	if err := e.migrated(ctx); err != nil {
		return err
	}
	if err := e.m.Quit(ctx); err != nil {
		return err
	}
	select {
	case err := <-e.exited:
		close(e.exited)
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// migrated waits until the state is saved. It asks, because the event for it
// has to be switched on by a capability that is not part of the machine.
func (e *emulator) migrated(ctx context.Context) error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		var state struct {
			Status string `json:"status"`
			Error  string `json:"error-desc"`
		}
		if err := e.m.Execute(ctx, "query-migrate", nil, &state); err != nil {
			return err
		}
		switch state.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return fmt.Errorf("migrate %s: %s", state.Status, state.Error)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// kind returns the file of a snapshot kept in a certain way, making it if need
// be.
func (l *Lab) kind(s *saved, kind conformance.SnapshotKind) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if path := s.kinds[kind]; path != "" {
		return path, nil
	}
	plain, err := os.ReadFile(s.snapshot)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	if err := compress(&out, plain, kind); err != nil {
		return "", err
	}
	path := s.snapshot + "." + string(kind)
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		return "", err
	}
	s.kinds[kind] = path
	return path, nil
}

// compress writes data in the format of a kind of snapshot.
func compress(out io.Writer, data []byte, kind conformance.SnapshotKind) error {
	var w io.WriteCloser
	switch kind {
	case conformance.SnapshotGzip:
		w = gzip.NewWriter(out)
	case conformance.SnapshotLZ4:
		w = lz4.NewWriter(out)
	case conformance.SnapshotZstd:
		z, err := zstd.NewWriter(out)
		if err != nil {
			return err
		}
		w = z
	default:
		return fmt.Errorf("there is no snapshot kind %q", kind)
	}
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Close()
}
