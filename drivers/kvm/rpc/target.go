package rpc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	libvirt "github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
)

// A target is where a daemon is and what it is asked to open.
type target struct {
	name  string // the URI that the daemon opens, such as qemu:///system
	where string // for errors
	local bool   // the daemon is on this host
	dial  func(ctx context.Context) (net.Conn, error)
}

// parseURI makes a target of a libvirt URI.
func parseURI(text string) (*target, error) {
	if text == "" {
		text = "qemu:///system"
	}
	if strings.HasPrefix(text, "/") {
		name := "qemu:///system"
		if strings.HasPrefix(text, runtimeDir()+"/") {
			name = "qemu:///session"
		}
		return sockets(name, text), nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Path == "" && u.Query().Get("name") == "" {
		return nil, fmt.Errorf("%q is not a libvirt URI, such as qemu:///system, qemu:///session, test:///default, qemu+unix:///system?socket=PATH, qemu+ssh://USER@HOST/system, or the path of a socket", text)
	}
	driver, transport, named := strings.Cut(u.Scheme, "+")
	if !named {
		if transport = "unix"; u.Host != "" {
			transport = "tls"
		}
	}
	if _, has := u.User.Password(); has {
		return nil, errors.New("the libvirt URI holds a password, which every message about it would show: remove it, and use a key (keyfile=PATH) or an agent")
	}
	if err := checkParameters(u, transport); err != nil {
		return nil, err
	}
	name := string(libvirt.RemoteURI(u))
	switch transport {
	case "unix":
		if u.Host != "" {
			return nil, fmt.Errorf("%q names the host %s, but a unix socket is on this one; write %s+ssh://… or %s+tls://…", text, u.Host, driver, driver)
		}
		if s := u.Query().Get("socket"); s != "" {
			return sockets(name, s), nil
		}
		return sockets(name, standardSockets(driver, u.Path)...), nil
	case "tcp":
		port := u.Port()
		if port == "" {
			port = "16509"
		}
		address := net.JoinHostPort(u.Hostname(), port)
		return &target{name: name, where: address, dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			nc, err := d.DialContext(ctx, "tcp", address)
			if err != nil {
				return nil, fmt.Errorf("cannot reach libvirt at %s: %w; does it listen there (listen_tcp in libvirtd.conf, or libvirtd-tcp.socket)?", address, err)
			}
			return nc, nil
		}}, nil
	case "tls", "ssh", "libssh", "libssh2":
		d := remoteDialer(u, transport)
		where := u.Host + " (" + transport + ")"
		return &target{name: name, where: where, dial: func(ctx context.Context) (net.Conn, error) {
			return dialAside(ctx, where, d.Dial)
		}}, nil
	}
	return nil, fmt.Errorf("%q: the transport %q is not supported; unix, tcp, tls and ssh are", text, transport)
}

// parameters are those of libvirt's remote driver that have an effect here, by transport: https://libvirt.org/uri.html.
var parameters = map[string][]string{
	"unix":    {"mode", "name", "socket"},
	"tcp":     {"mode", "name"},
	"tls":     {"mode", "name", "no_verify", "pkipath"},
	"ssh":     sshParameters,
	"libssh":  sshParameters,
	"libssh2": sshParameters,
}

var sshParameters = []string{"keyfile", "known_hosts", "known_hosts_verify", "mode", "name", "no_verify", "socket"}

// checkParameters refuses a parameter that would have no effect: libvirt ignores one that it does not know, and a misspelt
// socket then is another daemon than the one that was meant. Values are not shown.
func checkParameters(u *url.URL, transport string) error {
	known, supported := parameters[transport]
	if !supported {
		return nil // the transport itself is refused
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fmt.Errorf("the parameters of the libvirt URI %s://… cannot be read: write them as ?name=value&name=value", u.Scheme)
	}
	for _, name := range slices.Sorted(maps.Keys(q)) {
		if !slices.Contains(known, name) {
			return fmt.Errorf("a libvirt URI over %s has no parameter %q here; there are %s", transport, name, strings.Join(known, ", "))
		}
	}
	if mode := q.Get("mode"); mode != "" && mode != "auto" {
		return fmt.Errorf("the libvirt URI asks for mode=%s, which is not supported: leave it out, or name the daemon's socket with socket=PATH", mode)
	}
	return nil
}

// remoteDialer sets up the library's dialer for a host.
func remoteDialer(u *url.URL, transport string) interface{ Dial() (net.Conn, error) } {
	q := u.Query()
	insecure := q.Get("no_verify") == "1"
	if transport == "tls" {
		var options []dialers.TLSOption
		if p := u.Port(); p != "" {
			options = append(options, dialers.UseTLSPort(p))
		}
		if p := q.Get("pkipath"); p != "" {
			options = append(options, dialers.UsePKIPath(p))
		}
		if insecure {
			options = append(options, dialers.WithInsecureNoVerify())
		}
		return dialers.NewTLS(u.Hostname(), options...)
	}
	var options []dialers.SSHOption
	if home, err := os.UserHomeDir(); err == nil {
		options = append(options, dialers.UseKnownHostsFile(filepath.Join(home, ".ssh", "known_hosts")))
	}
	if p := u.Port(); p != "" {
		options = append(options, dialers.UseSSHPort(p))
	}
	if name := u.User.Username(); name != "" {
		options = append(options, dialers.UseSSHUsername(name))
	}
	if s := q.Get("socket"); s != "" {
		options = append(options, dialers.WithRemoteSocket(s))
	}
	if k := q.Get("keyfile"); k != "" {
		options = append(options, dialers.UseKeyFile(k))
	}
	if k := q.Get("known_hosts"); k != "" {
		options = append(options, dialers.UseKnownHostsFile(k))
	}
	if insecure || q.Get("known_hosts_verify") == "ignore" {
		options = append(options, dialers.WithInsecureIgnoreHostKey())
	}
	return dialers.NewSSH(u.Hostname(), options...)
}

