package config

import (
	"net"
	"sync"
)

// host is what a file's values are held against on this host. One is made for each load, so that 2,000 machines ask for
// the network interfaces once, and all get the same answer.
type host struct {
	static     bool // ask nothing
	interfaces func() ([]net.Interface, error)
	access     func(path string, a access) error
}

func newHost(static bool) *host {
	return &host{static: static, interfaces: sync.OnceValues(net.Interfaces), access: checkAccess}
}

// access is a set of rights, as in access(2).
type access uint32

const (
	accessExecute access = 1 << iota
	accessWrite
	accessRead
)
