//go:build linux

package qemu

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a QEMU: one that this driver started, or one that another did and this one found.
type process struct {
	pid    int
	start  uint64 // in clock ticks after the host's boot
	pidfd  *os.File
	output *output // what it prints; nil if another driver started it

	gone   chan struct{} // closed when it has ended
	ending ending        // how; written before gone is closed
}

// ending is how a process ended.
type ending struct {
	known  bool // false for a process that is not a child of this one
	code   int  // exit status, if it was not a signal
	signal syscall.Signal
	core   bool // with a core file
}

// String says it in words, such as "exit status 1".
func (e ending) String() string {
	switch {
	case !e.known:
		return "exit status unknown"
	case e.signal != 0:
		return fmt.Sprintf("killed by signal %d (%s)", int(e.signal), e.signal)
	}
	return fmt.Sprintf("exit status %d", e.code)
}

// spawn starts a program as the leader of a process group of its own, so that the terminal's Ctrl-C does not reach it. It
// inherits files as its descriptors 3, 4, … and no others, has the environment that is passed on, reads nothing, and what it
// prints is kept. With a starter it is killed when that is stopped, or when this process ends.
func spawn(path string, args []string, files []*os.File, by *starter) (*process, error) {
	return spawning{path: path, args: args, files: files, by: by}.do()
}

// spawning is a program that is to be started, as spawn says.
type spawning struct {
	path string
	args []string
	// stdout is where its standard output goes to; nil for one that is kept with what else it prints.
	stdout *os.File
	files  []*os.File
	by     *starter
	// quota is how long its files may become, in bytes; 0 is no limit.
	quota int64
}

func (s spawning) do() (*process, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	out, printed, err := newOutput()
	if err != nil {
		return nil, err
	}
	stdout := s.stdout
	if stdout == nil {
		stdout = printed
	}
	p := &process{output: out, gone: make(chan struct{})}
	f := forking{path: s.path, args: s.args, env: environment(), files: append([]*os.File{null, stdout, printed}, s.files...),
		attr: syscall.SysProcAttr{Setpgid: true}}
	if s.by != nil {
		f.attr.Pdeathsig = syscall.SIGKILL
		f.until = s.by.until(p)
	}
	p.pid, err = f.do()
	printed.Close()
	if err != nil {
		close(p.gone)
		out.close()
		return nil, err
	}
	// A core file would hold the guest's memory. The process's id is its own until it is reaped, which nothing can do yet. QEMU has
	// no memory of a guest before it has read the snapshot, which takes it longer than this line; and a QEMU that has ended
	// already has left no core file, because of that, or of what this process had for a limit.
	_ = unix.Prlimit(p.pid, unix.RLIMIT_CORE, &unix.Rlimit{}, nil)
	if s.quota > 0 {
		if err := limitFiles(p.pid, uint64(s.quota)); err != nil && !errors.Is(err, unix.ESRCH) {
			_ = unix.Kill(p.pid, unix.SIGKILL) // its end is what is seen of that
		}
	}
	pidfd, err := unix.PidfdOpen(p.pid, 0)
	if err == nil {
		p.start, err = startTime(p.pid)
		if err != nil {
			unix.Close(pidfd)
		}
	}
	if err == nil {
		err = p.observe(pidfd)
	}
	if err != nil {
		_ = unix.Kill(p.pid, unix.SIGKILL)
		_, _ = unix.Wait4(p.pid, nil, 0, nil)
		close(p.gone)
		out.close()
		return nil, fmt.Errorf("the process that was started cannot be watched: %w", err)
	}
	return p, nil
}

// attach finds the process of that id and start time again. It returns os.ErrProcessDone if there is none, or only a
// zombie.
func attach(pid int, start uint64) (*process, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		if errors.Is(err, unix.ESRCH) {
			return nil, os.ErrProcessDone
		}
		return nil, fmt.Errorf("process %d cannot be watched: %w", pid, err)
	}
	// Read after the descriptor was opened: what has the id now is what the descriptor means.
	now, err := startTime(pid)
	if err != nil || now != start {
		unix.Close(pidfd)
		return nil, os.ErrProcessDone
	}
	p := &process{pid: pid, start: start, gone: make(chan struct{})}
	if err := p.observe(pidfd); err != nil {
		return nil, err
	}
	if p.over() {
		<-p.gone // a zombie of our own is waited for
		p.release()
		return nil, os.ErrProcessDone
	}
	return p, nil
}

// observe closes gone when the process ends, without keeping a thread waiting for it.
func (p *process) observe(pidfd int) error {
	if err := unix.SetNonblock(pidfd, true); err != nil { // makes os.NewFile leave the waiting to the poller
		unix.Close(pidfd)
		return err
	}
	p.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		p.pidfd.Close()
		return err
	}
	go func() {
		// Read returns early, with an error, when release closes the descriptor.
		if err := raw.Read(func(fd uintptr) bool { return ended(int(fd)) }); err != nil {
			return
		}
		p.reap()
		close(p.gone)
	}()
	return nil
}

// ended tells whether the process behind a pidfd has ended.
func ended(pidfd int) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// over is whether the process has ended, asked at the kernel: gone is closed a moment later.
func (p *process) over() bool {
	over := true
	raw, err := p.pidfd.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { over = ended(int(fd)) })
	}
	if err == nil {
		return over
	}
	// It was let go of.
	select {
	case <-p.gone:
		return true
	default:
	}
	start, err := startTime(p.pid)
	return err != nil || start != p.start
}

// reap takes the exit status of a child. The process group dies with its leader: a wrapper's children too.
func (p *process) reap() {
	// As long as a child is not waited for, its id and its group's belong to it.
	var status unix.WaitStatus
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, p.pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	if err == nil {
		_ = unix.Kill(-p.pid, unix.SIGKILL)
		if pid, err := unix.Wait4(p.pid, &status, unix.WNOHANG, nil); err == nil && pid == p.pid {
			p.ending = ending{known: true, code: status.ExitStatus()}
			if status.Signaled() {
				p.ending = ending{known: true, signal: status.Signal(), core: status.CoreDump()}
			}
		}
	}
	if p.output != nil {
		p.output.finish()
	}
}

// kill ends the process and its group at once.
func (p *process) kill() {
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		if ended(int(fd)) {
			return
		}
		_ = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0)
		_ = unix.Kill(-p.pid, unix.SIGKILL)
	})
}

// wait waits for the end; false if the time was not enough.
func (p *process) wait(atMost time.Duration) bool {
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case <-p.gone:
		return true
	case <-timer.C:
		return false
	}
}

// release lets go of the process without ending it, and of what is held for it.
func (p *process) release() {
	p.pidfd.Close()
	if p.output != nil {
		p.output.close()
	}
}

// tail is the end of what the process printed.
func (p *process) tail() string {
	if p.output == nil {
		return ""
	}
	return p.output.tail()
}

// starter starts processes that end with this one. The kernel's "signal at the parent's death" means the thread that started the
// child, so that thread is kept for it, and ends with the program, with the child, or with stop.
type starter struct{ end chan struct{} }

func newStarter() *starter { return &starter{end: make(chan struct{})} }

// until is closed when the thread that starts the process may end. It must not be called after stop.
func (s *starter) until(p *process) <-chan struct{} {
	over := make(chan struct{})
	go func() {
		defer close(over)
		select {
		case <-p.gone:
		case <-s.end:
		}
	}()
	return over
}

func (s *starter) stop() { close(s.end) }