// dialAside runs a dialer that knows no context; a connection that comes too late is closed.
func dialAside(ctx context.Context, where string, dial func() (net.Conn, error)) (net.Conn, error) {
	type result struct {
		nc  net.Conn
		err error
	}
	came := make(chan result, 1)
	go func() {
		nc, err := dial()
		came <- result{nc, err}
	}()
	select {
	case r := <-came:
		if r.err != nil {
			return nil, fmt.Errorf("cannot reach libvirt at %s: %w", where, r.err)
		}
		return r.nc, nil
	case <-ctx.Done():
		go func() {
			if r := <-came; r.nc != nil {
				r.nc.Close()
			}
		}()
		return nil, overdue(ctx, "connecting to "+where)
	}
}

// runtimeDir is where libvirt's daemon of a user has its sockets (virGetUserRuntimeDirectory).
func runtimeDir() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "libvirt")
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, _ := os.UserHomeDir()
		cache = filepath.Join(home, ".cache")
	}
	return filepath.Join(cache, "libvirt")
}

// standardSockets is where a daemon listens that serves a driver: the monolithic one, then the modular.
func standardSockets(driver, path string) []string {
	dir := "/run/libvirt"
	if path == "/session" || path == "/embed" {
		dir = runtimeDir()
	}
	both := []string{filepath.Join(dir, "libvirt-sock")}
	if daemon := modular[driver]; daemon != "" {
		both = append(both, filepath.Join(dir, daemon+"-sock"))
	}
	return both
}

// modular is the daemon of its own that a driver may have: https://libvirt.org/daemons.html. The test driver is in the monolithic daemon alone.
var modular = map[string]string{
	"bhyve": "virtbhyved", "ch": "virtchd", "lxc": "virtlxcd", "qemu": "virtqemud", "vbox": "virtvboxd", "vz": "virtvzd", "xen": "virtxend",
}

// sockets is a target of unix sockets, tried in turn.
func sockets(name string, paths ...string) *target {
	where := strings.Join(paths, " or ")
	return &target{name: name, where: where, local: true, dial: func(ctx context.Context) (net.Conn, error) {
		var first error
		for _, p := range paths {
			var d net.Dialer
			nc, err := d.DialContext(ctx, "unix", p)
			if err == nil {
				return nc, nil
			}
			if info, there := os.Stat(p); there == nil && errors.Is(err, syscall.ECONNREFUSED) && info.Mode()&fs.ModeSocket == 0 {
				err = fmt.Errorf("%s is %s: %w", p, kindOf(info.Mode()), errNoSocket)
			}
			// The first that says more than "not there" explains best.
			if first == nil || errors.Is(first, fs.ErrNotExist) && !errors.Is(err, fs.ErrNotExist) {
				first = err
			}
		}
		return nil, dialError(where, name, first)
	}}
}

// errNoSocket is about a path that is something else.
var errNoSocket = errors.New("no socket")

// kindOf is what there is besides sockets.
func kindOf(m fs.FileMode) string {
	if m.IsDir() {
		return "a directory"
	}
	return "a file"
}

func dialError(where, name string, err error) error {
	hint := ""
	kind := error(nil)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		hint = "no daemon listens there: start libvirtd"
		driver, _, _ := strings.Cut(name, ":")
		if daemon := modular[driver]; daemon != "" {
			hint += " or " + daemon
		}
		if strings.HasSuffix(name, "/session") {
			hint = "no daemon of this user listens there: start one (virsh -c " + name + " list does)"
		}
	case errors.Is(err, syscall.ECONNREFUSED):
		hint = "the socket is there, but the daemon is gone: start it again"
	case errors.Is(err, fs.ErrPermission):
		hint = "this user may not use the socket: add it to the libvirt group"
		kind = ErrUnauthorised
	case errors.Is(err, syscall.EAGAIN):
		hint = "the daemon does not take connections: it is stopped, or has too many clients"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		kind = ErrTimeout
		hint = "it did not take the connection in time"
	}
	out := fmt.Errorf("cannot reach libvirt at %s: %w; %s", where, err, hint)
	if hint == "" {
		out = fmt.Errorf("cannot reach libvirt at %s: %w", where, err)
	}
	if kind != nil {
		return &kinded{kind, out}
	}
	return out
}

// kinded is an error that matches a kind besides what it wraps.
type kinded struct {
	kind error
	error
}

func (k *kinded) Unwrap() []error { return []error{k.kind, k.error} }
