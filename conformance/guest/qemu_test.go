//go:build linux

package guest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/machineries/machineries/fakes/guest"
	"github.com/machineries/machineries/internal/require"
)

// variant is a way to run the guest under QEMU.
type variant struct {
	name    string
	accel   string
	machine string
	bus     string // if= of the drive
	drive   string // more of the drive's options
	size    int    // of the disk; 0 is the default
	format  string // raw, qcow2, or overlay: a qcow2 over a raw base
	extra   []string
	console bool // the BIOS has its console on the guest's port, and takes what is sent before the boot
}

// variants are the machines that the guest is shown to work on.
var variants = []variant{
	{name: "q35, ide, raw", accel: "tcg", machine: "q35", bus: "ide", format: "raw"},
	{name: "pc, virtio, qcow2", accel: "tcg", machine: "pc", bus: "virtio", format: "qcow2"},
	{name: "pc, ide, overlay", accel: "tcg", machine: "pc", bus: "ide", format: "overlay"},
	{name: "q35, virtio, overlay", accel: "tcg", machine: "q35", bus: "virtio", format: "overlay"},
	{name: "q35 with a BIOS console", accel: "tcg", machine: "q35", bus: "ide", format: "raw", extra: []string{"-nographic", "-monitor", "none"}, console: true},
	{name: "kvm, q35, ide, raw", accel: "kvm", machine: "q35", bus: "ide", format: "raw"},
	{name: "kvm, pc, virtio, overlay", accel: "kvm", machine: "pc", bus: "virtio", format: "overlay"},
}

// qemu is a real machine.
type qemu struct {
	v      variant
	dir    string
	drive  string
	l      *Listener
	c      *Client
	cmd    *exec.Cmd
	stderr bytes.Buffer
	exited chan struct{}
	qmp    *bufio.Reader
	conn   net.Conn
}

func newQEMU(v variant) maker {
	return func(t *testing.T) machine {
		t.Helper()
		require.Tool(t, "qemu", "qemu-system-x86_64", "qemu-img")
		if v.accel == "kvm" {
			if err := kvmRunsGuests(); err != nil {
				require.Missing(t, "kvm", err.Error())
			}
		}
		dir := socketDir(t)
		q := &qemu{v: v, dir: dir, l: listen(t, dir), drive: filepath.Join(dir, "disk")}
		must(t, os.WriteFile(q.drive, Image(v.size), 0o600))
		format := "raw"
		var convert []string
		switch v.format {
		case "qcow2":
			convert = []string{"convert", "-f", "raw", "-O", "qcow2", q.drive, q.drive + ".qcow2"}
		case "overlay":
			convert = []string{"create", "-q", "-f", "qcow2", "-F", "raw", "-b", q.drive, q.drive + ".qcow2"}
		}
		if convert != nil {
			if out, err := exec.Command("qemu-img", convert...).CombinedOutput(); err != nil {
				t.Fatalf("qemu-img: %v: %s", err, out)
			}
			format, q.drive = "qcow2", q.drive+".qcow2"
		}
		q.drive = fmt.Sprintf("file=%s,format=%s,if=%s", q.drive, format, v.bus) + v.drive
		q.start(t, nil, "-S")
		return q
	}
}

// kvmRunsGuests tells whether a guest really runs under KVM. That /dev/kvm opens does not show it: where
// virtualization is nested, guests can stop at their first instructions.
var kvmRunsGuests = sync.OnceValue(func() error {
	const patience = 10 * time.Second
	disk, err := os.CreateTemp("", "m")
	if err != nil {
		return err
	}
	defer os.Remove(disk.Name())
	defer disk.Close()
	if _, err := disk.Write(Image(0)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "kvm", "-m", "16", "-nodefaults", "-display", "none",
		"-drive", "format=raw,if=ide,file="+disk.Name(), "-serial", "stdio")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	booted := guest.Reply{Op: guest.OpBooted, Tag: guest.EventTag, Value: guest.Version}.Encode()
	_, err = io.ReadFull(out, booted[:])
	cancel()
	_ = cmd.Wait()
	if err != nil {
		return fmt.Errorf("no guest boots under KVM within %v: %w %s", patience, err, said.String())
	}
	return nil
})

// start runs QEMU. Its third descriptor is the monitor, its fourth, if any, is incoming.
func (q *qemu) start(t *testing.T, incoming *os.File, args ...string) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	must(t, err)
	theirs := os.NewFile(uintptr(fds[0]), "qmp")
	defer theirs.Close()
	ours := os.NewFile(uintptr(fds[1]), "qmp")
	q.conn, err = net.FileConn(ours)
	ours.Close()
	must(t, err)
	t.Cleanup(func() { q.conn.Close() })
	q.qmp = bufio.NewReader(q.conn)

	all := append([]string{
		"-accel", q.v.accel, "-M", q.v.machine, "-m", "16", "-nodefaults", "-display", "none", "-drive", q.drive,
		"-chardev", "socket,id=guest,path=" + q.l.l.Addr().String(), "-serial", "chardev:guest",
		"-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control",
	}, q.v.extra...)
	q.cmd = exec.Command("qemu-system-x86_64", append(all, args...)...)
	q.cmd.Stderr = &q.stderr
	q.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a test run that is killed leaves none behind
	q.cmd.ExtraFiles = []*os.File{theirs}
	if incoming != nil {
		q.cmd.ExtraFiles = append(q.cmd.ExtraFiles, incoming)
	}
	must(t, q.cmd.Start())
	q.exited = make(chan struct{})
	go func() {
		_ = q.cmd.Wait()
		close(q.exited)
	}()
	t.Cleanup(func() {
		_ = q.cmd.Process.Kill()
		<-q.exited
		if t.Failed() && q.stderr.Len() > 0 {
			t.Logf("QEMU said: %s", q.stderr.String())
		}
	})
	q.read(t, "QMP")
	q.run(t, "qmp_capabilities", nil)
}

