//go:build linux

package qemu

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/machineries/machineries/drivers/internal/disposable"
	"github.com/machineries/machineries/drivers/qemu/monitor"
	"github.com/machineries/machineries/internal/require"
	"github.com/machineries/machineries/machinery"
)

// mediumCase is a way in which a machine has a second medium.
type mediumCase struct {
	args   []string // with FILE for the medium, as it is written there
	device string   // what QEMU's qemu-io calls it
	size   int
	qcow2  bool // the medium is an image of that format
}

var mediumCases = map[string]mediumCase{
	"hdb":                   {args: []string{"-hdb", "FILE"}, device: "ide1-hd0", size: 1 << 20},
	"drive, raw, ide":       {args: []string{"-drive", "file=FILE,format=raw,if=ide,index=2,id=second"}, device: "second", size: 1 << 20},
	"drive, probed, virtio": {args: []string{"-drive", "file=FILE,if=virtio,id=second"}, device: "second", size: 1 << 20},
	"drive, qcow2":          {args: []string{"-drive", "file=FILE,if=virtio,id=second,format=qcow2"}, device: "second", size: 1 << 20, qcow2: true},
	"drive, two keys, none": {args: []string{"-drive", "if=none,id=second,driver=raw,file.driver=file,file.filename=FILE", "-device", "virtio-blk-pci,drive=second"},
		device: "second", size: 1 << 20},
	"floppy":                  {args: []string{"-M", "pc", "-drive", "file=FILE,if=floppy,format=raw,id=second"}, device: "second", size: 1440 << 10},
	"fda":                     {args: []string{"-M", "pc", "-fda", "FILE"}, device: "floppy0", size: 1440 << 10},
	"variables of a firmware": {args: append(firmware, "-drive", "if=pflash,unit=1,format=raw,file=FILE,id=second"), device: "second", size: 64 << 10},
	"blockdev, dotted": {args: []string{"-blockdev", "raw,node-name=second,file.driver=file,file.filename=FILE", "-device", "ide-hd,drive=second,id=dev,bus=ide.2"},
		device: "-d dev", size: 1 << 20},
	"blockdev, JSON": {args: []string{"-blockdev", `{"driver":"raw","node-name":"second","file":{"driver":"file","filename":"FILE"}}`, "-device", "ide-hd,drive=second,id=dev,bus=ide.2"},
		device: "-d dev", size: 1 << 20},
	"blockdev, JSON, two nodes, qcow2": {args: []string{"-blockdev", `{"driver":"file","node-name":"below","filename":"FILE","auto-read-only":true}`,
		"-blockdev", `{"driver":"qcow2","node-name":"second","file":"below","read-only":false}`, "-device", `{"driver":"ide-hd","drive":"second","id":"dev","bus":"ide.2"}`},
		device: "-d dev", size: 1 << 20, qcow2: true},
	"blockdev, dotted, two nodes, firmware": {args: append(firmware, "-blockdev", "driver=file,node-name=below,filename=FILE", "-blockdev", "raw,file=below,node-name=vars",
		"-machine", "pflash1=vars"), device: "-d /machine/system.flash1", size: 64 << 10},
}

// firmware is SeaBIOS as the first flash memory, where firmware has its code; the second has its variables.
var firmware = []string{"-drive", "if=pflash,unit=0,readonly=on,format=raw,file=/usr/share/seabios/bios-256k.bin"}

// with is the arguments for a medium at that path.
func (c mediumCase) with(path string) []string {
	var args []string
	for _, arg := range c.args {
		written := path
		switch {
		case strings.HasPrefix(arg, "{"):
			written = asJSON("", path)
		case arg != "FILE":
			written = asSetting("", path)
		}
		args = append(args, strings.ReplaceAll(arg, "FILE", written))
	}
	return args
}

// qemuIO does something with a disk of a QEMU, as the guest would.
func qemuIO(t *testing.T, m *monitor.Monitor, device, words string) {
	t.Helper()
	var said string
	if err := m.Execute(limit(t), "human-monitor-command", map[string]any{"command-line": "qemu-io " + device + ` "` + words + `"`}, &said); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(said, "rror") || strings.Contains(said, "ailed") || strings.Contains(said, "not found") || strings.Contains(said, "nvalid") {
		t.Fatalf("%s: %s: %s", device, words, said)
	}
}

// bareQEMU starts a QEMU without the driver, and returns its monitor and what ends it.
func bareQEMU(t *testing.T, args []string) (*monitor.Monitor, func()) {
	t.Helper()
	require.Tool(t, "qemu", "qemu-system-x86_64")
	sock := filepath.Join(scratch(t), "q")
	var said bytes.Buffer
	cmd := exec.Command("qemu-system-x86_64", append(args, "-qmp", "unix:"+sock+",server=on,wait=off")...)
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	}
	t.Cleanup(end)
	ctx := limit(t)
	for {
		m, err := monitor.Dial(ctx, sock)
		if err == nil {
			t.Cleanup(func() { m.Close() })
			return m, end
		}
		if ctx.Err() != nil || syscallGone(cmd.Process) {
			end()
			t.Fatalf("%v: %s", err, said.String())
		}
		time.Sleep(5 * time.Millisecond) // the socket appears without a sign
	}
}

