//go:build linux

package qemu

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/drivers/qemu/monitor"
	"github.com/machineries/machineries/machinery"
	"golang.org/x/sys/unix"
)

// versionTime is how long an emulator may take to say its version, which takes 20 ms.
const versionTime = 10 * time.Second

// maxVersionText is how much is read of what an emulator says to --version, in bytes.
const maxVersionText = 64 << 10

// oldestMajor is the oldest major version that the driver is made for: QEMU 6.0 is of April 2021. Tried is 7.2.22.
const oldestMajor = 6

// Version returns QEMU's version, such as "7.2.22": that of a machine which runs under this driver, or else what the configured
// emulator says of itself, which is asked again only when its file has changed.
//
// Errors: ErrDependency if the emulator cannot be run or does not say a version.
func (d *Machinery) Version(ctx context.Context) (string, error) {
	if err := d.frame.Begin(ctx, machinery.OpVersion); err != nil {
		return "", err
	}
	for _, v := range d.frame.All() {
		if found, ok := v.runningVersion(); ok {
			return found.String(), nil
		}
	}
	found, err := d.version.of(ctx, d.config.QEMU)
	switch {
	case err == nil:
		return found.String(), nil
	case ctx.Err() != nil:
		return "", fault.Interrupted(machinery.OpVersion, "", ctx, "asking the emulator for its version")
	}
	return "", fault.Fail(machinery.OpVersion, "", machinery.ErrDependency, err, "the version of QEMU cannot be found out")
}

// runningVersion is the version of the machine's QEMU, if this driver is connected to one.
func (v *vm) runningVersion() (monitor.Version, bool) {
	v.mu.Lock()
	r := v.run
	v.mu.Unlock()
	if r == nil {
		return monitor.Version{}, false
	}
	m := r.monitor()
	if m == nil || m.Err() != nil {
		return monitor.Version{}, false
	}
	return m.Version(), true
}

// versions remembers what an emulator said of its version. The zero value is ready.
type versions struct {
	mu    sync.Mutex
	file  os.FileInfo // of the emulator that was asked
	found monitor.Version
}

// of is the version of an emulator.
func (c *versions) of(ctx context.Context, path string) (monitor.Version, error) {
	info, err := os.Stat(path)
	if err != nil {
		return monitor.Version{}, err
	}
	c.mu.Lock()
	if c.file != nil && os.SameFile(c.file, info) && c.file.ModTime().Equal(info.ModTime()) && c.file.Size() == info.Size() {
		defer c.mu.Unlock()
		return c.found, nil
	}
	c.mu.Unlock()
	found, err := askVersion(ctx, path)
	if err != nil {
		return monitor.Version{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.file, c.found = info, found
	return found, nil
}

// versionPattern is what QEMU begins its answer with: "QEMU emulator version 7.2.22 (Debian …)".
var versionPattern = regexp.MustCompile(`(?m)^QEMU emulator version (\d+)\.(\d+)(?:\.(\d+))?`)

// askVersion runs an emulator to be told its version.
func askVersion(ctx context.Context, path string) (monitor.Version, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	out := &head{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = process.Environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) } // a script's children too
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return monitor.Version{}, fmt.Errorf("%s --version did not end: %w", path, ctx.Err())
	}
	if err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(out.text()), "\n")
		return monitor.Version{}, fault.Join(fault.NotNil(fmt.Errorf("%s --version: %w", path, err), fault.Words(first)))
	}
	found := versionPattern.FindStringSubmatch(out.text())
	if found == nil {
		return monitor.Version{}, fmt.Errorf("%s --version says no version of QEMU: %.200q", path, out.text())
	}
	var v monitor.Version
	v.Major, _ = strconv.Atoi(found[1]) // digits; too many of them make a version that no one has
	v.Minor, _ = strconv.Atoi(found[2])
	v.Micro, _ = strconv.Atoi(found[3])
	return v, nil
}

// head keeps the beginning of what is written to it.
type head struct{ kept bytes.Buffer }

func (h *head) Write(p []byte) (int, error) {
	if room := maxVersionText - h.kept.Len(); room > 0 {
		h.kept.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (h *head) text() string {
	return strings.TrimSpace(strings.ToValidUTF8(h.kept.String(), "\uFFFD"))
}
