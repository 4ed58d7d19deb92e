//go:build linux

package diagnosis

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/machineries/machineries/drivers/internal/outfile"
	"github.com/machineries/machineries/drivers/internal/rundir"
	"github.com/machineries/machineries/machinery"
	"golang.org/x/sys/unix"
)

// ledgerRoom is what the locks and ledgers of a hundred machines need, in bytes.
const ledgerRoom = 1 << 20

// RuntimeDir looks at the directory for what belongs to running machines, and does not make it. It returns its path without symbolic links, or
// nothing if it cannot be used. socket is that of rundir.Make.
func (l *List) RuntimeDir(path, socket string) string {
	const do = "or name another directory with runtime_dir"
	f := About(machinery.AreaDirectories, path, "runtime_dir")
	real, err := rundir.Check(path, socket)
	if err != nil {
		l.Failed(f, err, "put that right, "+do)
		return ""
	}
	there := real
	made := "for what belongs to running machines; closed to others"
	for {
		_, err := os.Stat(there)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || there == "/" {
			l.Failed(f, err, "put that right, "+do)
			return ""
		}
		there, made = filepath.Dir(there), "for what belongs to running machines; it is made when it is needed"
	}
	if err := outfile.WritableDir(there); err != nil {
		l.Failed(f, err, "put that right, "+do)
		return ""
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(there, &stat); err == nil && int64(stat.Bavail)*stat.Bsize < ledgerRoom {
		l.Problem(f, "make room there, "+do, "%s are free, and no machine can be started without a lock and a ledger there", Bytes(int64(stat.Bavail)*stat.Bsize))
		return real
	}
	l.OK(f, "%s", made)
	return real
}
