//go:build linux

package qemu

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/internal/require"
)

// theDisk is what every list of arguments needs besides those that a test is about.
const theDisk = "file=" + placeholder + ",format=qcow2,if=ide"

func TestInterferingArgumentsAreRefusedWithOneAndTwoDashes(t *testing.T) {
	for _, c := range []struct {
		args string // separated by blanks
		want string // "" for arguments that are taken
	}{
		{"-S", "keeps the machine from running"},
		{"-preconfig", "keeps the machine from running"},
		{"-incoming tcp:0:4444", "where the machine's state comes from"},
		{"-loadvm clean", "where the machine's state comes from"},
		{"-monitor stdio", "its own monitors"},
		{"-monitor none", ""},
		{"-qmp unix:/tmp/q,server=on", "its own monitors"},
		{"-qmp none", "its own monitors"}, // no device of that name, says QEMU
		{"-qmp-pretty none", "its own monitors"},
		{"-qmp-pretty tcp:localhost:1", "its own monitors"},
		{"-mon chardev=x,mode=control", "its own monitors"},
		{"-serial mon:stdio", "its own monitors"},
		{"-daemonize", "lose track of the process"},
		{"-pidfile /tmp/pid", "left behind"},
		{"-nographic", "no terminal"},
		{"-readconfig /etc/x", "cannot be checked"},
		{"-runas nobody", "rights"},
		{"-chroot /tmp", "rights"},
		{"-snapshot", "disposable disk"},
		{"-no-shutdown", "switches itself off"},
		{"-action shutdown=pause", "switches itself off"},
		{"-action reboot=shutdown,shutdown=pause", "switches itself off"},
		{"-action shutdown=poweroff", ""},
		{"-add-fd fd=3,set=1", "descriptors"},
		{"-netdev tap,id=n,fd=3", "descriptors"},
		{"-netdev tap,id=n,vhostfds=3:4", "descriptors"},
		{"-netdev stream,id=n,addr.type=fd,addr.str=3", ""}, // QEMU wants a descriptor by name there, and there is none
		{"-chardev socket,id=x,fd=3", "descriptors"},
		{`-netdev {"type":"tap","id":"n","fd":"3"}`, "descriptors"},
		{`-netdev {"type":"user","id":"n"}`, ""},
		{`-device {"driver":"virtserialport","chardev":"machinery-qmp"}`, "driver's own"},
		{`-object {"qom-type":`, "not JSON"},
		{"-chardev socket,id=machinery-qmp,path=/tmp/x", "driver's own"},
		{"-chardev null,id=machinery-x", "driver's own"},
		{"-device virtserialport,chardev=machinery-qmp", "driver's own"},
		{"-serial chardev:machinery-read", "driver's own"},
		{"-set chardev.machinery-qmp.path=/tmp/x", "driver's own"},
		{"-global migration.x-events=off", "properties of the migration"},
		{"-global driver=migration,property=x-events,value=off", "properties of the migration"},
		{"-global kvm-pit.lost_tick_policy=discard", ""},
		{"-help", "print something and exit"},
		{"-version", "print something and exit"},
		{"-tpmdev emulator,id=t,chardev=c", "TPM"},
		{"-drive file=/tmp/data.qcow2,if=virtio", ""},
		{"-drive if=pflash,format=raw,file=/tmp/OVMF_VARS.fd", ""},
		{"-drive if=pflash,format=raw,readonly=on,file=/tmp/OVMF_CODE.fd", ""},
		{"-drive file=/tmp/cd.iso,media=cdrom", ""},
		{"-drive file=/tmp/data.raw,snapshot=on", ""},
		{"-drive file=/tmp/data.raw,readonly=on,readonly=off", ""},
		{"-drive driver=qcow2,file.driver=file,file.filename=/tmp/x", ""},
		{"-drive if=none,id=empty", ""},
		{"-drive file=fat:rw:/srv/share", "would not revert it"},
		{"-hdb /tmp/data.qcow2", ""},
		{"-pflash /tmp/vars.fd", ""},
		{"-fda /tmp/floppy.img", ""},
		{"-cdrom /tmp/cd.iso", ""},
		{"/tmp/data.qcow2", ""},
		{"-blockdev driver=file,node-name=f,filename=/tmp/x", "would not revert it"},
		{"-blockdev driver=file,node-name=f,filename=/tmp/x,read-only=on", ""},
		{`-blockdev {"driver":"qcow2","node-name":"d","file":{"driver":"file","filename":"/tmp/x"}}`, ""},
		{`-blockdev {"driver":"raw","node-name":"d","read-only":true,"file":{"driver":"file","filename":"/tmp/x"}}`, ""},
		{`-blockdev {"driver":`, "not JSON"},
		{"-virtfs local,path=/srv,mount_tag=s,security_model=none", "would not revert it"},
		{"-virtfs local,path=/srv,mount_tag=s,security_model=none,readonly=on", ""},
		// What only looks like an option is a value.
		{"-serial file:/vms/win10-snapshot/serial.log", ""},
		{"-name -S", ""},
		{"-append -daemonize", ""},
		{"-vnc :1 -usb -device usb-tablet -no-reboot -enable-kvm -rtc base=utc", ""},
		{"-netdev bridge,id=n,br=br0 -device e1000,netdev=n,mac=52:54:00:12:34:56", ""},
		{"-m", "its value is missing"},
		{"-no-such-option", "QEMU has no such option"},
		{"-cdrom %DISPOSABLE_DISK_PATH%", "2 disks"},
		{"-hdb %DISPOSABLE_DISK_PATH%", "2 disks"},
		{"%DISPOSABLE_DISK_PATH%", "2 disks"},
		{"-drive file=%DISPOSABLE_DISK_PATH%,if=virtio", "2 disks"},
		{`-blockdev {"driver":"file","node-name":"d","filename":"%DISPOSABLE_DISK_PATH%"}`, "2 disks"},
		{"-name %DISPOSABLE_DISK_PATH%", ""},
	} {
		given := strings.Fields(c.args)
		if strings.Contains(c.args, "{") {
			given = strings.SplitN(c.args, " ", 2)
		}
		for _, dashes := range []string{"-", "--"} {
			args := append([]string{"-drive", theDisk}, given...)
			if strings.HasPrefix(args[2], "-") {
				args[2] = dashes + args[2][1:]
			}
			err := CheckArgs(args, "")
			switch {
			case c.want == "" && err != nil:
				t.Errorf("%q: refused: %v", args[2:], err)
			case c.want != "" && err == nil:
				t.Errorf("%q: taken, want an error with %q", args[2:], c.want)
			case c.want == "2 disks" && !strings.Contains(err.Error(), placeholder):
				t.Errorf("%q: %v does not name the placeholder", args[2:], err)
			case c.want != "" && (!strings.Contains(err.Error(), c.want) || c.want != "2 disks" && !strings.Contains(err.Error(), args[2])):
				t.Errorf("%q: error is %v, want the argument and %q", args[2:], err, c.want)
			}
		}
	}
}

