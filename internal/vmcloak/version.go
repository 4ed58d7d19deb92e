package vmcloak

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
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

// version is QEMU's, as far as machine types have it.
type version struct{ major, minor int }

// versionPattern finds it in what VMCloak and people write: "7.2.22", "QEMU 7.2".
var versionPattern = regexp.MustCompile(`(\d{1,4})\.(\d{1,4})`)

func parseVersion(text string) (version, bool) {
	found := versionPattern.FindStringSubmatch(text)
	if found == nil {
		return version{}, false
	}
	major, _ := strconv.Atoi(found[1]) // four digits at most
	minor, _ := strconv.Atoi(found[2])
	return version{major, minor}, true
}

// typeName is the name of a machine type, such as q35 or pc-q35-7.2.
type typeName string

// in is what a name without a version means in a version of QEMU; others mean themselves.
func (n typeName) in(v version) typeName {
	switch n {
	case "q35":
		return typeName(fmt.Sprintf("pc-q35-%d.%d", v.major, v.minor))
	case "pc":
		return typeName(fmt.Sprintf("pc-i440fx-%d.%d", v.major, v.minor))
	}
	return n
}

var versionedPattern = regexp.MustCompile(`^pc-(q35|i440fx)-\d+\.\d+$`)

// versioned is whether a machine type is the same in every QEMU that has it, and is one that QEMU itself names.
func versioned(n typeName) bool { return versionedPattern.MatchString(string(n)) }

// machineType is the option that chooses a machine type, and the name that it has. Without one it is QEMU's own choice.
func machineType(args []string) (option string, name typeName) {
	option, name = "the machine without -M", "pc"
	for i := 0; i+1 < len(args); i++ {
		if o := optionName(args[i]); o != "M" && o != "machine" {
			continue
		}
		for j, s := range strings.Split(args[i+1], ",") {
			key, value, has := strings.Cut(s, "=")
			switch {
			case j == 0 && !has:
				option, name = args[i]+" "+key, typeName(key)
			case key == "type":
				option, name = args[i]+" "+value, typeName(value)
			}
		}
	}
	return option, name
}

// optionName is the name of an option of QEMU, which may have one dash or two; empty for what is none.
func optionName(arg string) string {
	if name, is := strings.CutPrefix(arg, "-"); is {
		return strings.TrimPrefix(name, "-")
	}
	return ""
}
