//go:build linux

package qemu

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// init keeps a program that was called as an emulator on its first thread. A program that becomes another on a different one loses what
// prctl(2) has of its first, such as that it is to be killed when its parent dies.
func init() {
	if _, _, ok := calledAs(); ok {
		runtime.LockOSThread()
	}
}

// Main has to be the first thing in main, or in TestMain, of a program that uses
// Install: it finds out whether the program was started as one of the installed
// emulators, and if so is that emulator and does not return.
func Main() {
	name, dir, ok := calledAs()
	if !ok {
		return
	}
	in, err := readMarker(dir)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: the installation of the fake in %s cannot be read: %v\n", name, dir, err)
		exitNow(1)
	}
	if name == imgName {
		if in.RealImg != "" {
			execReal(in.RealImg, os.Args[1:])
		}
		exitNow(RunImg(os.Args[1:]))
	}
	exitNow(installedMain(in, os.Args[1:]))
}

// calledAs says under which name and in which directory the program was started, if
// that is one of ours.
func calledAs() (name, dir string, ok bool) {
	candidates := []string{execPath()}
	if strings.Contains(os.Args[0], "/") {
		candidates = append(candidates, os.Args[0])
	} else if found, err := exec.LookPath(os.Args[0]); err == nil {
		candidates = append(candidates, found)
	}
	for _, c := range candidates {
		name, dir = filepath.Base(c), filepath.Dir(c)
		if name != emulatorName && name != imgName {
			continue
		}
		if _, err := os.Lstat(filepath.Join(dir, marker)); err == nil {
			return name, dir, true
		}
	}
	return "", "", false
}

// execPath is the path that the program was executed by. The first argument need not
// be it, and /proc/self/exe has followed the link already; the kernel's auxiliary
// vector knows.
func execPath() string {
	const execFilename = 31 // AT_EXECFN
	auxv, err := os.ReadFile("/proc/self/auxv")
	if err != nil {
		return ""
	}
	for ; len(auxv) >= 16; auxv = auxv[16:] {
		if binary.NativeEndian.Uint64(auxv) != execFilename {
			continue
		}
		mem, err := os.Open("/proc/self/mem")
		if err != nil {
			return ""
		}
		defer mem.Close()
		path := make([]byte, 4097)
		n, err := mem.ReadAt(path, int64(binary.NativeEndian.Uint64(auxv[8:])))
		if n == 0 && err != nil && !errors.Is(err, io.EOF) {
			return ""
		}
		s, _, _ := strings.Cut(string(path[:n]), "\x00")
		return s
	}
	return ""
}

func readMarker(dir string) (installed, error) {
	var in installed
	b, err := os.ReadFile(filepath.Join(dir, marker))
	if err != nil {
		return in, err
	}
	return in, json.Unmarshal(b, &in)
}

// execReal makes this process a real program.
func execReal(path string, args []string) {
	found, err := exec.LookPath(path)
	if err == nil {
		err = syscall.Exec(found, append([]string{found}, args...), os.Environ())
	}
	fmt.Fprintf(os.Stderr, "%s: cannot be run: %v\n", path, err)
	exitNow(127)
}

// startFates are the fates of an emulator that is not there yet.
type startFates struct{}

func (startFates) exit(code int, text string) { writeText(os.Stderr, text); exitNow(code) }
func (startFates) kill()                      { killSelf() }
func (startFates) noise(f Fault)              { writeNoise(os.Stderr, f) }

// installedMain is an emulator that belongs to an installation.
func installedMain(in installed, args []string) int {
	if in.Control == "" { // made by hand, to try things out
		return runEmulator(context.Background(), emulatorName, args, nil, nil)
	}
	control, faults, err := dialControl(in.Control, args)
	if err != nil {
		// Whoever installed it has gone, and would not know of it: better not to start
		// than to be left behind.
		fmt.Fprintf(os.Stderr, "%s: the fake's installation has ended: %v\n", emulatorName, err)
		return 1
	}
	p := newPlan(faults)
	var fates startFates
	for _, f := range p.at(PointStart, "") {
		if f.Deaf {
			ignoreSignals()
			p.deaf = true
		}
		switch f.Action {
		case Delay:
			time.Sleep(f.Delay) // the fault itself
		case Exit:
			fates.exit(f.Code, f.Text)
		case Kill:
			fates.kill()
		case Noise:
			fates.noise(f)
		case Hang:
			forever()
		}
	}
	if in.Real == "" {
		return runEmulator(context.Background(), emulatorName, args, control, p)
	}
	wire := in.Watch
	for _, f := range faults {
		wire = wire || f.onWire()
	}
	if !wire {
		control.conn.Close()
		execReal(in.Real, args)
	}
	return interpose(in.Real, args, control, p)
}

// forever does not return. A bare select would end a program without cgo, in which
// nothing else can run, as a deadlock.
func forever() {
	for {
		time.Sleep(time.Hour) // there is nothing to wait for
	}
}
