//go:build linux && !race

// go-qemu has a data race of its own (its reader hands out bytes that it overwrites), which
// the race detector finds in its replies and which is not what is tested here.

package qemu

import (
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"testing"
	"time"

	dqemu "github.com/digitalocean/go-qemu/qemu"
	"github.com/digitalocean/go-qemu/qmp"
	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/internal/require"
)

// domainFacts is what the methods of go-qemu's Domain say of a machine.
type domainFacts struct {
	Status, Afterwards, Version, Package string
	HasQuit, HasNonsense                 bool
	Devices                              []string
	Jobs, Stats                          int
	PCI                                  []string
	ScreenMagic                          string
	CPUs                                 string
}

// askDomain uses an unmodified go-qemu on the monitor at socket.
func askDomain(t *testing.T, socket string) domainFacts {
	t.Helper()
	mon, err := qmp.NewSocketMonitor("unix", socket, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := mon.Connect(); err != nil {
		t.Fatal(err)
	}
	dom, err := dqemu.NewDomain(mon, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer dom.Close()
	var f domainFacts
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	st, err := dom.Status()
	must(err)
	f.Status = st.String()
	f.Version, err = dom.Version()
	must(err)
	f.Package, err = dom.PackageVersion()
	must(err)
	f.HasQuit, err = dom.Supported("quit")
	must(err)
	f.HasNonsense, err = dom.Supported("nonsense")
	must(err)
	devices, err := dom.BlockDevices()
	must(err)
	for _, d := range devices {
		f.Devices = append(f.Devices, d.Device+" "+d.Inserted.Driver)
	}
	jobs, err := dom.BlockJobs()
	must(err)
	stats, err := dom.BlockStats()
	must(err)
	f.Jobs, f.Stats = len(jobs), len(stats)
	pci, err := dom.PCIDevices()
	must(err)
	for _, d := range pci {
		f.PCI = append(f.PCI, d.ClassInfo.Desc)
	}
	sort.Strings(f.PCI)
	if _, err := dom.CPUs(); err != nil {
		f.CPUs = err.Error() // QEMU 7.2 has no query-cpus any more
	}
	screen, err := dom.ScreenDump()
	must(err)
	magic := make([]byte, 2)
	_, err = io.ReadFull(screen, magic)
	must(err)
	must(screen.Close())
	f.ScreenMagic = string(magic)
	stream, done, err := dom.Events()
	must(err)
	// go-qemu does nothing else while an event is unread, and events come before the
	// replies of the commands that cause them.
	events := make(chan string, 64)
	go func() {
		for e := range stream {
			events <- e.Event
		}
		close(events)
	}()
	must(dom.SystemReset())
	must(dom.SystemPowerdown())
	for _, want := range []string{"RESET", "POWERDOWN"} {
		select {
		case e := <-events:
			if e != want {
				t.Errorf("event %s, want %s", e, want)
			}
		case <-time.After(patience):
			t.Fatalf("no event %s", want)
		}
	}
	_, err = dom.Run(qmp.Command{Execute: "cont"})
	must(err)
	st, err = dom.Status()
	must(err)
	f.Afterwards = st.String()
	done <- struct{}{}
	return f
}

func TestGoQemuWorksUnmodified(t *testing.T) {
	in := install(t, Options{})
	disk := filepath.Join(shortDir(t), "disk")
	bootDisk(t, disk)
	args := []string{"-display", "none", "-nodefaults", "-vga", "std", "-accel", "tcg", "-M", "pc", "-m", "16", "-S", "-drive", "file=" + disk + ",if=ide,format=raw"}
	fake := start(t, in.Emulator, args...)
	got := askDomain(t, fake.socket)
	want := domainFacts{
		Status: "StatusPreLaunch", Afterwards: "StatusRunning", Version: "7.2.22", Package: versionPackage, HasQuit: true,
		Devices: []string{"ide0-hd0 raw"}, Stats: 1, ScreenMagic: "P6", CPUs: "The command query-cpus has not been found",
		PCI: []string{"Bridge", "Host bridge", "IDE controller", "ISA bridge"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("on the fake (-want +got):\n%s", diff)
	}
	if got := commandNames(in); !slices.Contains(got, "query-block") || !slices.Contains(got, "system_reset") {
		t.Errorf("the installation saw %v", got)
	}
}

func TestGoQemuSaysTheSameOfTheRealEmulator(t *testing.T) {
	require.Tool(t, "qemu", emulatorName)
	real, err := exec.LookPath(emulatorName)
	if err != nil {
		t.Fatal(err)
	}
	in := install(t, Options{})
	disk := filepath.Join(shortDir(t), "disk")
	bootDisk(t, disk)
	args := []string{"-display", "none", "-nodefaults", "-device", "VGA", "-accel", "tcg", "-M", "q35", "-m", "16", "-S", "-drive", "file=" + disk + ",if=ide,format=raw"}
	fake := start(t, in.Emulator, args...)
	onFake := askDomain(t, fake.socket)
	fake.cmd.Process.Kill()
	<-fake.done
	onReal := askDomain(t, start(t, real, args...).socket)
	// Devices that are added are not in the fake's list, and other builds are other
	// versions.
	ignore := cmp.FilterPath(func(p cmp.Path) bool {
		n := p.Last().String()
		return n == ".PCI" || n == ".Version" || n == ".Package"
	}, cmp.Ignore())
	if diff := cmp.Diff(onReal, onFake, ignore); diff != "" {
		t.Errorf("(-real +fake):\n%s", diff)
	}
}

func commandNames(in *Installation) []string {
	var all []string
	for _, p := range in.Processes() {
		all = append(all, p.Commands()...)
	}
	return all
}