func TestAPlaceholderThatIsInNoDriveIsRefused(t *testing.T) {
	for _, args := range [][]string{
		{"-name", placeholder},
		{"-drive", "file=/tmp/x,readonly=on", "-name", "vm,process=" + placeholder},
		{"-kernel", placeholder},
		{"-device", "loader,file=" + placeholder},
	} {
		if err := CheckArgs(args, ""); err == nil || !strings.Contains(err.Error(), "no disk of the machine is at "+placeholder) {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestAllThatIsWrongWithArgumentsIsSaidAtOnce(t *testing.T) {
	err := CheckArgs([]string{"-S", "-drive", "file=nbd:x", "-qmp", "stdio"}, "")
	for _, want := range []string{`"-S"`, `"-drive file=nbd:x"`, `"-qmp stdio"`, placeholder} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %s in it", err, want)
		}
	}
}

func TestAnArgumentThatNamesTheBaseDiskIsRefusedByWhicheverName(t *testing.T) {
	dir := scratch(t)
	base := filepath.Join(dir, "base,1.qcow2")
	for _, err := range []error{
		os.WriteFile(base, nil, 0o600),
		os.Symlink(base, filepath.Join(dir, "link")),
		os.Link(base, filepath.Join(dir, "hard")),
		os.Mkdir(filepath.Join(dir, "sub"), 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"-drive", "file=" + strings.ReplaceAll(base, ",", ",,") + ",readonly=on"},
		{"-drive", "file=" + dir + "/link,snapshot=on"},
		{"-drive", "file=" + dir + "/sub/../hard,media=cdrom"},
		{"-drive", "file.filename=file:" + dir + "/hard"},
		{"-hda", dir + "/link"},
		{dir + "/link"},
		{"-blockdev", "driver=file,node-name=x,read-only=on,filename=" + dir + "/link"},
		{"-blockdev", `{"driver":"file","node-name":"x","read-only":true,"filename":"` + dir + `/link"}`},
	} {
		err := CheckArgs(append([]string{"-drive", theDisk}, args...), base)
		if err == nil || !strings.Contains(err.Error(), "base disk") {
			t.Errorf("%q: %v, want it refused as the base disk", args, err)
		}
	}
}

func TestTheDiskPathIsWrittenAsEachOptionReadsIt(t *testing.T) {
	const path = `/a,b/"c" <d>` + "\n\\e"
	for _, c := range []struct{ option, value, want string }{
		{"-drive", "file=%,if=ide", `file=/a,,b/"c" <d>` + "\n" + `\e,if=ide`},
		{"--drive", "if=ide,file=%", `if=ide,file=/a,,b/"c" <d>` + "\n" + `\e`},
		{"-hda", "%", path},
		{"-blockdev", `{"filename":"%"}`, `{"filename":"/a,b/\"c\" <d>\n\\e"}`},
		{"-drive", `file=json:{"file.filename":"%"}`, `file=json:{"file.filename":"/a,,b/\"c\" <d>\n\\e"}`},
		{"-blockdev", "driver=file,filename=%,node-name=%", `driver=file,filename=/a,,b/"c" <d>` + "\n" + `\e,node-name=/a,,b/"c" <d>` + "\n" + `\e`},
	} {
		line, err := parseArgs([]string{"-usb", c.option, strings.ReplaceAll(c.value, "%", placeholder), "-m", "16"}, "")
		if err != nil {
			t.Errorf("%s %s: %v", c.option, c.value, err)
			continue
		}
		want := []string{"-usb", c.option, c.want, "-m", "16"}
		if got := line.with(path); !slices.Equal(got, want) {
			t.Errorf("%s %s: got %q, want %q", c.option, c.value, got, want)
		}
	}
	if line, err := parseArgs([]string{placeholder}, ""); err != nil || line.with(path)[0] != path {
		t.Errorf("the disk alone: %v", err)
	}
}

// The table says which options take no value. If it were wrong, an option after such a one would be taken for a value and not
// be looked at.
func TestTheOptionTableAgreesWithTheRealQEMU(t *testing.T) {
	require.Tool(t, "qemu", "qemu-system-x86_64")
	s := newSite(t)
	for name, o := range options {
		if slices.Contains([]string{"h", "help", "version", "audio-help", "daemonize", "xen-attach"}, name) {
			continue // these do not get to the next argument, or leave a process
		}
		// The second argument is this option's value, or the first option that does not exist.
		p, err := process.Spawn(s.config.QEMU, []string{"-" + name, "-no-such-option", "-nor-this"}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !p.Wait(cleanupTime) {
			p.Kill()
			p.Wait(cleanupTime)
		}
		said := p.Tail()
		p.Release()
		if strings.Contains(said, "-"+name+": invalid option") {
			continue // of another version of QEMU
		}
		if flag := strings.Contains(said, "-no-such-option: invalid option"); flag != o.flag {
			t.Errorf("-%s: the table says flag=%v, QEMU says %q", name, o.flag, said)
		}
	}
}
