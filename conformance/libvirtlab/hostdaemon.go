//go:build linux

package libvirtlab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// hostDaemon is a libvirtd of this host that is the lab's own. As root it runs
// in namespaces for mounts and processes of its own, as any other user in
// libvirt's session mode; either way everything of it is below its directory.
type hostDaemon struct {
	dir     string
	driver  string // what the URI begins with: "qemu" or "test"
	private bool

	cmd    *exec.Cmd
	leash  io.WriteCloser
	said   chan string
	exited chan error

	mu      sync.Mutex
	running bool
	silent  bool
}

// startHostDaemon starts a libvirtd with its directory at dir, which must not
// exist.
func startHostDaemon(ctx context.Context, program, dir, driver string) (_ *hostDaemon, err error) {
	d := &hostDaemon{dir: dir, driver: driver, private: os.Geteuid() == 0, said: make(chan string, 16), exited: make(chan error, 1)}
	if err := d.prepare(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	o := keeping{Dir: dir, Private: d.private, Env: d.environment(),
		Command: []string{program, "-f", filepath.Join(dir, "libvirtd.conf"), "-p", filepath.Join(dir, "pid")}}
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	d.cmd = &exec.Cmd{Path: self, Args: []string{keeperName, string(text)}, SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
		// A race-built program otherwise waits a second before it ends.
		Env: append(os.Environ(), "GORACE=atexit_sleep_ms=0")}
	if d.private {
		d.cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID
	}
	if d.leash, err = d.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the keeper of a private libvirtd: %w", err), os.RemoveAll(dir))
	}
	go d.listen(out)
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if err := d.wait(ctx, "ready"); err != nil {
		return nil, err
	}
	return d, d.Start(ctx)
}

// listen takes what the keeper says until its end.
func (d *hostDaemon) listen(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		d.said <- lines.Text()
	}
	close(d.said)
	d.exited <- d.cmd.Wait()
}

// errKeeperGone is what a daemon without its keeper answers.
var errKeeperGone = errors.New("the keeper of the private libvirtd has ended; is Main the first thing in this program's main or TestMain?")

// wait waits until the keeper says something that begins with a word.
func (d *hostDaemon) wait(ctx context.Context, word string) error {
	for {
		select {
		case line, open := <-d.said:
			got, rest, _ := strings.Cut(line, " ")
			switch {
			case !open:
				return errKeeperGone
			case got == word:
				return nil
			case got == "failed":
				return fmt.Errorf("the private libvirtd: %s", rest)
			case got == "ended":
				return fmt.Errorf("the private libvirtd ended %s: %s", rest, d.words())
			}
		case <-ctx.Done():
			return fmt.Errorf("the private libvirtd: %w", ctx.Err())
		}
	}
}

// words is what the daemon has said last.
func (d *hostDaemon) words() string {
	return strings.TrimSpace(tail(filepath.Join(d.dir, outputName)) + "\n" + tail(filepath.Join(d.dir, logName)))
}

// tell gives the keeper a command.
func (d *hostDaemon) tell(format string, args ...any) error {
	_, err := fmt.Fprintf(d.leash, format+"\n", args...)
	return err
}

// startPatience is how long the daemon may take until it answers. It takes some
// 2 s, in which it asks QEMU what it can.
const startPatience = 60 * time.Second

// Start starts the daemon and waits until it answers.
func (d *hostDaemon) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	if err := d.tell("start"); err != nil {
		return err
	}
	if err := d.wait(ctx, "started"); err != nil {
		return err
	}
	d.mu.Lock()
	d.running = true
	d.mu.Unlock()
	// There is no event for a daemon that has opened its socket.
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := ask(ctx, d, func(*client) error { return nil })
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case line, open := <-d.said:
			if !open {
				return errKeeperGone
			}
			return fmt.Errorf("the private libvirtd did not start (%s): %s", line, d.words())
		case <-ctx.Done():
			return fmt.Errorf("the private libvirtd does not answer (%w): %s", err, d.words())
		}
	}
}

