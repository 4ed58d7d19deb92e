package vmcloak

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"time"
)

// versionTime is how long an emulator may take to say its version, which takes 20 ms.
const versionTime = 10 * time.Second

// EmulatorVersion runs an emulator to be told its version, such as "7.2.22".
func EmulatorVersion(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.WaitDelay = time.Second
	out := &beginning{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s --version fails: %w", path, err)
	}
	found := emulatorPattern.FindSubmatch(out.Bytes())
	if found == nil {
		return "", fmt.Errorf("%s --version says no version of QEMU: %.100q", path, out.Bytes())
	}
	return string(found[1]), nil
}

// emulatorPattern is what QEMU begins its answer with: "QEMU emulator version 7.2.22 (Debian …)".
var emulatorPattern = regexp.MustCompile(`(?m)^QEMU emulator version (\d+(?:\.\d+)+)`)

// beginning keeps the beginning of what is written to it.
type beginning struct{ bytes.Buffer }

func (b *beginning) Write(p []byte) (int, error) {
	const most = 64 << 10
	b.Buffer.Write(p[:min(len(p), most-min(b.Len(), most))])
	return len(p), nil
}
