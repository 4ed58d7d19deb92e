package libvirt

import (
	"bufio"
	"context"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/machineries/machineries/internal/require"
)

// virsh runs an unmodified virsh and returns what it prints, without what is
// around it.
func virsh(t *testing.T, s *Server, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, _ := exec.CommandContext(ctx, "virsh", append([]string{"-c", s.URI()}, args...)...).CombinedOutput() // what it says tells whether it failed
	return strings.TrimSpace(string(out))
}

func TestVirshSeesWhatItSeesOfLibvirt(t *testing.T) {
	require.Tool(t, "libvirt", "virsh")
	s, _ := started(t, Options{Durations: virshDurations}, "tc")
	dir := t.TempDir()
	core, image, picture := filepath.Join(dir, "core"), filepath.Join(dir, "image"), filepath.Join(dir, "picture")
	// All of it is what virsh 9.0.0 printed of libvirt 9.0.0 and QEMU 7.2.22, but
	// for the paths.
	for _, c := range []struct{ args, want string }{
		{"list --all", " Id   Name   State\n-----------------------\n -    tc     shut off"},
		{"domstate tc --reason", "shut off (unknown)"},
		{"destroy tc", "error: Failed to destroy domain 'tc'\nerror: Requested operation is not valid: domain is not running"},
		{"shutdown tc", "error: Failed to shutdown domain 'tc'\nerror: Requested operation is not valid: domain is not running"},
		{"domjobinfo tc", "error: Requested operation is not valid: domain is not running"},
		{"snapshot-current tc", "error: domain 'tc' has no current snapshot"},
		{"snapshot-revert tc nosuch", "error: Domain snapshot not found: no domain snapshot with matching name 'nosuch'"},
		{"snapshot-revert tc --current", "error: Domain snapshot not found: the domain does not have a current snapshot"},
		{"domstate nosuch", "error: failed to get domain 'nosuch'"},
		{"start tc", "Domain 'tc' started"},
		{"start tc", "error: Domain is already active"},
		{"list", " Id   Name   State\n----------------------\n 1    tc     running"},
		{"domstate tc --reason", "running (booted)"},
		{"resume tc", "error: Failed to resume domain 'tc'\nerror: Requested operation is not valid: domain is already running"},
		{"domjobinfo tc", "Job type:         None"},
		{"domjobabort tc", "error: Requested operation is not valid: no job is active on the domain"},
		{"snapshot-create-as tc run1", "Domain snapshot run1 created"},
		{"snapshot-create-as tc run1", "error: operation failed: domain moment run1 already exists"},
		{"domstate tc --reason", "running (unpaused)"},
		{"suspend tc", "Domain 'tc' suspended"},
		{"suspend tc", "Domain 'tc' suspended"},
		{"domstate tc --reason", "paused (user)"},
		{"snapshot-create-as tc pau1", "Domain snapshot pau1 created"},
		{"list", " Id   Name   State\n---------------------\n 1    tc     paused"},
		{"snapshot-list tc --roots --name", "run1"},
		{"snapshot-list tc --leaves --name", "pau1"},
		{"snapshot-list tc --tree", "run1\n  |\n  +- pau1"},
		{"snapshot-current tc --name", "pau1"},
		{"snapshot-info tc pau1", "Name:           pau1\nDomain:         tc\nCurrent:        yes\nState:          paused\nLocation:       internal\nParent:         run1\nChildren:       0\nDescendants:    0\nMetadata:       yes"},
		{"resume tc", "Domain 'tc' resumed"},
		{"destroy tc", "Domain 'tc' destroyed"},
		{"domstate tc --reason", "shut off (destroyed)"},
		{"snapshot-create-as tc off1", "Domain snapshot off1 created"},
		{"snapshot-revert tc run1", "Domain snapshot run1 reverted"},
		{"domstate tc --reason", "running (from snapshot)"},
		{"domid tc", "2"},
		{"snapshot-revert tc pau1", "Domain snapshot pau1 reverted"},
		{"domstate tc --reason", "paused (from snapshot)"},
		{"snapshot-revert tc pau1 --running", "Domain snapshot pau1 reverted"},
		{"domstate tc --reason", "running (from snapshot)"},
		{"snapshot-revert tc off1", "Domain snapshot off1 reverted"},
		{"domstate tc --reason", "shut off (from snapshot)"},
		{"snapshot-revert tc off1 --running", "Domain snapshot off1 reverted"},
		{"domstate tc --reason", "running (booted)"},
		{"dump tc " + core + " --memory-only", "Domain 'tc' dumped to " + core},
		{"dump tc /nonexistent/x --memory-only", "error: Failed to core dump domain 'tc' to /nonexistent/x\nerror: Failed to create file '/nonexistent/x': No such file or directory"},
		{"dump tc " + core + " --memory-only --format kdump-lzo", "error: Failed to core dump domain 'tc' to " + core + "\nerror: invalid argument: unsupported dumpformat 'kdump-lzo' for this QEMU binary"},
		{"screenshot tc " + picture, "Screenshot saved to " + picture + ", with type of image/png"},
		{"domstats tc --state", "Domain: 'tc'\n  state.state=1\n  state.reason=5"},
		{"save tc " + image, "Domain 'tc' saved to " + image},
		{"domstate tc --reason", "shut off (saved)"},
		{"restore " + image, "Domain restored from " + image},
		{"domstate tc --reason", "running (restored)"},
		{"restore " + image, "error: Failed to restore domain from " + image + "\nerror: Requested operation is not valid: domain 'tc' is already active"},
		{"managedsave tc", "Domain 'tc' state saved by libvirt"},
		{"start tc --paused", "Domain 'tc' started"},
		{"domstate tc --reason", "paused (migrating)"},
		{"destroy tc", "Domain 'tc' destroyed"},
		{"restore /nonexistent", "error: Failed to restore domain from /nonexistent\nerror: Failed to open file '/nonexistent': No such file or directory"},
		{"undefine tc", "error: Failed to undefine domain 'tc'\nerror: Requested operation is not valid: cannot delete inactive domain with 3 snapshots"},
		{"snapshot-delete tc pau1", "Domain snapshot pau1 deleted"},
		{"snapshot-list tc --name", "off1\nrun1"},
		{"undefine tc --snapshots-metadata", "Domain 'tc' has been undefined"},
		{"list --all", " Id   Name   State\n--------------------"},
	} {
		if got := virsh(t, s, strings.Fields(c.args)...); got != strings.TrimSpace(c.want) {
			t.Errorf("virsh %s:\n%s\nwant\n%s", c.args, got, c.want)
		}
	}
}

