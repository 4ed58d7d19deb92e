//go:build linux

package libvirtlab_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/libvirtlab"
	"github.com/machineries/machineries/internal/qcow2"
	"github.com/machineries/machineries/internal/require"
)

func inject(t *testing.T, b conformance.Bench, kind conformance.FaultKind) {
	t.Helper()
	if err := b.Inject(t.Context(), "a", conformance.Fault{Kind: kind}); err != nil {
		t.Fatal(err)
	}
}

func revert(t *testing.T, c *libvirt.Libvirt) libvirt.Domain {
	t.Helper()
	dom := onlyDomain(t, c)
	if err := c.DomainRevertToSnapshot(libvirt.DomainSnapshot{Name: "clean", Dom: dom}, 0); err != nil {
		t.Fatal(err)
	}
	return dom
}

func TestAMachineOutlivesItsDaemon(t *testing.T) {
	l := newLab(t, libvirtlab.Options{})
	b, _ := newBench(t, l, conformance.MachineSpec{Name: "a"})
	revert(t, connect(t, l))
	runsFrom(t, b)
	inject(t, b, conformance.FaultNoProgram)
	g, err := b.Guest(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if mark, err := g.Memory(t.Context(), 0); err != nil || mark != 1 {
		t.Errorf("without the daemon, the guest has the mark %#x, %v", mark, err)
	}
	if err := b.Heal(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	c := connect(t, l)
	state, _, err := c.DomainGetState(onlyDomain(t, c), 0)
	if err != nil || libvirt.DomainState(state) != libvirt.DomainRunning {
		t.Errorf("by the daemon that was started again, the state is %d, %v", state, err)
	}
}

func TestASilentDaemonAnswersNothingUntilItIsHealed(t *testing.T) {
	l := newLab(t, libvirtlab.Options{})
	b, _ := newBench(t, l, conformance.MachineSpec{Name: "a"})
	c := connect(t, l)
	dom := onlyDomain(t, c)
	inject(t, b, conformance.FaultSilent)
	answer := make(chan error, 1)
	go func() {
		_, _, err := c.DomainGetState(dom, 0)
		answer <- err
	}()
	select {
	case err := <-answer:
		t.Fatalf("a silent daemon answered: %v", err)
	case <-time.After(300 * time.Millisecond): // that nothing happens has no event
	}
	if err := b.Heal(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; err != nil {
		t.Errorf("when the daemon was healed: %v", err)
	}
}

func TestPlannedFaultsStrikeUnderARealLibvirtd(t *testing.T) {
	const words = "the suite refuses 4711"
	l := newLab(t, libvirtlab.Options{})
	for kind, want := range map[conformance.FaultKind]string{conformance.FaultRefuseStart: words, conformance.FaultNoise: "", conformance.FaultRefuseDump: ""} {
		t.Run(string(kind), func(t *testing.T) {
			b, dir := newBench(t, l, conformance.MachineSpec{Name: "a", Faults: []conformance.Fault{{Kind: kind, Text: words}}})
			c := connect(t, l)
			dom := onlyDomain(t, c)
			err := c.DomainRevertToSnapshot(libvirt.DomainSnapshot{Name: "clean", Dom: dom}, 0)
			if want == "" {
				if err != nil {
					t.Fatal(err)
				}
				runsFrom(t, b)
			} else if err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("the revert: %v; want the emulator's words %q", err, want)
			}
			if kind != conformance.FaultRefuseDump {
				return
			}
			err = c.DomainCoreDumpWithFormat(dom, filepath.Join(dir, "dump"), 0, libvirt.DumpMemoryOnly)
			if err == nil || !strings.Contains(err.Error(), words) {
				t.Errorf("the dump: %v; want the emulator's words %q", err, words)
			}
		})
	}
}

func TestAMemoryImageIsRestoredAboveTheMachinesDisk(t *testing.T) {
	l := newLab(t, libvirtlab.Options{})
	b, dir := newBench(t, l, conformance.MachineSpec{Name: "a", Kind: conformance.SnapshotMemory})
	c := connect(t, l)
	before, err := b.Originals(t.Context(), "a")
	if err != nil || len(before) != 2 {
		t.Fatalf("the originals are %v, %v; want the disk and the memory image", before, err)
	}
	files := b.Saved("a").Files
	overlay := filepath.Join(dir, "overlay.qcow2")
	if err := qcow2.CreateOverlay(overlay, files["disk"], "qcow2", 1<<20); err != nil {
		t.Fatal(err)
	}
	text, err := c.DomainSaveImageGetXMLDesc(files["memory image"], uint32(libvirt.DomainXMLSecure))
	if err != nil {
		t.Fatal(err)
	}
	// libvirt notes that the disk had nothing below it; with that left in, the
	// overlay has nothing below it either, and the guest's disk is empty.
	text = strings.ReplaceAll(strings.ReplaceAll(text, files["disk"], overlay), "<backingStore/>", "")
	if err := c.DomainRestoreFlags(files["memory image"], libvirt.OptString{text}, 0); err != nil {
		t.Fatal(err)
	}
	runsFrom(t, b)
	if err := c.DomainDestroy(onlyDomain(t, c)); err != nil {
		t.Fatal(err)
	}
	after, err := b.Originals(t.Context(), "a")
	if err != nil || fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the originals became %v, %v; they were %v", after, err, before)
	}
	left, err := b.Leftovers(t.Context())
	if err != nil || len(left) != 1 || !strings.Contains(left[0], overlay) {
		t.Errorf("left: %q, %v; want the overlay", left, err)
	}
}

func TestADaemonThatCrashesIsToldFromOneThatWasEnded(t *testing.T) {
	l := newLab(t, libvirtlab.Options{Daemon: "libvirtd", Driver: "test"})
	b, _ := newBench(t, l, conformance.MachineSpec{Name: "a"})
	if how := l.Crash(t.Context()); how != "" {
		t.Errorf("of a daemon that runs: %s", how)
	}
	inject(t, b, conformance.FaultNoProgram)
	if how := l.Crash(t.Context()); how != "" {
		t.Errorf("of one that the lab has ended: %s", how)
	}
	if err := b.Heal(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for _, path := range processes(t, filepath.Dir(l.Socket())) {
		if _, err := fmt.Sscanf(path, "/proc/%d", &pid); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Kill(pid, syscall.SIGSEGV); err != nil {
		t.Fatal(err)
	}
	if how := l.Crash(t.Context()); how != "libvirtd ended by the signal segmentation fault" {
		t.Errorf("of one that crashed: %q", how)
	}
}

// processes are the directories in /proc of the libvirtd in a directory.
func processes(t *testing.T, dir string) (found []string) {
	t.Helper()
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range paths {
		line, _ := os.ReadFile(path)
		if args := strings.Split(string(line), "\x00"); filepath.Base(args[0]) == "libvirtd" && strings.Contains(string(line), dir+"/") {
			found = append(found, filepath.Dir(path))
		}
	}
	if len(found) != 1 {
		t.Fatalf("the daemon in %s: %q", dir, found)
	}
	return found
}

// killedEnv makes the test below the child that it kills.
const killedEnv = "MACHINERY_TEST_KILLED"

func TestNothingRunsOnWhenTheProgramIsKilled(t *testing.T) {
	require.Tool(t, "libvirt", "/usr/sbin/libvirtd")
	require.Tool(t, "qemu", "qemu-system-x86_64")
	if os.Getenv(killedEnv) != "" {
		l := newLab(t, libvirtlab.Options{})
		b, dir := newBench(t, l, conformance.MachineSpec{Name: "a"})
		revert(t, connect(t, l))
		runsFrom(t, b)
		fmt.Println("running", dir, filepath.Dir(filepath.Dir(l.Socket())))
		<-t.Context().Done()
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), killedEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var dirs []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if words := strings.Fields(lines.Text()); len(words) == 3 && words[0] == "running" {
			dirs = words[1:]
			break
		}
	}
	_ = cmd.Process.Signal(syscall.SIGKILL)
	_ = cmd.Wait()
	if dirs == nil {
		t.Fatal("the child ran no machine")
	}
	defer func() {
		for _, dir := range dirs {
			os.RemoveAll(dir)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		left := mentioning(dirs)
		if len(left) == 0 {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("10 s after the program was killed: %q", left)
		}
	}
}

// mentioning lists the command lines that have one of the words in them.
func mentioning(words []string) (found []string) {
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range paths {
		line, _ := os.ReadFile(path)
		for _, word := range words {
			if strings.Contains(string(line), word) {
				found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
				break
			}
		}
	}
	return found
}
