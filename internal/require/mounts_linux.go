package require

import (
	"errors"
	"os"
	"os/exec"
	"regexp"
	"syscall"
)

// mountsEnv is set in the test binary that has mounts of its own.
const mountsEnv = "MACHINERIES_TEST_OWN_MOUNTS"

// OwnMounts runs the test once more, alone, in a process that may mount file systems which nobody else sees, and which are gone with it
// however it ends. It returns true in that process; in the other one, where it returns false when that has ended, the test is over then.
// A host that does not let this user have mounts of its own lacks "mounts".
func OwnMounts(t interface {
	TB
	Name() string
	Logf(format string, args ...any)
}) bool {
	t.Helper()
	if os.Getenv(mountsEnv) != "" {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+regexp.QuoteMeta(t.Name())+"$", "-test.v")
	cmd.Env = append(os.Environ(), mountsEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		Missing(t, "mounts", "this user may not mount file systems of its own: "+err.Error())
		return false
	}
	t.Logf("in a process of its own:\n%s", out)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return false
}
