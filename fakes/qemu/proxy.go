//go:build linux

package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// proxy stands between a real emulator and whoever talks to its monitors.
type proxy struct {
	control *link
	plan    *plan
	child   int
	side    string // the address of a monitor of the child that nobody else knows

	mu       sync.Mutex
	monitors []*proxyMonitor
	deaf     bool
	staying  bool
	ending   bool // what was planned for the end has struck
}

// proxyMonitor is one monitor of the real emulator: the character device that the
// driver asked for, which is ours, and the child's own, which takes its place.
type proxyMonitor struct {
	p       *proxy
	chardev *chardev
	address string // where the child listens

	mu   sync.Mutex
	hung bool
	line *line // to the client that is connected
}

// sideID is the name of the child's monitor for Process.Do.
const sideID = "machineries_side"

// interpose runs the real emulator as a child and returns its exit code.
func interpose(real string, args []string, control *link, faults *plan) int {
	// The child gets a signal when the thread that made it ends: this one must not.
	runtime.LockOSThread()
	path, err := exec.LookPath(real)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: cannot be run: %v\n", real, err)
		return 127
	}
	p := &proxy{control: control, plan: faults, deaf: faults.isDeaf()}
	args, sockets, err := p.rewrite(args)
	if err != nil {
		var e *exitError
		if errors.As(err, &e) {
			complainTo(os.Stderr, emulatorName, false, e.text)
			return e.code
		}
		fmt.Fprintf(os.Stderr, "%s: the interposer cannot start: %v\n", emulatorName, err)
		return 1
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	p.child, err = syscall.ForkExec(path, append([]string{path}, args...), &syscall.ProcAttr{
		Env: os.Environ(), Files: inheritedWith(sockets), Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	for _, s := range sockets {
		unix.Close(s.ours)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: cannot be run: %v\n", path, err)
		return 127
	}
	control.serve(p)
	for _, m := range p.monitors {
		go m.serve()
	}
	go func() {
		for s := range signals {
			p.signal(s.(syscall.Signal))
		}
	}()
	return p.wait()
}

// wait waits for the child and returns its exit code, or ends as it did.
func (p *proxy) wait() int {
	var status syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(p.child, &status, 0, nil); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	for _, m := range p.monitors {
		m.chardev.close()
		if l := m.current(); l != nil {
			l.flush(time.Second) // what the child has said reaches the client first
		}
	}
	if !p.mayEnd() {
		forever() // as planned: only SIGKILL helps
	}
	if status.Signaled() {
		signal.Reset(status.Signal())
		none := unix.Rlimit{}
		_ = unix.Setrlimit(unix.RLIMIT_CORE, &none) // one core file is enough
		_ = unix.Kill(os.Getpid(), status.Signal())
		time.Sleep(time.Second) // the signal ends us; this is for one that does not
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// mayEnd carries out what is planned for the end; false where there must be none.
func (p *proxy) mayEnd() bool {
	p.mu.Lock()
	ending, staying := p.ending, p.staying
	p.mu.Unlock()
	if ending {
		return true
	}
	if staying {
		return false
	}
	for _, f := range p.plan.at(PointExit, "") {
		if f.Deaf {
			p.deafen()
		}
		switch f.Action {
		case Delay:
			time.Sleep(f.Delay) // the fault itself
		case Exit:
			p.exit(f.Code, f.Text)
		case Kill:
			p.kill()
		case Noise:
			p.noise(f)
		case Hang:
			p.hangAll()
			return false
		case Stay:
			p.mu.Lock()
			p.staying = true
			p.mu.Unlock()
			return false
		}
	}
	p.mu.Lock()
	p.ending = true
	p.mu.Unlock()
	return true
}

func (p *proxy) signal(s syscall.Signal) {
	p.mu.Lock()
	ignore := p.deaf || p.staying
	p.mu.Unlock()
	if !ignore && p.mayEnd() {
		// The child is ours until it was waited for, so the number is still its own.
		_ = unix.Kill(p.child, s)
	}
}

func (p *proxy) hangAll() {
	for _, m := range p.monitors {
		m.hang()
	}
}

// The fates that faults can bring about.

func (p *proxy) exit(code int, text string) {
	writeText(os.Stderr, text)
	exitNow(code) // the child goes with us
}

func (p *proxy) kill()         { killSelf() }
func (p *proxy) noise(f Fault) { writeNoise(os.Stderr, f) }
func (p *proxy) orphan()       { killSelf() }

func (p *proxy) deafen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = true
}

func (p *proxy) newPlan(faults []Fault) { p.plan.set(faults) }

func (p *proxy) suffer(string) error {
	return errors.New("a real emulator cannot be told to suffer: use the fake")
}

// socket is a listening socket that the child inherits as descriptor number.
type socket struct {
	ours, number int
	address      string
}

// rewrite replaces the sockets of the QMP monitors on a command line by sockets of
// ours, and opens the ones that were asked for.
func (p *proxy) rewrite(args []string) ([]string, []socket, error) {
	free := firstFree()
	var sockets []socket
	private := func() (socket, error) {
		s, err := listenPrivately(free + len(sockets))
		if err == nil {
			sockets = append(sockets, s)
		}
		return s, err
	}
	control := map[string]bool{} // chardevs of QMP monitors
	for i := 0; i+1 < len(args); i++ {
		if optionName(args[i]) == "mon" {
			if v := parseOpts(args[i+1], "chardev", nil); v.get("mode") == "control" {
				control[v.get("chardev")] = true
			}
			i++
		}
	}
	var out []string
	compat := 0
	for i := 0; i < len(args); i++ {
		name := optionName(args[i])
		if !takesArgument[name] || i+1 == len(args) {
			out = append(out, args[i])
			continue
		}
		arg := args[i+1]
		at := option{name: name, text: args[i], arg: arg}
		i++
		var v *opts
		var err error
		id := ""
		switch {
		case name == "chardev":
			if v = parseOpts(arg, "backend", nil); !control[v.get("id")] {
				v = nil
			}
			if v != nil {
				id = v.get("id")
			}
		case name == "qmp" && !strings.HasPrefix(arg, "chardev:"):
			v, err = shortChardev(arg)
			id = "compat_monitor" + strconv.Itoa(compat)
			compat++
		case name == "monitor" && arg != "none" && !strings.HasPrefix(arg, "chardev:"):
			compat++
		}
		if err != nil || v == nil || v.get("backend") != "socket" || v.has("host") || v.has("port") {
			out = append(out, at.text, arg)
			continue
		}
		c, err := openChardev(chardevOption{at, id, v})
		if err != nil {
			return nil, nil, failAt(at, err)
		}
		s, err := private()
		if err != nil {
			return nil, nil, err
		}
		p.monitors = append(p.monitors, &proxyMonitor{p: p, chardev: c, address: s.address})
		out = append(out, "-chardev", fmt.Sprintf("socket,id=%s,fd=%d,server=on,wait=off", id, s.number))
		if name == "qmp" {
			out = append(out, "-mon", "chardev="+id+",mode=control")
		}
	}
	s, err := private()
	if err != nil {
		return nil, nil, err
	}
	p.side = s.address
	out = append(out, "-chardev", fmt.Sprintf("socket,id=%s,fd=%d,server=on,wait=off", sideID, s.number), "-mon", "chardev="+sideID+",mode=control")
	return out, sockets, nil
}

func optionName(arg string) string {
	if !strings.HasPrefix(arg, "-") {
		return ""
	}
	return strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-")
}

// inherited are the descriptors from 3 on that are meant for the program: Go's own
// are all marked close-on-exec.
func inherited() []int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	var fds []int
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd < 3 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			fds = append(fds, fd)
		}
	}
	return fds
}