func TestVirshShowsADomain(t *testing.T) {
	require.Tool(t, "libvirt", "virsh")
	s, d := started(t, Options{}, "tc")
	want := []string{
		"Id:             -", "Name:           tc", "UUID:           " + d.UUID(), "OS Type:        hvm", "State:          shut off", "CPU(s):         1",
		"Max memory:     16384 KiB", "Used memory:    16384 KiB", "Persistent:     yes", "Autostart:      disable", "Managed save:   no",
		"Security model: none", "Security DOI:   0",
	}
	if got := virsh(t, s, "dominfo", "tc"); got != strings.Join(want, "\n") {
		t.Errorf("dominfo:\n%s", got)
	}
	if got := virsh(t, s, "dumpxml", "tc"); got != strings.TrimSpace(d.XML(false)) {
		t.Errorf("dumpxml:\n%s", got)
	}
}

// times is what virsh prints of a time and of a duration.
var times = regexp.MustCompile(`[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8} [+-][0-9]{4}|[0-9]+[.][0-9]s`)

func TestVirshShowsAMachineThatRunsAndItsSnapshots(t *testing.T) {
	require.Tool(t, "libvirt", "virsh")
	s, d := started(t, Options{}, "tc")
	for _, step := range []func() error{d.Start, func() error { return d.TakeSnapshot("run1") }, d.Suspend, func() error { return d.TakeSnapshot("pau1") }} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	// As virsh 9.0.0 prints it of libvirt 9.0.0, but for the times.
	for _, c := range []struct{ args, want string }{
		{"snapshot-list tc", " Name   Creation Time               State\n---------------------------------------------\n pau1   (time)   paused\n run1   (time)   running"},
		{"dominfo tc", "Id:             1\nName:           tc\nUUID:           " + d.UUID() + "\nOS Type:        hvm\nState:          paused\nCPU(s):         1\nCPU time:       (time)\n" +
			"Max memory:     16384 KiB\nUsed memory:    16384 KiB\nPersistent:     yes\nAutostart:      disable\nManaged save:   no\nSecurity model: none\nSecurity DOI:   0"},
		{"dumpxml tc", strings.TrimSpace(d.XML(false))},
		{"dumpxml tc --inactive", strings.TrimSpace(d.XML(true))},
	} {
		if got := times.ReplaceAllString(virsh(t, s, strings.Fields(c.args)...), "(time)"); got != strings.TrimSpace(c.want) {
			t.Errorf("virsh %s:\n%s\nwant\n%s", c.args, got, c.want)
		}
	}
	if live := d.XML(false); !strings.Contains(live, "id='1'") || strings.Contains(d.XML(true), "id='1'") {
		t.Errorf("the machine's own id is not in the XML of its run alone:\n%s", live)
	}
}