// syscallGone is whether a child has ended and only its exit status is left.
func syscallGone(p *os.Process) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// saveBare saves the memory of a QEMU to a file.
func saveBare(t *testing.T, m *monitor.Monitor, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := m.ExecuteFile(limit(t), "getfd", map[string]any{"fdname": "saved"}, f, nil); err != nil {
		t.Fatal(err)
	}
	if err := m.Execute(limit(t), "migrate", map[string]any{"uri": "fd:saved"}, nil); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		var progress struct{ Status string }
		if err := m.Execute(limit(t), "query-migrate", nil, &progress); err != nil {
			t.Fatal(err)
		}
		if progress.Status == "completed" {
			return
		}
		if progress.Status == "failed" || time.Now().After(deadline) {
			t.Fatalf("saving the machine: %s", progress.Status)
		}
		time.Sleep(5 * time.Millisecond) // the monitor of this test asks for no events
	}
}

// The snapshot is made by a QEMU that has the files themselves, without a driver: what the device in the guest has saved goes with
// a device above an overlay.
func TestEveryWritableMediumRevertsAtARestore(t *testing.T) {
	for name, c := range mediumCases {
		t.Run(name, func(t *testing.T) {
			s, vm, file := mediumSite(t, c)
			kept := map[string][]byte{file: nil, vm.Disk: nil}
			for path := range kept {
				content, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				kept[path] = content
			}
			m := s.open(machinery.Options{})
			v := m.frame.Named("vm")
			for range 2 {
				if err := m.RestoreStart(limit(t), "vm"); err != nil {
					t.Fatal(err)
				}
				q, err := v.run.master(limit(t))
				if err != nil {
					t.Fatal(err)
				}
				qemuIO(t, q, c.device, "read -P 0x22 0 512")
				qemuIO(t, q, "ide0-hd0", "read -P 0x44 65536 512")
				for device, at := range map[string]string{c.device: "0", "ide0-hd0": "65536"} {
					qemuIO(t, q, device, "write -P 0x33 "+at+" 512")
					qemuIO(t, q, device, "read -P 0x33 "+at+" 512")
				}
				if len(v.overlays) != 2 {
					t.Errorf("overlays are %q, want two", v.overlays)
				}
				for _, overlay := range v.overlays {
					if !disposable.Written(overlay) {
						t.Errorf("QEMU does not write to %s", overlay)
					}
				}
				if err := m.Stop(limit(t), "vm"); err != nil {
					t.Fatal(err)
				}
			}
			for path, content := range kept {
				if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, content) {
					t.Errorf("%s itself was written to (%v)", path, err)
				}
			}
			s.clean()
		})
	}
}

// mediumSite is a site with a machine that has a medium besides its disk, saved with marks on both.
func mediumSite(t *testing.T, c mediumCase) (s *site, vm *MachineConfig, file string) {
	t.Helper()
	require.Tool(t, "qemu", "qemu-system-x86_64")
	s = newSite(t)
	vm = s.add("vm", append(bootSector(), make([]byte, 1<<20-512)...), nil)
	file = s.write("a,medium", make([]byte, c.size))
	if c.qcow2 {
		if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", file, fmt.Sprint(c.size)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	vm.Args = append(machineArgs(), c.with(file)...)
	bare := append(machineArgs(), c.with(file)...)
	for i, arg := range bare {
		bare[i] = strings.ReplaceAll(arg, "file="+placeholder+",format=qcow2", "file="+vm.Disk+",format=raw")
	}
	m, end := bareQEMU(t, bare)
	qemuIO(t, m, c.device, "write -P 0x22 0 512")
	qemuIO(t, m, "ide0-hd0", "write -P 0x44 65536 512")
	saveBare(t, m, vm.Snapshot)
	m.Close()
	end()
	return s, vm, file
}

func TestToolsCannotWriteToAMediumOfARunningMachine(t *testing.T) {
	require.Tool(t, "qemu", "qemu-io")
	require.Tool(t, "qemu", "qemu-img")
	s, vm, file := mediumSite(t, mediumCases["drive, qcow2"])
	m := s.open(machinery.Options{})
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{
		{"qemu-io", "-f", "qcow2", "-c", "write 0 512", file},
		{"qemu-io", "-f", "raw", "-c", "write 0 512", vm.Disk},
		{"qemu-img", "resize", "-q", "-f", "qcow2", file, "2M"},
		{"qemu-img", "resize", "-q", "-f", "raw", vm.Disk, "2M"},
		{"qemu-system-x86_64", "-accel", "tcg", "-M", "q35", "-m", "16", "-nodefaults", "-display", "none", "-S", "-drive", "file=" + file + ",format=qcow2,if=virtio"},
	} {
		command[len(command)-1] = strings.ReplaceAll(command[len(command)-1], "a,medium,", "a,,medium,")
		out, err := exec.CommandContext(limit(t), command[0], command[1:]...).CombinedOutput()
		if err == nil || !bytes.Contains(out, []byte(`lock`)) {
			t.Errorf("%q: %v, %s; want it refused because of a lock", command, err, out)
		}
	}
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	s.clean()
}