// Stop ends the daemon, as a restart of its service does. What it has started
// runs on.
func (d *hostDaemon) Stop(ctx context.Context) error { return d.stop(ctx, syscall.SIGTERM) }

// Kill ends the daemon without any warning.
func (d *hostDaemon) Kill(ctx context.Context) error { return d.stop(ctx, syscall.SIGKILL) }

func (d *hostDaemon) stop(ctx context.Context, s syscall.Signal) error {
	d.mu.Lock()
	running := d.running
	d.mu.Unlock()
	if !running {
		return nil
	}
	if err := d.Wake(); err != nil {
		return err
	}
	if err := d.tell("signal %d", s); err != nil {
		return err
	}
	err := d.waitEnded(ctx)
	if err == nil {
		d.mu.Lock()
		d.running = false
		d.mu.Unlock()
	}
	return err
}

// crashPatience is how long a daemon that has let go of its connections may take until it has ended: its core may be written out meanwhile.
const crashPatience = 10 * time.Second

// Crash is how the daemon has ended, if it has and should run.
func (d *hostDaemon) Crash(ctx context.Context) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.running || d.silent {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, crashPatience)
	defer cancel()
	if err := ask(ctx, d, func(*client) error { return nil }); err == nil {
		return ""
	}
	for {
		select {
		case line, open := <-d.said:
			if how, ended := strings.CutPrefix(line, "ended "); ended {
				d.running = false
				return "libvirtd ended " + how
			}
			if !open {
				return errKeeperGone.Error()
			}
		case <-ctx.Done():
			return ""
		}
	}
}

// waitEnded waits until the keeper says that the daemon has ended.
func (d *hostDaemon) waitEnded(ctx context.Context) error {
	for {
		select {
		case line, open := <-d.said:
			switch {
			case !open:
				return errKeeperGone
			case strings.HasPrefix(line, "ended"):
				return nil
			case strings.HasPrefix(line, "failed"):
				return errors.New(line)
			}
		case <-ctx.Done():
			return fmt.Errorf("the private libvirtd does not end: %w", ctx.Err())
		}
	}
}

// Silence makes the daemon answer nothing, and Wake makes it answer again.
func (d *hostDaemon) Silence() error { return d.setSilent(true, syscall.SIGSTOP) }
func (d *hostDaemon) Wake() error    { return d.setSilent(false, syscall.SIGCONT) }

func (d *hostDaemon) setSilent(silent bool, s syscall.Signal) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.silent == silent || !d.running {
		return nil
	}
	d.silent = silent
	if err := d.tell("signal %d", s); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), askPatience)
	defer cancel()
	return d.wait(ctx, "signalled")
}

// Heal makes the daemon run and answer, whatever was done to it.
func (d *hostDaemon) Heal(ctx context.Context) error {
	if err := d.Wake(); err != nil {
		return err
	}
	d.mu.Lock()
	running := d.running
	d.mu.Unlock()
	if running {
		return nil
	}
	return d.Start(ctx)
}

// Close ends the daemon and all that it has started, and removes its directory.
func (d *hostDaemon) Close() error {
	err := d.leash.Close()
	for range d.said { // what is said is of no use any more
	}
	<-d.exited
	return errors.Join(err, os.RemoveAll(d.dir))
}

// Socket is where the daemon listens.
func (d *hostDaemon) Socket() string { return filepath.Join(d.dir, "libvirt-sock") }

// URI is what the daemon calls what it manages.
func (d *hostDaemon) URI() string {
	switch {
	case d.driver == "test":
		return "test:///default"
	case d.private:
		return "qemu:///system"
	}
	return "qemu:///session"
}

// saves are the directories below the daemon's own in which it keeps what was
// saved of machines without a path, which no driver of the suite's machines may.
func (d *hostDaemon) saves() []string {
	lib := filepath.Join(d.dir, "lib", "qemu")
	if !d.private {
		lib = filepath.Join(d.dir, "config", "libvirt", "qemu")
	}
	return []string{filepath.Join(lib, "save"), filepath.Join(lib, "dump")}
}
