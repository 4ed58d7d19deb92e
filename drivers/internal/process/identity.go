//go:build linux

package process

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"time"
)

// exitTime is how long a process that is ending may take to be gone.
const exitTime = 200 * time.Millisecond

// Identity is what tells a process from every other, also for a driver that did not start it: a ledger has it. It is written before the
// process is started, without its id and start time, so that one is found whose driver died in between.
type Identity struct {
	// PID and Start are the process id and its start time, in clock ticks after the boot; 0 until it was started.
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
	// Boot is the id of the host's boot.
	Boot string `json:"boot"`
	// Args and Digest are the number of its last arguments, and their digest: a wrapper script may have put others before them.
	Args   int    `json:"args"`
	Digest string `json:"digest"`
}

// Digest is the digest of arguments.
func Digest(args []string) string {
	h := sha256.New()
	for _, arg := range args {
		_, _ = io.WriteString(h, arg+"\x00")
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Find finds the  It returns os.ErrProcessDone if that has ended, or never was.
func (i Identity) Find() (*Process, error) {
	boot, err := BootID()
	if err != nil {
		return nil, err
	}
	if i.Boot != boot {
		return nil, os.ErrProcessDone
	}
	if i.PID == 0 {
		return i.Search()
	}
	p, err := Attach(i.PID, i.Start)
	if errors.Is(err, os.ErrProcessDone) {
		return i.Search() // a wrapper may have ended that did not become the program but started it
	}
	if err != nil {
		return nil, err
	}
	command := CommandLine(i.PID)
	if len(command) == 0 && !p.Wait(exitTime) {
		return p, nil // it is ending: its memory is gone already, and its locks are not
	}
	if !i.matches(command) {
		p.Release()
		return i.Search()
	}
	return p, nil
}

// Search looks for the process of a driver that died between starting it and noting its id, or whose id is not the noted one. Its
// arguments should be those of no other one. Between fork and exec it cannot be found.
func (i Identity) Search() (*Process, error) {
	for _, pid := range Processes() {
		if pid == os.Getpid() || !Ours(pid) || !i.matches(CommandLine(pid)) {
			continue
		}
		start, err := StartTime(pid)
		if err != nil {
			continue
		}
		if p, err := Attach(pid, start); err == nil {
			return p, nil
		}
	}
	return nil, os.ErrProcessDone
}

// matches is whether a process has those arguments. The name before them may differ: a script that was
// started as the program may have become it.
func (i Identity) matches(command []string) bool {
	if i.Args == 0 || len(command) <= i.Args {
		return false
	}
	return Digest(command[len(command)-i.Args:]) == i.Digest
}
