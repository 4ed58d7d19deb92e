//go:build linux

package qemu

import (
	"slices"

	"golang.org/x/sys/unix"
)

// descriptorCommands are about file descriptors that clients pass.
var descriptorCommands = map[string]command{
	"getfd":   {args: []arg{{name: "fdname", kind: kindString}}, run: getfd},
	"closefd": {args: []arg{{name: "fdname", kind: kindString}}, run: closefd},
	"add-fd": {args: []arg{{name: "fdset-id", kind: kindInt, optional: true}, {name: "opaque", kind: kindString, optional: true}},
		run: addFD},
	"remove-fd":    {args: []arg{{name: "fdset-id", kind: kindInt}, {name: "fd", kind: kindInt, optional: true}}, run: removeFD},
	"query-fdsets": {run: queryFDSets},
}

func getfd(m *machine, s *session, args *dict) (any, error) {
	fd := s.takeFD()
	if fd < 0 {
		return nil, generic("No file descriptor supplied via SCM_RIGHTS")
	}
	name := args.str("fdname")
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		unix.Close(fd)
		return nil, generic("Parameter 'fdname' expects a name not starting with a digit")
	}
	if old, ok := m.fds[name]; ok {
		unix.Close(old)
	}
	m.fds[name] = fd
	return nil, nil
}

func closefd(m *machine, _ *session, args *dict) (any, error) {
	fd, err := m.takeNamed(args.str("fdname"))
	if err != nil {
		return nil, generic("File descriptor named '%s' not found", args.str("fdname"))
	}
	unix.Close(fd)
	return nil, nil
}

// takeNamed takes a descriptor that a client passed before.
func (m *machine) takeNamed(name string) (int, error) {
	fd, ok := m.fds[name]
	if !ok {
		return -1, generic("File descriptor named '%s' has not been found", name)
	}
	delete(m.fds, name)
	return fd, nil
}

func addFD(m *machine, s *session, args *dict) (any, error) {
	fd := s.takeFD()
	if fd < 0 {
		return nil, generic("No file descriptor supplied via SCM_RIGHTS")
	}
	id := -1
	if args.has("fdset-id") {
		if id = int(args.num("fdset-id")); id < 0 {
			unix.Close(fd)
			return nil, generic("Parameter 'fdset-id' expects a non-negative value")
		}
	}
	set := m.addToSet(id, setFD{fd: fd, opaque: args.str("opaque")})
	return d("fdset-id", set.id, "fd", fd), nil
}

// addToSet adds a descriptor to a set that is made if need be; id -1 is a new one.
func (m *machine) addToSet(id int, fd setFD) *fdset {
	if id < 0 {
		for id = 0; m.set(id) != nil; id++ {
		}
	}
	set := m.set(id)
	if set == nil {
		set = &fdset{id: id}
		at := len(m.fdsets)
		for at > 0 && m.fdsets[at-1].id > id {
			at--
		}
		m.fdsets = append(m.fdsets, nil)
		copy(m.fdsets[at+1:], m.fdsets[at:])
		m.fdsets[at] = set
	}
	set.fds = append(set.fds, fd)
	return set
}

func (m *machine) set(id int) *fdset {
	for _, s := range m.fdsets {
		if s.id == id {
			return s
		}
	}
	return nil
}

func removeFD(m *machine, _ *session, args *dict) (any, error) {
	id := args.num("fdset-id")
	missing := func() error {
		if args.has("fd") {
			return generic("File descriptor named 'fdset-id:%d, fd:%d' not found", id, args.num("fd"))
		}
		return generic("File descriptor named 'fdset-id:%d' not found", id)
	}
	set := m.set(int(id))
	if set == nil {
		return nil, missing()
	}
	found := false
	for i := range set.fds {
		if !args.has("fd") || int64(set.fds[i].fd) == args.num("fd") {
			set.fds[i].removed, found = true, true
		}
	}
	if !found {
		return nil, missing()
	}
	m.cleanUp(set)
	return nil, nil
}

// cleanUp closes what was removed. QEMU does so only while the guest runs: until
// then it is listed as before.
func (m *machine) cleanUp(set *fdset) {
	if !m.running() {
		return
	}
	set.fds = slices.DeleteFunc(set.fds, func(f setFD) bool {
		if f.removed {
			unix.Close(f.fd)
		}
		return f.removed
	})
	if len(set.fds) == 0 {
		m.fdsets = slices.DeleteFunc(m.fdsets, func(s *fdset) bool { return s == set })
	}
}

func queryFDSets(m *machine, _ *session, _ *dict) (any, error) {
	list := []any{}
	for _, s := range slices.Backward(m.fdsets) { // QEMU's order
		fds := []any{}
		for _, f := range s.fds {
			e := d("fd", f.fd)
			if f.opaque != "" {
				e.set("opaque", f.opaque)
			}
			fds = append(fds, e)
		}
		list = append(list, d("fdset-id", s.id, "fds", fds))
	}
	return list, nil
}
