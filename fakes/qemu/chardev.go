//go:build linux

package qemu

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// chardevOption is a -chardev, or what -qmp, -serial and -monitor say in their short
// form.
type chardevOption struct {
	option
	id   string
	opts *opts // "backend" and its values
}

var chardevNames = map[string]string{
	"null":   "",
	"socket": "path fd server wait reconnect host port to ipv4 ipv6 nodelay telnet tn3270 websocket tls-creds tls-authz abstract tight delay",
	"file":   "path append",
	"stdio":  "signal",
}

func (p *lineParser) chardevOption(o option) error {
	v := p.parse(o, "backend")
	id := v.get("id")
	if v.has("id") && !identifier(id) {
		return errors.New(idHelp)
	}
	for _, k := range v.keys {
		if k == "id" || k == "backend" || k == "mux" || k == "logfile" || k == "logappend" {
			continue
		}
		known := false
		for _, names := range chardevNames {
			known = known || words(names)[k]
		}
		if !known && !words("size width height cols rows name debug signal input-path localaddr localport")[k] {
			return fmt.Errorf("Invalid parameter '%s'", k)
		}
	}
	for _, c := range p.chardevs {
		if id != "" && c.id == id {
			return fmt.Errorf("Duplicate ID '%s' for chardev", id)
		}
	}
	p.chardevs = append(p.chardevs, chardevOption{o, id, v})
	return nil
}

func (p *lineParser) monitorOption(o option) error {
	m := monitorOption{option: o, control: strings.HasPrefix(o.name, "qmp"), pretty: o.name == "qmp-pretty"}
	if o.name == "mon" {
		v := p.parse(o, "chardev")
		switch v.get("mode") {
		case "control":
			m.control = true
		case "", "readline":
		default:
			return fmt.Errorf("Parameter 'mode' does not accept value '%s'", v.get("mode"))
		}
		var err error
		if m.pretty, err = v.bool("pretty", false); err != nil {
			return err
		}
		m.chardev = v.get("chardev")
		p.monitors = append(p.monitors, m)
		return nil
	}
	if o.arg == "none" {
		return nil
	}
	if rest, ok := strings.CutPrefix(o.arg, "chardev:"); ok {
		m.chardev = rest
		p.monitors = append(p.monitors, m)
		return nil
	}
	v, err := shortChardev(o.arg)
	if err != nil {
		return fail("%s%v\n%s: %sparse error: %s", o.where(), err, p.prog, o.where(), o.arg)
	}
	m.chardev = "compat_monitor" + strconv.Itoa(len(p.monitors))
	p.chardevs = append(p.chardevs, chardevOption{o, m.chardev, v})
	p.monitors = append(p.monitors, m)
	return nil
}

// shortChardev understands "unix:path,server=on", "null", "stdio", "file:path".
func shortChardev(s string) (*opts, error) {
	v := &opts{values: map[string]string{}}
	switch {
	case s == "null" || s == "vc" || s == "pty" || strings.HasPrefix(s, "vc:"):
		v.set("backend", "null")
	case s == "stdio" || s == "mon:stdio":
		v.set("backend", "stdio")
	case strings.HasPrefix(s, "file:"):
		v.set("backend", "file")
		v.set("path", s[5:])
	case strings.HasPrefix(s, "unix:"):
		v = parseOpts(s[5:], "path", nil)
		v.set("backend", "socket")
		if w, ok := v.values["wait"]; ok && v.has("server") && w != "on" {
			v.set("wait", "off")
		}
	case strings.HasPrefix(s, "tcp:") || strings.HasPrefix(s, "telnet:") || strings.HasPrefix(s, "udp:"):
		return nil, errors.New("network sockets are not supported by the fake emulator")
	default:
		return nil, fmt.Errorf("'%s' is not a valid char driver", s)
	}
	return v, nil
}

// chardev is an open character device: a source of connections.
type chardev struct {
	id       string
	filename string
	used     bool
	there    bool // the first connection need not be waited for

	next  func() (io.ReadWriteCloser, error) // the next connection; an error when there will be none
	close func()

	mu   sync.Mutex
	open bool // somebody is connected
}

func (c *chardev) setOpen(open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = open
}

func (c *chardev) isOpen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

var errNoMore = errors.New("no further connection")

// once is a source of a single connection.
func once(rw io.ReadWriteCloser) func() (io.ReadWriteCloser, error) {
	done := false
	return func() (io.ReadWriteCloser, error) {
		if done {
			return nil, errNoMore
		}
		done = true
		return rw, nil
	}
}