// firstFree is a number above all inherited descriptors.
func firstFree() int {
	free := 10
	for _, fd := range inherited() {
		free = max(free, fd+1)
	}
	return free
}

// inheritedWith is what the child gets: everything that we inherited and did not
// take, under the same numbers, and the sockets.
func inheritedWith(sockets []socket) []uintptr {
	top := sockets[len(sockets)-1].number
	files := make([]uintptr, top+1)
	for i := range files {
		files[i] = ^uintptr(0)
	}
	files[0], files[1], files[2] = 0, 1, 2
	for _, fd := range inherited() {
		files[fd] = uintptr(fd)
	}
	for _, s := range sockets {
		files[s.number] = uintptr(s.ours)
	}
	return files
}

// listenPrivately makes a listening socket with a name that the kernel chooses and
// that leaves no file.
func listenPrivately(number int) (socket, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return socket{}, os.NewSyscallError("socket", err)
	}
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{}), unix.Listen(fd, 8)); err != nil {
		unix.Close(fd)
		return socket{}, os.NewSyscallError("listen", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		unix.Close(fd)
		return socket{}, os.NewSyscallError("getsockname", err)
	}
	return socket{ours: fd, number: number, address: name.(*unix.SockaddrUnix).Name}, nil
}

// stranger runs a command on the child's side monitor.
func (p *proxy) stranger(command json.RawMessage) (json.RawMessage, error) {
	conn, err := net.Dial("unix", p.side)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "{\"execute\":\"qmp_capabilities\"}\n%s\n", command); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(conn)
	for replies := 0; ; {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, err
		}
		var m struct {
			QMP   json.RawMessage
			Event string
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, err
		}
		if m.QMP != nil || m.Event != "" {
			continue
		}
		if replies++; replies == 2 {
			return raw, nil
		}
	}
}

// ignoreSignals makes this process deaf to what asks it to end.
func ignoreSignals() { signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP) }
