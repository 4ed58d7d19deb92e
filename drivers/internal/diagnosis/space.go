//go:build linux

package diagnosis

import (
	"fmt"

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

// Overlays says whether a directory has room for the disposable disks of machines that may each write at most so many bytes.
func (l *List) Overlays(f machinery.Finding, most []int64) {
	free, ok := l.free(f)
	if !ok {
		return
	}
	l.room(f, free, most)
}

// room is Overlays for a number of free bytes.
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
		l.Problem(f, do, "%s are free, and %s; a machine that finds no room is paused, or does not start", Bytes(free), machines)
	case free < usual:
		l.Warn(f, do, "%s are free, and %s; run all at once they may well write %s", Bytes(free), machines, Bytes(usual))
	default:
		l.OK(f, "%s are free; %s, and could write %s at most", Bytes(free), machines, Bytes(all))
	}
}

// free is how much a user may still write to the file system of a directory. Where that cannot be told the finding says so.
func (l *List) free(f machinery.Finding) (int64, bool) {
	var system unix.Statfs_t
	if err := unix.Statfs(f.Subject, &system); err != nil {
		l.Warn(f, "", "it cannot be told how much room there is: %v", err)
		return 0, false
	}
	return int64(system.Bavail) * system.Bsize, true
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
