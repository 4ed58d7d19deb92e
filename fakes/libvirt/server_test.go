package libvirt

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// machineXML is a domain with a bootable disk.
func machineXML(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name+".qcow2")
	if err := makeDisk(path); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`<domain type='qemu'>
  <name>%s</name>
  <memory unit='MiB'>16</memory>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>
  <devices>
     <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='%s'/><target dev='vda' bus='virtio'/></disk>
    <video><model type='vga'/></video>
  </devices>
</domain>`, name, path)
}

func TestAMachineStartsAndStops(t *testing.T) {
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d, err := s.Define(machineXML(t, "a"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	if state, reason := d.State(); state != stateRunning || reason != runningBooted || !d.Running() {
		t.Errorf("after the start: %d %d", state, reason)
	}
	if err := d.Destroy(); err != nil {
		t.Fatal(err)
	}
	if state, reason := d.State(); state != stateOff || reason != offDestroyed || d.Running() {
		t.Errorf("after destroy: %d %d", state, reason)
	}
}

// started is a server with a domain.
func started(t *testing.T, o Options, name string) (*Server, *Domain) {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	d, err := s.Define(machineXML(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return s, d
}

// awaitCalls waits until the calls that came in satisfy a condition.
func awaitCalls(t *testing.T, s *Server, enough func([]Call) bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !enough(s.Calls()) {
		if time.Now().After(deadline) {
			t.Fatalf("these calls came in: %v", s.Calls())
		}
		time.Sleep(time.Millisecond) // the record of calls has no event of its own
	}
}

func count(calls []Call, procedure string) (n int) {
	for _, c := range calls {
		if c.Procedure == procedure {
			n++
		}
	}
	return n
}