func TestVirshEndsAMachineByItsPowerButton(t *testing.T) {
	require.Tool(t, "libvirt", "virsh")
	s, d := started(t, Options{}, "tc")
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "the guest has booted", func() bool { return d.Guest().Info().Booted })
	if got := virsh(t, s, "shutdown", "tc"); got != "Domain 'tc' is being shutdown" {
		t.Error(got)
	}
	await(t, "the guest has switched itself off", func() bool { return !d.Running() })
	if got := virsh(t, s, "domstate", "tc", "--reason"); got != "shut off (shutdown)" {
		t.Error(got)
	}
}

func TestVirshSeesEventsInLibvirtsOrder(t *testing.T) {
	require.Tool(t, "libvirt", "virsh")
	s, d := started(t, Options{}, "tc")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "stdbuf", "-oL", "virsh", "-c", s.URI(), "event", "--all", "--loop")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cancel()
	// It says nothing when it has registered; its last call tells.
	awaitCalls(t, s, func(c []Call) bool { return count(c, "ConnectDomainEventCallbackRegisterAny") == kinds })
	lines := bufio.NewScanner(out)
	for _, step := range []struct {
		do   func() error
		want []string
	}{
		{d.Start, []string{"Resumed Unpaused", "Started Booted"}},
		{func() error { return d.TakeSnapshot("r") }, []string{"Suspended Paused", "iteration: '1'", "iteration: '2'", "Resumed Unpaused"}},
		{d.Suspend, []string{"Suspended Paused"}},
		{func() error { return d.TakeSnapshot("p") }, []string{"iteration: '1'", "iteration: '2'"}},
		{func() error { return d.Revert("r") }, []string{"Stopped Snapshot", "Started Snapshot", "Resumed Snapshot", "Defined Snapshot"}},
		{func() error { return d.Revert("p") }, []string{"Stopped Snapshot", "Started Snapshot", "Suspended Snapshot", "Defined Snapshot"}},
		{d.Destroy, []string{"Shutdown Finished after host request", "Stopped Destroyed"}},
		{func() error { d.Undefine(); return nil }, []string{"Undefined Removed"}},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		for _, want := range step.want {
			if !lines.Scan() || !strings.HasSuffix(lines.Text(), want) {
				t.Fatalf("virsh shows %q, want %q", lines.Text(), want)
			}
		}
	}
}

func TestVirshWorksWithTheTestFlavour(t *testing.T) {
	require.Tool(t, "libvirt", "virsh")
	s, _ := started(t, Options{Flavour: Test}, "tc")
	for _, c := range []struct{ args, want string }{
		{"start tc", "Domain 'tc' started"},
		{"shutdown tc", "Domain 'tc' is being shutdown"},
		{"domstate tc --reason", "shut off (shutdown)"},
		{"suspend tc", "error: Failed to suspend domain 'tc'\nerror: internal error: domain 'tc' not running"},
	} {
		if got := virsh(t, s, strings.Fields(c.args)...); got != c.want {
			t.Errorf("virsh %s:\n%s\nwant\n%s", c.args, got, c.want)
		}
	}
}
