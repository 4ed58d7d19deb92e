package vmcloak

import (
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// nobody is a user that no file belongs to.
const nobody = 65534

// asNobody calls f with the rights of another user.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	done := make(chan syscall.Errno)
	go func() {
		// A thread of its own, whose rights are not those of the others, and which ends with this goroutine.
		runtime.LockOSThread()
		_, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, nobody)
		if errno == 0 {
			f()
		}
		done <- errno
	}()
	if errno := <-done; errno != 0 {
		t.Skipf("this process cannot become another user: %v", errno)
	}
}

func TestWhatCannotBeReadIsNamedWithItsOwnerAndThisUser(t *testing.T) {
	in, err := os.MkdirTemp("/tmp", "m") // which everybody may enter
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(in)
	if err := os.Chmod(in, 0o755); err != nil {
		t.Fatal(err)
	}
	open, closed := machine(t, in, "open", nil), machine(t, in, "closed", nil)
	for path, mode := range map[string]os.FileMode{open: 0o755, open + "/" + InfoName: 0o644, open + "/memory.snapshot": 0o644, open + "/disk.qcow2": 0o600} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	var found []string
	var dirs []string
	var refused, findErr error
	asNobody(t, func() {
		dirs, findErr = Find(in)
		if m, err := Read(open); err == nil {
			found = m.Check(t.Context(), Options{})
		}
		_, refused = Read(closed)
	})
	if findErr != nil || len(dirs) != 2 {
		t.Errorf("found %q, %v; one that cannot be looked into must not be passed over in silence", dirs, findErr)
	}
	const who = "belongs to root (uid 0), mode 0"
	if len(found) != 1 || !strings.Contains(found[0], open+"/disk.qcow2 cannot be read: "+open+"/disk.qcow2 "+who+"600, and this runs as ") || !strings.Contains(found[0], "(uid 65534)") {
		t.Errorf("of a disk it says %q", found)
	}
	if refused == nil || !strings.Contains(refused.Error(), closed+"/machineinfo.json cannot be read: "+closed+" "+who+"700, and this runs as ") {
		t.Errorf("of a directory it says %v", refused)
	}
}
