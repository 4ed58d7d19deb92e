//go:build linux

package process

import (
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// forking is what a program is started with.
type forking struct {
	path  string
	args  []string
	env   []string
	files []*os.File // its descriptors from 0 on; it gets no other
	attr  syscall.SysProcAttr
	// until, if it is not nil, is when the thread that is the program's parent may end. It is for attr.Pdeathsig, by which the
	// kernel means the parent's thread.
	until <-chan struct{}
}

// Do starts the program and returns its process id.
//
// Go marks its own descriptors so that they are closed in programs that it starts. Those that this process has inherited, or that a
// library in C opened, need not be marked, and to mark them here would change what the rest of this program means by them. So the
// program is started from a thread that has a table of descriptors for itself, in which all are marked. That takes 0.2 ms
// more, in which what others in this process close stays open (Linux 6.18).
//
// The signal SIGXFSZ is blocked in that thread and so in the program: a file that must not grow any more then makes QEMU's write
// fail, and does not kill QEMU.
func (f forking) do() (pid int, err error) {
	type answer struct {
		pid int
		err error
	}
	done := make(chan answer, 1)
	OnOwnThread(func() {
		pid, err := f.doHere()
		done <- answer{pid, err}
		if err == nil && f.until != nil {
			forgetDescriptors()
			<-f.until
		}
	})
	a := <-done
	return a.pid, a.err
}

// OnOwnThread runs f on a thread that nothing else runs on before or after, so that f may spoil it. It does not wait for f. The
// program's first thread is never that one, as it does not end before the program.
func OnOwnThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// While this goroutine has the first thread, another is on another.
			taken := make(chan struct{})
			go func() {
				runtime.LockOSThread()
				close(taken)
				f()
			}()
			<-taken
			runtime.UnlockOSThread()
			return
		}
		f() // never unlocked: the thread ends with the goroutine
	}()
}

// doHere is do, on a thread of its own.
func (f forking) doHere() (int, error) {
	if err := OwnDescriptors(); err != nil {
		return 0, err
	}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, signalSet(unix.SIGXFSZ), nil); err != nil {
		return 0, os.NewSyscallError("pthread_sigmask", err)
	}
	fds := make([]uintptr, len(f.files))
	for i, file := range f.files {
		fds[i] = file.Fd()
	}
	pid, err := syscall.ForkExec(f.path, append([]string{f.path}, f.args...), &syscall.ProcAttr{Env: f.env, Files: fds, Sys: &f.attr})
	runtime.KeepAlive(f.files)
	if err != nil {
		return 0, &os.PathError{Op: "fork/exec", Path: f.path, Err: err}
	}
	return pid, nil
}

// signalSet is a set with one signal in it.
func signalSet(s syscall.Signal) *unix.Sigset_t {
	var set unix.Sigset_t
	bits := 1024 / len(set.Val) // of one word, 32 or 64
	set.Val[(int(s)-1)/bits] |= 1 << ((int(s) - 1) % bits)
	return &set
}

// firstOther is the first descriptor that is not standard input, output or error.
const firstOther = 3

// OwnDescriptors gives the calling thread a table of descriptors of its own, in which all but the standard ones are closed when a
// program is executed.
func OwnDescriptors() error {
	// One call from Linux 5.11 on. It is tried first also because containers forbid unshare more often.
	err := unix.CloseRange(firstOther, math.MaxUint32, unix.CLOSE_RANGE_UNSHARE|unix.CLOSE_RANGE_CLOEXEC)
	if err == nil {
		return nil
	}
	return OwnDescriptorsByHand()
}

// OwnDescriptorsByHand is ownDescriptors for kernels before 5.11.
func OwnDescriptorsByHand() error {
	if err := unix.Unshare(unix.CLONE_FILES); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	fds, err := ThreadDescriptors()
	if err != nil {
		return err
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	return nil
}

// ThreadDescriptors lists the calling thread's descriptors but for the standard ones. One of them is that of the listing itself, which
// is closed.
func ThreadDescriptors() ([]int, error) {
	entries, err := os.ReadDir(ThreadFDs)
	if err != nil {
		return nil, err
	}
	var fds []int
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= firstOther {
			fds = append(fds, fd)
		}
	}
	return fds, nil
}

// ThreadFDs is not /proc/self/fd, which has the descriptors of the process's first thread.
const ThreadFDs = "/proc/thread-self/fd"

// forgetDescriptors closes the calling thread's copies of the program's descriptors, so that a thread that stays does not keep open
// what the program closes. Go's runtime wakes its poller from any thread, by a descriptor that is an eventfd; those and what polls
// are kept.
func forgetDescriptors() {
	fds, err := ThreadDescriptors()
	if err != nil {
		return
	}
	for _, fd := range fds {
		what, err := os.Readlink(ThreadFDs + "/" + strconv.Itoa(fd))
		if err == nil && !strings.HasPrefix(what, "anon_inode:[event") {
			_ = unix.Close(fd)
		}
	}
}
