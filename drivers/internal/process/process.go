//go:build linux

// Package process starts, finds again, watches and ends the programs that drivers run: hypervisors and tools that must be accounted for even
// when the driver dies, and that malware may come to control. They inherit no descriptor and no variable that is not meant for them.
package process

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a program that runs: one that this driver started, or one that another did and this one found.
type Process struct {
	PID    int
	Start  uint64 // in clock ticks after the host's boot
	pidfd  *os.File
	output *output // what it prints; nil if another driver started it

	Gone   chan struct{} // closed when it has ended
	Ending Ending        // how; written before Gone is closed
}

// Ending is how a process ended.
type Ending struct {
	Known  bool // false for a process that is not a child of this one
	Code   int  // exit status, if it was not a signal
	Signal syscall.Signal
	Core   bool // with a core file
}

// String says it in words, such as "exit status 1".
func (e Ending) String() string {
	switch {
	case !e.Known:
		return "exit status unknown"
	case e.Signal != 0:
		return fmt.Sprintf("killed by signal %d (%s)", int(e.Signal), e.Signal)
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// Spawn starts a program as the leader of a process group of its own, so that the terminal's Ctrl-C does not reach it. It
// inherits files as its descriptors 3, 4, … and no others, has the environment that is passed on, reads nothing, and what it
// prints is kept. With a starter it is killed when that is stopped, or when this process ends.
func Spawn(path string, args []string, files []*os.File, by *Starter) (*Process, error) {
	return Spawning{Path: path, Args: args, Files: files, By: by}.Do()
}

// Spawning is a program that is to be started, as Spawn says.
type Spawning struct {
	Path string
	Args []string // without the program's name
	// Stdout is where its standard output goes to; nil for one that is kept with what else it prints.
	Stdout *os.File
	Files  []*os.File // it inherits as its descriptors 3, 4, …
	By     *Starter   // with which it ends; nil for none
	// Quota is how long its files may become, in bytes; 0 is no limit.
	Quota int64
}

// Do starts it.
func (s Spawning) Do() (*Process, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	out, printed, err := newOutput()
	if err != nil {
		return nil, err
	}
	stdout := s.Stdout
	if stdout == nil {
		stdout = printed
	}
	p := &Process{output: out, Gone: make(chan struct{})}
	f := forking{path: s.Path, args: s.Args, env: Environment(), files: append([]*os.File{null, stdout, printed}, s.Files...),
		attr: syscall.SysProcAttr{Setpgid: true}}
	if s.By != nil {
		f.attr.Pdeathsig = syscall.SIGKILL
		f.until = s.By.until(p)
	}
	p.PID, err = f.do()
	printed.Close()
	if err != nil {
		close(p.Gone)
		out.close()
		return nil, err
	}
	// A core file of QEMU would hold the guest's memory. The process's id is its own until it is reaped, which nothing can do yet. QEMU has
	// no memory of a guest before it has read the snapshot, which takes it longer than this line; and a QEMU that has ended
	// already has left no core file, because of that, or of what this process had for a limit.
	_ = unix.Prlimit(p.PID, unix.RLIMIT_CORE, &unix.Rlimit{}, nil)
	if s.Quota > 0 {
		if err := LimitFiles(p.PID, uint64(s.Quota)); err != nil && !errors.Is(err, unix.ESRCH) {
			_ = unix.Kill(p.PID, unix.SIGKILL) // its end is what is seen of that
		}
	}
	pidfd, err := unix.PidfdOpen(p.PID, 0)
	if err == nil {
		p.Start, err = StartTime(p.PID)
		if err != nil {
			unix.Close(pidfd)
		}
	}
	if err == nil {
		err = p.observe(pidfd)
	}
	if err != nil {
		_ = unix.Kill(p.PID, unix.SIGKILL)
		_, _ = unix.Wait4(p.PID, nil, 0, nil)
		close(p.Gone)
		out.close()
		return nil, fmt.Errorf("the process that was started cannot be watched: %w", err)
	}
	return p, nil
}

// Attach finds the process of that id and start time again. It returns os.ErrProcessDone if there is none, or only a
// zombie.
func Attach(pid int, start uint64) (*Process, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		if errors.Is(err, unix.ESRCH) {
			return nil, os.ErrProcessDone
		}
		return nil, fmt.Errorf("process %d cannot be watched: %w", pid, err)
	}
	// Read after the descriptor was opened: what has the id now is what the descriptor means.
	now, err := StartTime(pid)
	if err != nil || now != start {
		unix.Close(pidfd)
		return nil, os.ErrProcessDone
	}
	p := &Process{PID: pid, Start: start, Gone: make(chan struct{})}
	if err := p.observe(pidfd); err != nil {
		return nil, err
	}
	if p.Over() {
		<-p.Gone // a zombie of our own is waited for
		p.Release()
		return nil, os.ErrProcessDone
	}
	return p, nil
}

// observe closes gone when the process ends, without keeping a thread waiting for it.
func (p *Process) observe(pidfd int) error {
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
		close(p.Gone)
	}()
	return nil
}

