//go:build linux

package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/process"
	"golang.org/x/sys/unix"
)

// trialTime is how long a guest of nine bytes may take to end its QEMU, which takes 50 ms.
const trialTime = 20 * time.Second

// trialFirmware is a guest: 64 KiB of firmware, of which the processor runs nine bytes at its reset vector. They write trialMark to the
// port of isa-debug-exit, which ends QEMU with the status 2*trialMark+1, and halt where there is no such device.
func trialFirmware() []byte {
	image := bytes.Repeat([]byte{0xf4}, 64<<10) // hlt
	copy(image[len(image)-16:], []byte{
		0xb0, trialMark, // mov al, trialMark
		0xba, trialPort, 0x00, // mov dx, trialPort
		0xee,       // out dx, al
		0xf4,       // hlt
		0xeb, 0xfd, // jmp back to it
	})
	return image
}

const trialMark, trialPort = 0x10, 0xf4

// tryGuest has the emulator run a guest with an accelerator, and in the sandbox of machines unless there is to be none. A nil error
// says that the guest's processor ran: that /dev/kvm can be opened does not, where KVM is emulated or misses what QEMU wants of it.
func tryGuest(ctx context.Context, emulator, accel string, noSandbox bool) error {
	firmware, err := unix.MemfdCreate("trial", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(firmware), "trial")
	defer file.Close()
	if _, err := file.Write(trialFirmware()); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, trialTime)
	defer cancel()
	args := append([]string{"-M", "q35", "-accel", accel, "-m", "16", "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none",
		"-device", fmt.Sprintf("isa-debug-exit,iobase=%#x,iosize=4", trialPort), "-bios", "/proc/self/fd/3"}, sandboxFor(nil, noSandbox)...)
	cmd := exec.CommandContext(ctx, emulator, args...)
	out := &head{}
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out, out, []*os.File{file}
	cmd.Env = process.Environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	if exit, is := errors.AsType[*exec.ExitError](err); is && exit.ExitCode() == 2*trialMark+1 {
		return nil
	}
	said := fault.Words(out.text())
	switch {
	case ctx.Err() != nil:
		err = fmt.Errorf("it did not run to its end within %v", trialTime)
	case err == nil:
		err = errors.New("QEMU ended without an error and without the guest having run")
	}
	if said != nil {
		return fmt.Errorf("%w: %w", err, said)
	}
	return err
}
