//go:build unix

package config

import "golang.org/x/sys/unix"

// checkAccess asks for the effective user, who the process acts as; access(2) alone would answer for the real one.
func checkAccess(path string, a access) error {
	return unix.Faccessat(unix.AT_FDCWD, path, uint32(a), unix.AT_EACCESS)
}