// ended tells whether the process behind a pidfd has ended.
func ended(pidfd int) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// Over is whether the process has ended, asked at the kernel: gone is closed a moment later.
func (p *Process) Over() bool {
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
	case <-p.Gone:
		return true
	default:
	}
	start, err := StartTime(p.PID)
	return err != nil || start != p.Start
}

// reap takes the exit status of a child. The process group dies with its leader: a wrapper's children too.
func (p *Process) reap() {
	// As long as a child is not waited for, its id and its group's belong to it.
	var status unix.WaitStatus
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, p.PID, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	if err == nil {
		_ = unix.Kill(-p.PID, unix.SIGKILL)
		if pid, err := unix.Wait4(p.PID, &status, unix.WNOHANG, nil); err == nil && pid == p.PID {
			p.Ending = Ending{Known: true, Code: status.ExitStatus()}
			if status.Signaled() {
				p.Ending = Ending{Known: true, Signal: status.Signal(), Core: status.CoreDump()}
			}
		}
	}
	if p.output != nil {
		p.output.finish()
	}
}

// Kill ends the process and its group at once.
func (p *Process) Kill() {
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		if ended(int(fd)) {
			return
		}
		_ = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0)
		_ = unix.Kill(-p.PID, unix.SIGKILL)
	})
}

// Wait waits for the end; false if the time was not enough.
func (p *Process) Wait(atMost time.Duration) bool {
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case <-p.Gone:
		return true
	case <-timer.C:
		return false
	}
}

// Release lets go of the process without ending it, and of what is held for it.
func (p *Process) Release() {
	p.pidfd.Close()
	if p.output != nil {
		p.output.close()
	}
}

// Tail is the end of what the process printed.
func (p *Process) Tail() string {
	if p.output == nil {
		return ""
	}
	return p.output.tail()
}

// Starter starts processes that end with this one. The kernel's "signal at the parent's death" means the thread that started the
// child, so that thread is kept for it, and ends with the program, with the child, or with stop.
type Starter struct{ end chan struct{} }

func NewStarter() *Starter { return &Starter{end: make(chan struct{})} }

// until is closed when the thread that starts the process may end. It must not be called after stop.
func (s *Starter) until(p *Process) <-chan struct{} {
	over := make(chan struct{})
	go func() {
		defer close(over)
		select {
		case <-p.Gone:
		case <-s.end:
		}
	}()
	return over
}

func (s *Starter) Stop() { close(s.end) }

// LimitFiles sets how long the files of a process may become. The hard limit stays, so that it can be raised again.
func LimitFiles(pid int, bytes uint64) error {
	var was unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, nil, &was); err != nil {
		return err
	}
	return unix.Prlimit(pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: min(bytes, was.Max), Max: was.Max}, nil)
}

// Interrupt tells a process to end in good order.
func (p *Process) Interrupt() {
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _ = unix.PidfdSendSignal(int(fd), unix.SIGINT, nil, 0) })
}
