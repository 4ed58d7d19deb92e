//go:build !unix

package config

import (
	"io/fs"
	"os"
)

// checkAccess judges by the mode, which is all that there is where access(2) is not.
func checkAccess(path string, a access) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if have := access(info.Mode().Perm() >> 6); a&^accessExecute&^have != 0 {
		return fs.ErrPermission
	}
	return nil
}