// read returns the next message with the given key, and skips others: these tests need no event but those
// they ask for.
func (q *qemu) read(t *testing.T, keys ...string) map[string]json.RawMessage {
	t.Helper()
	must(t, q.conn.SetReadDeadline(time.Now().Add(answerTime)))
	for {
		line, err := q.qmp.ReadBytes('\n')
		if err != nil {
			t.Fatalf("QEMU's monitor: %v", err)
		}
		var msg map[string]json.RawMessage
		must(t, json.Unmarshal(line, &msg))
		for _, k := range keys {
			if _, ok := msg[k]; ok {
				return msg
			}
		}
	}
}

func (q *qemu) run(t *testing.T, command string, args any) json.RawMessage {
	t.Helper()
	req := map[string]any{"execute": command}
	if args != nil {
		req["arguments"] = args
	}
	must(t, json.NewEncoder(q.conn).Encode(req))
	msg := q.read(t, "return", "error")
	if e, bad := msg["error"]; bad {
		t.Fatalf("QEMU refused %s: %s", command, e)
	}
	return msg["return"]
}

func (q *qemu) client(t *testing.T) *Client {
	t.Helper()
	if q.c == nil {
		q.c = get[*Client](t)(q.l.Client(within(t, answerTime)))
	}
	return q.c
}

func (q *qemu) resume(t *testing.T)    { t.Helper(); q.run(t, "cont", nil) }
func (q *qemu) pause(t *testing.T)     { t.Helper(); q.run(t, "stop", nil) }
func (q *qemu) press(t *testing.T)     { t.Helper(); q.run(t, "system_powerdown", nil) }
func (q *qemu) hardReset(t *testing.T) { t.Helper(); q.run(t, "system_reset", nil) }
func (q *qemu) pid() int               { return q.cmd.Process.Pid }

func (q *qemu) save(t *testing.T) string {
	t.Helper()
	q.pause(t)
	path := filepath.Join(q.dir, "saved")
	if strings.ContainsAny(path, "' ") {
		t.Fatalf("%s would need quoting", path)
	}
	q.run(t, "migrate", map[string]string{"uri": "exec:cat >" + path})
	deadline := time.Now().Add(answerTime)
	for {
		var s struct{ Status string }
		must(t, json.Unmarshal(q.run(t, "query-migrate", nil), &s))
		switch {
		case s.Status == "completed":
			return path
		case s.Status == "failed" || time.Now().After(deadline):
			t.Fatalf("saving the machine: status %s", s.Status)
		}
		time.Sleep(2 * time.Millisecond) // between two looks at a condition that has a deadline
	}
}

func (q *qemu) restore(t *testing.T, saved string) machine {
	t.Helper()
	old := q.client(t)
	_ = q.cmd.Process.Kill()
	<-q.exited
	n := &qemu{v: q.v, dir: q.dir, drive: q.drive, l: q.l}
	f := get[*os.File](t)(os.Open(saved))
	defer f.Close()
	n.start(t, f, "-incoming", "fd:4")
	n.c = get[*Client](t)(n.l.Next(within(t, answerTime), old))
	deadline := time.Now().Add(answerTime)
	for {
		var s struct{ Status string }
		must(t, json.Unmarshal(n.run(t, "query-status", nil), &s))
		switch {
		case s.Status == "paused":
			return n
		case s.Status != "inmigrate" || time.Now().After(deadline):
			t.Fatalf("restoring the machine: status %s", s.Status)
		}
		time.Sleep(2 * time.Millisecond) // between two looks at a condition that has a deadline
	}
}

func (q *qemu) waitOff(t *testing.T) {
	t.Helper()
	select {
	case <-q.exited:
	case <-time.After(answerTime):
		t.Fatal("QEMU did not exit")
	}
}

// cpu is the processor time that the machine has used.
func (q *qemu) cpu(t *testing.T) time.Duration {
	t.Helper()
	b := get[[]byte](t)(os.ReadFile(fmt.Sprintf("/proc/%d/stat", q.pid())))
	var state string
	var skip, utime, stime int64
	rest := string(b[bytes.LastIndexByte(b, ')')+1:])
	_, err := fmt.Sscan(rest, &state, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &utime, &stime)
	must(t, err)
	return time.Duration(utime+stime) * time.Second / 100 // USER_HZ is 100 on every Linux that Go runs on
}
