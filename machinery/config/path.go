package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Describe implements Type.
func (t FilePath) Describe() string { return "the path of a file" }

// Describe implements Type.
func (t DirectoryPath) Describe() string { return "the path of a directory" }

// Describe implements Type.
func (t UnixSocketPath) Describe() string { return "the path of a unix socket" }

func (t FilePath) read(text string, h *host) (any, *fault) {
	return readPath(text, h, pathRule{
		what: "a file", is: func(m fs.FileMode) bool { return m.IsRegular() || m&fs.ModeDevice != 0 },
		mustExist: t.MustExist, readable: t.Readable, writable: t.Writable, executable: t.Executable,
	})
}

func (t DirectoryPath) read(text string, h *host) (any, *fault) {
	return readPath(text, h, pathRule{
		what: "a directory", is: fs.FileMode.IsDir, directory: true,
		mustExist: t.MustExist, readable: t.Readable, writable: t.Writable,
	})
}

func (t UnixSocketPath) read(text string, h *host) (any, *fault) {
	// sun_path has 108 bytes on Linux, one of them for the NUL.
	if longest := 107; len(text) > longest {
		return nil, faultf("use a shorter directory, such as one below /run", "%s is %d bytes long, but the path of a unix socket has at most %d", show(text), len(text), longest)
	}
	return readPath(text, h, pathRule{
		what: "a unix socket", is: func(m fs.FileMode) bool { return m&fs.ModeSocket != 0 },
		mustExist: t.MustExist, readable: t.Readable, writable: t.Writable,
	})
}

// pathRule is what a path must lead to.
type pathRule struct {
	what                                      string
	is                                        func(fs.FileMode) bool
	directory                                 bool
	mustExist, readable, writable, executable bool
}

func readPath(text string, h *host, r pathRule) (any, *fault) {
	if f := nulFault(text); f != nil || h.static {
		return text, f
	}
	info, err := os.Stat(text)
	switch {
	case err != nil && !missing(err):
		return nil, faultf("", "%s cannot be looked at: %s", show(text), reason(err))
	case err != nil && !(r.mustExist || r.readable || r.writable || r.executable):
		return text, nil
	case err != nil:
		return nil, missingFault(text)
	case !r.is(info.Mode()):
		return nil, faultf("", "%s is %s, not %s", show(text), fileKind(info.Mode()), r.what)
	}
	enter := access(0)
	if r.directory {
		enter = accessExecute // without it, what is in the directory cannot be reached
	}
	for _, right := range []struct {
		wanted bool
		access access
		verb   string
	}{
		{r.readable, accessRead | enter, "read"},
		{r.writable, accessWrite | enter, "write to"},
		{r.executable, accessExecute, "execute"},
	} {
		if !right.wanted {
			continue
		}
		if err := h.access(text, right.access); err != nil {
			return nil, faultf(fmt.Sprintf("its mode is %v; this program runs as uid %d", info.Mode(), os.Geteuid()),
				"this user may not %s %s: %s", right.verb, show(text), reason(err))
		}
	}
	return text, nil
}

func missing(err error) bool {
	// ENOTDIR: something on the way is a file. ENAMETOOLONG cannot be there either, but says more as itself.
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// missingFault says how far a path that leads nowhere does lead.
func missingFault(path string) *fault {
	if target, err := os.Readlink(path); err == nil {
		return faultf("", "%s is a symbolic link to %s, which does not exist", show(path), show(target))
	}
	f := faultf("", "%s does not exist", show(path))
	parent, found := filepath.Dir(path), nearestExisting(path)
	info, err := os.Stat(found)
	switch {
	case err == nil && !info.IsDir():
		f.hint = show(found) + " is " + fileKind(info.Mode()) + ", not a directory"
	case strings.HasPrefix(path, "~"):
		f.hint = `"~" is not replaced by the home directory here: write the whole path`
	case strings.Contains(path, "$"):
		f.hint = "variables are not replaced here: write the whole path"
	case strings.TrimSpace(path) != path:
		f.hint = "the path begins or ends with white space"
	case !filepath.IsAbs(path):
		if wd, err := os.Getwd(); err == nil {
			f.hint = "the path is relative, and looked for in " + show(wd) + "; better write the whole path"
		}
	case found == parent:
	case found != "":
		f.hint = "the path exists as far as " + show(found)
	}
	return f
}

// nearestExisting is the longest part of a path that is there; "" for none.
func nearestExisting(path string) string {
	for at := filepath.Dir(path); ; at = filepath.Dir(at) {
		if _, err := os.Lstat(at); err == nil {
			return at
		}
		if at == filepath.Dir(at) {
			return ""
		}
	}
}

// fileKind names what is at a path.
func fileKind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m.IsRegular():
		return "a file"
	case m&fs.ModeSocket != 0:
		return "a unix socket"
	case m&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return "a special file"
}

// reason is the operating system's word alone, without the path, which the message has already.
func reason(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}
