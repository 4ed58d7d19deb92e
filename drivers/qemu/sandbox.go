//go:build linux

package qemu

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The arguments for QEMU's sandbox, a filter of system calls: a QEMU that a guest has broken out of is killed by the kernel (SIGSYS)
// when it begins what is denied. spawn is fork and execve, elevateprivileges set*uid and the like, resourcecontrol priorities, obsolete
// calls that nothing uses. What QEMU starts inherits the filter.
//
// Tried on QEMU 7.2.22: with all denied, restoring, saving, dumping, screenshots, quitting, -netdev user and tap without scripts,
// TCG and KVM work. What dies at the start: tap with scripts or a helper, bridge, -daemonize, -runas, -incoming exec. guestfwd=…-cmd: and
// smb= start programs later, when the guest connects or at the start of smbd; that was not tried.
const (
	sandboxFull  = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
	sandboxSpawn = "on,obsolete=deny,elevateprivileges=deny,spawn=allow,resourcecontrol=deny"
)

// sandboxFor is the arguments for the sandbox of a machine. One that says itself what it wants gets that. One with allowed arguments
// for which QEMU starts programs may do so. The helper for bridges gets its rights by its file and gives them up again, for
// which elevateprivileges would have to be allowed, and no filter may set "no new privileges"; so a machine with it has no sandbox.
func sandboxFor(args []string, none bool) []string {
	own := slices.ContainsFunc(args, func(arg string) bool {
		name, is := optionName(arg)
		return is && name == "sandbox"
	})
	if none || own {
		return nil
	}
	switch sandboxNeeds(args) {
	case needsPrivileges:
		return nil
	case needsSpawn:
		return []string{"-sandbox", sandboxSpawn}
	}
	return []string{"-sandbox", sandboxFull}
}

// withoutSandbox adds what to do to the words of a QEMU that has no sandbox. (One without says "-sandbox support is not enabled in this
// QEMU binary" or "There is no option group 'sandbox'"; one on a kernel without "failed to install seccomp syscall filter".)
func (v *vm) withoutSandbox(said error) error {
	if len(v.sandbox) == 0 || said == nil {
		return said
	}
	if sandboxMissing(said.Error()) {
		return fmt.Errorf("%w (this QEMU has no sandbox; without it, with sandbox: false in qemu.yaml or Config.NoSandbox, it can be used)", said)
	}
	return said
}

// sandboxMissing is whether QEMU's words say that it has no sandbox.
func sandboxMissing(said string) bool {
	return slices.ContainsFunc([]string{"-sandbox", "'sandbox'", "seccomp"}, func(sign string) bool { return strings.Contains(said, sign) })
}

// howEnded is how QEMU ended, with what the sandbox has to do with it.
func (r *run) howEnded() string {
	text := r.proc.Ending.String()
	if r.proc.Ending.Signal == unix.SIGSYS && len(r.v.sandbox) > 0 {
		text += ", because it began something that its sandbox denies: " + strings.Join(r.v.sandbox, " ")
	}
	return text
}
