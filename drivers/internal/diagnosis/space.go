//go:build linux

package diagnosis

import (
	"fmt"
	"slices"

	"github.com/machineries/machineries/drivers/internal/outfile"
	"github.com/machineries/machineries/machinery"
	"golang.org/x/sys/unix"
)

const (
	// leastRoom is what must be free for a machine to get anywhere: an empty disposable disk has 256 KiB, and a guest that wakes up
	// writes some MiB at once.
	leastRoom = 64 << 20
	// usualRoom is what a machine may well write in one run: Windows with its updates held back, some hundred MiB.
	usualRoom = 1 << 30
)

// Directory says whether files can be made in a directory. It adds nothing if so.
func (l *List) Directory(f machinery.Finding, do string) bool {
	if err := outfile.WritableDir(f.Subject); err != nil {
		l.Failed(f, err, do)
		return false
	}
	return true
}

// Overlay is a machine's disposable disks: where they go, and how many bytes it may write to them at most.
type Overlay struct {
	Dir  string
	Most int64
}

// Overlays says whether there is room for disposable disks, in one finding for each file system. key is that of the directory in the
// configuration.
func (l *List) Overlays(key string, overlays []Overlay) {
	type system struct {
		dirs []string
		most []int64
	}
	var order []uint64
	systems := map[uint64]*system{}
	for _, o := range overlays {
		var stat unix.Stat_t
		if err := unix.Stat(o.Dir, &stat); err != nil {
			continue // has its own problem
		}
		s := systems[uint64(stat.Dev)]
		if s == nil {
			s = &system{}
			systems[uint64(stat.Dev)], order = s, append(order, uint64(stat.Dev))
		}
		if !slices.Contains(s.dirs, o.Dir) {
			s.dirs = append(s.dirs, o.Dir)
		}
		s.most = append(s.most, o.Most)
	}
	for _, dev := range order {
		s := systems[dev]
		f := About(machinery.AreaDirectories, s.dirs[0], key)
		if n := len(s.dirs) - 1; n > 0 {
			f.Subject += fmt.Sprintf(" and %d more", n)
		}
		var stat unix.Statfs_t
		if err := unix.Statfs(s.dirs[0], &stat); err != nil {
			l.Warn(f, "", "it cannot be told how much room there is: %v", err)
			continue
		}
		l.room(f, int64(stat.Bavail)*stat.Bsize, s.most)
	}
}

// Dumps says whether a directory has room for memory dumps of machines with so many bytes of memory each; 0 is one whose memory is not known.
func (l *List) Dumps(dir string, memory []int64) {
	f := About(machinery.AreaDirectories, dir, "")
	if !l.Directory(f, "make it, or name another directory") {
		return
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		l.Warn(f, "", "it cannot be told how much room there is: %v", err)
		return
	}
	l.dumpRoom(f, int64(stat.Bavail)*stat.Bsize, memory)
}

// dumpRoom is Dumps for a file system with so many free bytes.
func (l *List) dumpRoom(f machinery.Finding, free int64, memory []int64) {
	const do = "make room there, or write the dumps elsewhere"
	var largest, all int64
	for _, n := range memory {
		largest, all = max(largest, n), all+n
	}
	switch {
	case free < largest:
		l.Problem(f, do, "%s are free, and the memory dump of the largest machine has %s", Bytes(free), Bytes(largest))
	case free < all:
		l.Warn(f, do, "%s are free, and memory dumps of all machines need %s together", Bytes(free), Bytes(all))
	default:
		l.OK(f, "%s are free; memory dumps of all machines need %s together", Bytes(free), Bytes(all))
	}
}

// room is Overlays for one file system with so many free bytes.
func (l *List) room(f machinery.Finding, free int64, most []int64) {
	const do = "make room there, or have another directory with disposable_copy_dir"
	var least, usual, all int64
	for _, n := range most {
		least, usual, all = max(least, min(n, leastRoom)), usual+min(n, usualRoom), all+n
	}
	machines := "1 machine has its disposable disk there"
	if len(most) != 1 {
		machines = fmt.Sprintf("%d machines have their disposable disks there", len(most))
	}
	switch {
	case free < least:
		l.Problem(f, do, "%s are free, and %s; one that finds no room does not start, or is paused", Bytes(free), machines)
	case free < usual:
		l.Warn(f, do, "%s are free, and %s, and may well write %s in one run", Bytes(free), machines, Bytes(usual))
	default:
		l.OK(f, "%s are free; %s, and could write %s at most", Bytes(free), machines, Bytes(all))
	}
}

// Bytes is a number of bytes as people say it.
func Bytes(n int64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return fmt.Sprintf("%d bytes", n)
	}
	value, at := float64(n)/(1<<10), 0
	for ; value >= 1023.95 && at < len(units)-1; at++ {
		value /= 1 << 10
	}
	if value < 10 {
		return fmt.Sprintf("%.1f %ciB", value, units[at])
	}
	return fmt.Sprintf("%.0f %ciB", value, units[at])
}
