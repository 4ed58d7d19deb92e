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
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/machineries/machineries/conformance/internal/labkit"
)

// keeperName is the name under which the program is started as a keeper.
const keeperName = "machineries-libvirt-keeper"

// Main has to be the first thing in main, or in TestMain, of a program that uses
// a real libvirtd: the process that keeps the daemon is that program, run again.
// It finds out whether the program was started as one, and then does not return.
func Main() {
	if len(os.Args) != 2 || os.Args[0] != keeperName {
		return
	}
	var o keeping
	err := json.Unmarshal([]byte(os.Args[1]), &o)
	if err == nil {
		err = keep(o)
	}
	if err != nil {
		fmt.Println("failed", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// keeping is what a keeper is told.
type keeping struct {
	// Dir is the daemon's directory.
	Dir string
	// Private is set where the keeper was started in namespaces of its own, for
	// mounts and for processes.
	Private bool
	// Command is the daemon's command line, and Env its environment.
	Command, Env []string
}

// A keeper is the init of a daemon and of all that it starts. It has three
// duties that the program itself cannot have:
//
//   - It waits for processes whose parent has ended, at once. libvirtd waits for
//     the end of a QEMU that is none of its children, and where nobody reaps that
//     one quickly, as in many containers, DomainDestroy takes 1.4 to 2.2 s instead
//     of 0.2 s, and DomainGetState stands still and then answers what was true
//     before (seen on libvirt 9.0.0).
//   - It outlives the program by a moment, however that ends, and takes
//     everything with it: it reads from a pipe whose other end the program holds.
//   - As root, it has the daemon see directories of its own in the places that
//     are compiled into it, so that it does not touch the machine's own libvirt.
//
// It reads a command a line: "start" starts the daemon, "signal N" sends it a
// signal. It writes "ready" when it can take commands, "started", "signalled", and
// "ended HOW" for the daemon.
type keeper struct {
	keeping
	daemon int // its process; 0 while there is none
}

func keep(o keeping) error {
	// A process that asks for a signal at the end of its parent gets it at the end
	// of the thread that has made it: this one stays.
	runtime.LockOSThread()
	k := &keeper{keeping: o}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGCHLD)
	// The terminal's signals are the program's affair.
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	if k.Private {
		if err := furnish(k.Dir); err != nil {
			return err
		}
	} else if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("becoming the parent of orphans: %w", err)
	}
	fmt.Println("ready")
	commands := make(chan string)
	go func() {
		defer close(commands)
		in := bufio.NewReader(os.Stdin)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			commands <- strings.TrimSpace(line)
		}
	}()
	for {
		select {
		case command, open := <-commands:
			if !open {
				return k.end()
			}
			if err := k.obey(command); err != nil {
				fmt.Println("failed", err)
			}
		case <-signals:
			k.reap()
		}
	}
}

// obey does what a command says.
func (k *keeper) obey(command string) error {
	verb, argument, _ := strings.Cut(command, " ")
	switch verb {
	case "start":
		return k.start()
	case "signal":
		n, err := strconv.Atoi(argument)
		if err != nil {
			return err
		}
		if k.daemon == 0 {
			return errors.New("the daemon does not run")
		}
		// Its number is its own until it was waited for, which only we do.
		if err := syscall.Kill(k.daemon, syscall.Signal(n)); err != nil {
			return err
		}
		if syscall.Signal(n) == syscall.SIGSTOP {
			// One thread after the other gets it; until the last has, it may answer.
			if err := labkit.Stopped(context.Background(), k.daemon); err != nil {
				return err
			}
		}
		fmt.Println("signalled")
		return nil
	}
	return fmt.Errorf("the keeper does not know %q", command)
}

func (k *keeper) start() error {
	if k.daemon != 0 {
		return errors.New("the daemon runs already")
	}
	out, err := os.OpenFile(filepath.Join(k.Dir, outputName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	attr := &syscall.ProcAttr{Dir: k.Dir, Env: k.Env, Files: []uintptr{null.Fd(), out.Fd(), out.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true}}
	if !k.Private {
		attr.Sys.Pdeathsig = syscall.SIGKILL
	}
	if k.daemon, err = syscall.ForkExec(k.Command[0], k.Command, attr); err != nil {
		k.daemon = 0
		return fmt.Errorf("%s: %w", k.Command[0], err)
	}
	fmt.Println("started")
	return nil
}

// reap waits for every child that has ended.
func (k *keeper) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if pid == k.daemon {
			k.daemon = 0
			if status.Signaled() {
				fmt.Println("ended by the signal", status.Signal())
			} else {
				fmt.Println("ended with status", status.ExitStatus())
			}
		}
	}
}

// end takes everything with it. The end of the first process of a process
// namespace is the end of all in it; without one, whoever has lost its parent is
// our child.
func (k *keeper) end() error {
	if k.Private {
		return nil
	}
	for {
		for _, pid := range children() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if _, err := syscall.Wait4(-1, nil, 0, nil); err != nil && !errors.Is(err, syscall.EINTR) {
			return nil // no child is left
		}
	}
}

// children lists the processes whose parent this one is.
func children() []int {
	var found []int
	paths, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range paths {
		if _, fields := labkit.ReadStat(path); len(fields) > 1 && fields[1] == strconv.Itoa(os.Getpid()) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
				found = append(found, pid)
			}
		}
	}
	return found
}

// furnish makes this process' own view of the file system: the places that are
// compiled into a privileged libvirtd are below dir, and what runs on this
// machine (/run: the message bus, the machine's own libvirtd) is not there.
func furnish(dir string) error {
	type mount struct {
		source, target, kind string
		flags                uintptr
	}
	all := []mount{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		// Process numbers of this namespace, by which libvirtd looks its own up.
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV},
	}
	for _, p := range places {
		all = append(all, mount{filepath.Join(dir, p.below), p.place, "", unix.MS_BIND})
	}
	for _, m := range all {
		if m.flags&unix.MS_BIND != 0 {
			if err := os.MkdirAll(m.target, 0o755); err != nil {
				return err
			}
		}
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", m.target, err)
		}
	}
	return nil
}

// places are those that are compiled into a privileged libvirtd, and what they
// are called below the daemon's directory.
var places = []struct{ place, below string }{
	{"/run/libvirt", "run"}, {"/etc/libvirt", "etc"}, {"/var/lib/libvirt", "lib"}, {"/var/log/libvirt", "log"}, {"/var/cache/libvirt", "cache"},
}

// outputName is the file below the daemon's directory with what it prints.
const outputName = "output"

// tail is the end of a file, for an error.
func tail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	const most = 2000
	if info, err := f.Stat(); err == nil && info.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd)
	}
	text, _ := io.ReadAll(io.LimitReader(f, most))
	return strings.TrimSpace(string(text))
}
