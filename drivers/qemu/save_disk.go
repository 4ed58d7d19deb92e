//go:build linux

package qemu

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/machinery"
)

// disk makes one disk of the machine's disposable one and its base. Its QEMU has ended.
func (s *saving) disk(ctx context.Context, r *run) error {
	v := s.v
	err := s.convert(ctx, r.ledger.Overlays[0], filepath.Join(s.part, savedDisk))
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fault.Interrupted(OpSaveSnapshot, v.machine.Name, ctx, "merging the machine's disk; the machine is off")
	}
	return s.fail(machinery.ErrHypervisor, err, "the machine's disk cannot be merged, and the machine is off")
}

// convertEnd is how long a qemu-img may take to end that was killed.
const convertEnd = 5 * time.Second

// convert runs qemu-img, which reads the disk through to its last base and leaves out what is zero.
func (s *saving) convert(ctx context.Context, from, to string) error {
	cmd := exec.CommandContext(ctx, s.v.d.config.QEMUImg, "convert", "-p", "-f", "qcow2", "-O", "qcow2", from, to)
	// The terminal's Ctrl-C is ours to pass on. Who cannot, because it was killed, takes it along; the signal comes when the thread ends
	// that started it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.WaitDelay = convertEnd
	var said bytes.Buffer
	cmd.Stderr = &said
	told, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.percents(told)
	if err := cmd.Wait(); err != nil {
		if text := fault.Words(said.String()); text != nil {
			return fault.Join([]error{text, err})
		}
		return err
	}
	return os.Chmod(to, 0o600)
}

// percents reads what qemu-img tells of its progress: "    (12.34/100%)" and a carriage return, each time. (Seen on 7.2.22.)
func (s *saving) percents(told io.Reader) {
	lines := bufio.NewScanner(told)
	lines.Split(func(data []byte, end bool) (int, []byte, error) {
		if i := bytes.IndexAny(data, "\r\n"); i >= 0 {
			return i + 1, data[:i], nil
		}
		if end && len(data) > 0 {
			return len(data), data, nil
		}
		return 0, nil, nil
	})
	s.progress("disk", 0, 100)
	for lines.Scan() {
		text, _, is := strings.Cut(strings.TrimPrefix(strings.TrimSpace(lines.Text()), "("), "/")
		if percent, err := strconv.ParseFloat(text, 64); is && err == nil {
			s.progress("disk", int64(percent), 100)
		}
	}
}

// writeInfo writes the machineinfo.json: the machine's own, if it has one, with what is said of the files brought up to date.
func (s *saving) writeInfo() error {
	v := s.v
	info := map[string]any{"machinery": schema.Name}
	if v.conf.Args == nil {
		if data, err := os.ReadFile(v.conf.Info); err == nil {
			_ = json.Unmarshal(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), &info) // it may be gone since, or have changed
		}
	}
	machine, is := info["machine"].(map[string]any)
	if !is {
		machine = map[string]any{"name": v.machine.Name}
	}
	machine["start_args"] = v.args.args
	for key, name := range map[string]string{"disk": savedDisk, "memory_snapshot": s.snapshotName()} { // VMCloak's
		if _, is := machine[key].(string); is {
			machine[key] = name
		}
	}
	info["machine"] = machine
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(info); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.part, savedInfo), text.Bytes(), 0o600)
}
