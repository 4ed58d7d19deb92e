//go:build linux

package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/machineries/machineries/drivers/internal/rundir"
)

// StartTime reads when a process started, in clock ticks after the boot of the host: with the id, it means one process for
// as long as the host is up.
func StartTime(pid int) (uint64, error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	// The second field is the program's name in parentheses and may hold anything, even parentheses.
	i := bytes.LastIndexByte(data, ')')
	if i < 0 {
		return 0, fmt.Errorf("%s is not as it should be", path)
	}
	fields := strings.Fields(string(data[i+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("%s is not as it should be", path)
	}
	return strconv.ParseUint(fields[19], 10, 64) // field 22 of proc(5), counted from 1
}

// BootID names the host's present boot.
var BootID = sync.OnceValues(func() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data)), err
})

// CommandLine is the arguments of a process, its name included.
func CommandLine(pid int) []string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(data) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
}

// Processes lists the ids of all processes that can be seen.
func Processes() []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Ours is whether a process may be one that this user started: others could give theirs any command line. Root may have started
// one that went on as somebody else.
func Ours(pid int) bool {
	if os.Geteuid() == 0 {
		return true
	}
	info, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return err == nil && rundir.Owner(info) == os.Geteuid()
}

// Describe is the command line of a process in brackets, with a blank before them, if the process is the user's own: what others run is
// not told to everybody. It is empty if nothing can be said.
func Describe(pid int) string {
	const most = 100
	if !Ours(pid) {
		return ""
	}
	text := []rune(strings.Join(CommandLine(pid), " "))
	switch {
	case len(text) == 0:
		return ""
	case len(text) > most:
		text = append(text[:most], '…')
	}
	return fmt.Sprintf(" (%s)", string(text))
}