// openChardev opens a character device; errors have QEMU's text.
func openChardev(o chardevOption) (*chardev, error) {
	if o.id == "" {
		return nil, errors.New("chardev: no id specified")
	}
	c := &chardev{id: o.id, close: func() {}, filename: o.opts.get("backend")}
	switch o.opts.get("backend") {
	case "null":
		c.open = true
		c.next = func() (io.ReadWriteCloser, error) { return nil, errNoMore }
	case "file":
		f, err := os.OpenFile(o.opts.get("path"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
		if err != nil {
			return nil, fmt.Errorf("Could not open '%s': %s", o.opts.get("path"), strerror(err))
		}
		c.next, c.there = once(writeOnly{f}), true
	case "stdio":
		c.next, c.there = once(stdio{}), true
	case "socket":
		return c, c.openSocket(o.opts)
	default:
		return nil, fmt.Errorf("'%s' is not a valid char driver name", o.opts.get("backend"))
	}
	return c, nil
}

func (c *chardev) openSocket(o *opts) error {
	server, err := o.bool("server", false)
	if err != nil {
		return err
	}
	wait, err := o.bool("wait", server)
	if err != nil {
		return err
	}
	if !server && o.has("wait") {
		return errors.New("'wait' option is incompatible with socket in client connect mode")
	}
	path, fd := o.get("path"), o.get("fd")
	switch {
	case o.has("host") || o.has("port"):
		return errors.New("network sockets are not supported by the fake emulator")
	case path != "" && o.has("fd"):
		return errors.New("None or one of 'path' and 'fd' option required.")
	case path == "":
		return c.openDescriptor(fd, server, wait)
	case len(path) > 107:
		return fmt.Errorf("UNIX socket path '%s' is too long\nPath must be less than 108 bytes", path)
	}
	c.filename = "unix:" + path
	if !server {
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			return fmt.Errorf("Failed to connect to '%s': %s", path, strerror(err))
		}
		c.next, c.there = once(conn), true
		c.filename = "unix:" // QEMU does not say whom it called
		return nil
	}
	c.filename += ",server=on"
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("Failed to bind socket to %s: %s", path, strerror(err))
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return fmt.Errorf("Failed to bind socket to %s: %s", path, strerror(err))
	}
	return c.accept(l, wait)
}

// openDescriptor takes an inherited socket, listening or connected.
func (c *chardev) openDescriptor(text string, server, wait bool) error {
	fd, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("Unable to parse FD number %s", text)
	}
	if _, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil {
		return fmt.Errorf("File descriptor '%s' is not a socket", text)
	}
	c.filename = "unix:"
	f := os.NewFile(uintptr(fd), "inherited socket")
	defer f.Close()
	if !server {
		conn, err := net.FileConn(f)
		if err != nil {
			return fmt.Errorf("File descriptor '%s' is not a socket", text)
		}
		c.next, c.there = once(conn), true
		return nil
	}
	l, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("File descriptor '%s' is not a socket", text)
	}
	ul, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return errors.New("network sockets are not supported by the fake emulator")
	}
	ul.SetUnlinkOnClose(false)
	c.filename = "unix:" + ul.Addr().String() + ",server=on"
	return c.accept(ul, wait)
}

func (c *chardev) accept(l *net.UnixListener, wait bool) error {
	c.close = func() { l.Close() }
	c.next = func() (io.ReadWriteCloser, error) { return l.AcceptUnix() }
	if !wait {
		return nil
	}
	first, err := l.AcceptUnix()
	if err != nil {
		return fmt.Errorf("Failed to wait for a client: %s", strerror(err))
	}
	later := c.next
	c.there = true
	c.next = func() (io.ReadWriteCloser, error) {
		if conn := first; conn != nil {
			first = nil
			return conn, nil
		}
		return later()
	}
	return nil
}

type writeOnly struct{ f *os.File }

func (w writeOnly) Read([]byte) (int, error) {
	forever()
	return 0, io.EOF
}
func (w writeOnly) Write(b []byte) (int, error) { return w.f.Write(b) }
func (w writeOnly) Close() error                { return w.f.Close() }

type stdio struct{}

func (stdio) Read(b []byte) (int, error)  { return os.Stdin.Read(b) }
func (stdio) Write(b []byte) (int, error) { return os.Stdout.Write(b) }
func (stdio) Close() error                { return nil }

// notify calls a function when a connection is closed or has come to its end.
type notify struct {
	io.ReadWriteCloser
	once sync.Once
	gone chan struct{}
}

func newNotify(rw io.ReadWriteCloser) *notify {
	return &notify{ReadWriteCloser: rw, gone: make(chan struct{})}
}

func (n *notify) end() { n.once.Do(func() { close(n.gone) }) }

func (n *notify) Read(b []byte) (int, error) {
	k, err := n.ReadWriteCloser.Read(b)
	if err != nil && !errors.Is(err, syscall.EINTR) {
		n.end()
	}
	return k, err
}

func (n *notify) Close() error {
	n.end()
	return n.ReadWriteCloser.Close()
}
