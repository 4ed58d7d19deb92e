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
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/machinery"
)

// disk ends the machine, whose memory is saved, and makes one disk of its disposable one and its base. The machine is off
// afterwards in any case.
func (s *saving) disk(ctx context.Context, r *run) (err error) {
	v := s.v
	v.set(func() { v.doing = phaseStopping })
	defer v.set(func() { v.doing = "" })
	if err := r.note(func(l *ledger) { l.Phase = phaseStopping }); err != nil {
		v.log.Debug("the end of the machine is not in the ledger", "error", err)
	}
	// Its disks are at rest since its memory is complete, so that even a QEMU that is killed takes nothing with it.
	if !r.quit(context.WithoutCancel(ctx)) {
		r.proc.Kill()
	}
	if !r.proc.Wait(cleanupTime) {
		return s.fail(machinery.ErrHypervisor, nil, "QEMU (process %d) does not end even when it is killed", r.proc.PID)
	}
	defer func() {
		left := v.clear(r)
		v.set(func() { v.run, v.last = nil, "" })
		if left != nil && err == nil {
			err = s.fail(machinery.ErrHypervisor, left, "the machine is off, but something of its run could not be removed")
		}
	}()
	err = s.convert(ctx, r.ledger.Overlays[0], filepath.Join(s.part, savedDisk))
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
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the terminal's Ctrl-C is ours to pass on
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
