//go:build linux

package qemu

import (
	"strings"
	"testing"

	"github.com/machineries/machineries/machinery"
)

// arguments splits a line at its blanks, but for a value in JSON.
func arguments(line string) []string {
	if strings.Contains(line, "{") {
		return strings.SplitN(line, " ", 2)
	}
	return strings.Fields(line)
}

func TestWhatCouldHarmTheHostNeedsTheUsersWord(t *testing.T) {
	for _, c := range []struct{ args, allow, risk string }{
		{"-gdb tcp::1234", "-gdb", "memory"},
		{"--gdb tcp::1234", "-gdb", "memory"},
		{"-s", "-s", "memory"},
		{"-netdev tap,id=n", "-netdev tap", "/etc/qemu-ifup"},
		{"-netdev tap,id=n,script=/root/up,downscript=no", "-netdev tap", "program"},
		{"-netdev tap,id=n,script=no,downscript=no,script=/root/up", "-netdev tap", "program"},
		{"-netdev type=tap,id=n,script=no", "-netdev tap", "program"},
		{`-netdev {"type":"tap","id":"n"}`, "-netdev tap", "program"},
		{"-netdev bridge,id=n,br=br0,helper=/tmp/x", "-netdev bridge", "program"},
		{"-netdev user,id=n,hostfwd=tcp::22-:22", "-netdev user hostfwd", "port of the host"},
		{"-netdev user,id=n,guestfwd=tcp:10.0.2.4:80-cmd:/bin/sh", "-netdev user guestfwd", "start that program"},
		{"-netdev user,id=n,guestfwd=tcp:10.0.2.4:80-cmd:/bin/sh,guestfwd=tcp:10.0.2.4:81-tcp:127.0.0.1:81", "-netdev user guestfwd", "start that program"},
		{"-nic user,smb=/srv", "-nic user smb", "read and write that directory"},
		{"-netdev user,id=n,tftp=/srv", "-netdev user tftp", "read all files"},
		{"-netdev socket,id=n,listen=:1", "-netdev socket", "other end"},
		{"-netdev nosuch,id=n", "-netdev nosuch", "does not know"},
		{"-fsdev local,id=f,path=/,security_model=none,readonly=on", "-fsdev", "directory of the host"},
		{"-virtfs local,path=/,mount_tag=x,security_model=none,readonly=on", "-virtfs", "directory of the host"},
		{"-chardev file,id=c,path=/etc/passwd", "-chardev file", "writes to that file"},
		{"-chardev socket,id=c,path=/var/run/docker.sock", "-chardev socket", "other end"},
		{"-chardev backend=pty,id=c", "-chardev pty", "other end"},
		{"-serial file:/tmp/log", "-serial file", "writes to that file"},
		{"-serial /dev/ttyS0", "-serial /dev/ttyS0", "device of the host"},
		{"-parallel tcp:1.2.3.4:5", "-parallel tcp", "other end"},
		{"-vnc :1", "-vnc", "screen"},
		{"-display vnc=:1", "-display vnc", "screen"},
		{"-spice port=1", "-spice", "screen"},
		{"-bios /etc/shadow", "-bios", "see what is in it"},
		{"-kernel /boot/vmlinuz", "-kernel", "see what is in it"},
		{"-acpitable file=/etc/shadow", "-acpitable file", "see what is in it"},
		{"-fw_cfg name=opt/x,file=/etc/shadow", "-fw_cfg file", "see what is in it"},
		{"-smbios file=/etc/shadow", "-smbios file", "see what is in it"},
		{"-machine q35,dumpdtb=/tmp/x", "-machine dumpdtb", "writes to that file"},
		{"-device vfio-pci,host=01:00.0", "-device vfio-pci", "device of the host"},
		{"-device driver=usb-host", "-device usb-host", "device of the host"},
		{`-device {"driver":"vfio-pci"}`, "-device vfio-pci", "device of the host"},
		{"-device e1000,romfile=/etc/shadow", "-device e1000 romfile", "see what is in it"},
		{"-device loader,file=/etc/shadow", "-device loader", "does not know"},
		{"-object memory-backend-file,id=m,mem-path=/x,size=1M", "-object memory-backend-file", "file of the host"},
		{"-object secret,id=s,file=/etc/shadow", "-object secret", "see what is in it"},
		{"-object rng-random,id=r,filename=/etc/shadow", "-object rng-random", "see what is in it"},
		{"-object filter-dump,id=f,netdev=n,file=/tmp/x", "-object filter-dump", "without an end"},
		{"-object nosuch,id=x", "-object nosuch", "does not know"},
		{"-plugin /tmp/x.so", "-plugin", "code"},
		{"-trace file=/tmp/x", "-trace", "writes"},
		{"-D /tmp/x", "-D", "writes"},
		{"-mem-path /dev/shm", "-mem-path", "memory"},
		{"-semihosting", "-semihosting", "files"},
		{"-sandbox off", "-sandbox", "weaker"},
		{"-sandbox on", "-sandbox", "weaker"},
		{"-set chardev.c.path=/etc/passwd", "-set", "another argument"},
		{"-audiodev wav,id=a,path=/tmp/x", "-audiodev wav", "writes"},
		{"-drive file=nbd://host/x,readonly=on", "-drive nbd", "network"},
		{"-drive file.driver=ssh,file.host=h,readonly=on", "-drive ssh", "network"},
		{"-drive file=/dev/sda,readonly=on", "-drive host_device", "device of the host"},
		{`-blockdev {"driver":"raw","node-name":"x","read-only":true,"file":{"driver":"nbd","path":"/x"}}`, "-blockdev nbd", "network"},
		{"-cdrom https://host/x.iso", "-cdrom https", "network"},
		{"-no-such-option x", "-no-such-option", "does not know this option"},
	} {
		risks := ReviewArgs(arguments(c.args))
		if len(risks) != 1 && !strings.Contains(c.args, "smb=") || len(risks) == 0 {
			t.Errorf("%s: %d risks, want one: %q", c.args, len(risks), risks)
			continue
		}
		r := risks[0]
		if r.Allow != c.allow || !strings.Contains(r.Risk, c.risk) || r.Argument != c.args {
			t.Errorf("%s: %+v; want %q, %q", c.args, r, c.allow, c.risk)
		}
		if err := unallowed(arguments(c.args), []string{c.allow}, ""); err != nil {
			t.Errorf("%s is not allowed by %q: %v", c.args, c.allow, err)
		}
	}
}

func TestTheHardwareOfAMachineIsHarmless(t *testing.T) {
	for _, line := range []string{
		"-nodefaults -M q35 -cpu host -smp 2 -m 2048 -accel kvm -enable-kvm -vga std -display none -vnc none -rtc base=localtime,driftfix=slew -boot order=c -usb -no-reboot",
		"-device ide-hd,drive=d,bus=ide.0 -device rtl8139,netdev=n,mac=52:54:00:12:34:56 -device usb-tablet -device virtio-net-pci,netdev=n,romfile=",
		"-netdev type=bridge,br=br0,id=n -netdev tap,id=t,ifname=tap0,script=no,downscript=no -netdev user,id=u,restrict=on -nic none",
		"-drive file=" + placeholder + ",format=qcow2,if=none,id=d -cdrom /iso/x.iso -drive file=/iso/x.iso,media=cdrom",
		"-name win10 -uuid 5e6e2e23-4a2a-4b8f-9bdf-6d6a6c1b4a7a -smbios type=1,manufacturer=Dell -global kvm-pit.lost_tick_policy=discard",
		"-serial null -parallel none -monitor none -chardev null,id=c -serial chardev:c -audiodev none,id=a -k de",
		"-object iothread,id=i -object rng-random,id=r,filename=/dev/urandom -object memory-backend-ram,id=m,size=1G",
		"-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny -machine accel=tcg -realtime mlock=off --enable-kvm",
	} {
		for _, r := range ReviewArgs(strings.Fields(line)) {
			t.Errorf("%q is a risk: %+v", line, r)
		}
	}
}

func TestAnEntryAllowsWhatItNames(t *testing.T) {
	args := []string{"-netdev", "user,id=n,hostfwd=tcp::22-:22,tftp=/srv"}
	for _, c := range []struct {
		allowed string
		left    int
	}{
		{"all", 0}, {"-netdev", 0}, {"--netdev", 0}, {"-netdev user", 0}, {"-netdev user hostfwd", 1}, {"-netdev  user  hostfwd", 1},
		{"-netdev us", 2}, {"-net", 2}, {"-nic", 2}, {"-netdev user hostfwd,-netdev user tftp", 0},
	} {
		err := unallowed(args, strings.Split(c.allowed, ","), "")
		left := 0
		if err != nil {
			left = strings.Count(err.Error(), "needs your word")
		}
		if left != c.left {
			t.Errorf("with %q %d arguments are left, want %d: %v", c.allowed, left, c.left, err)
		}
	}
	if err := checkAllowed([]string{"all", "-gdb", "gdb"}); err == nil || !strings.Contains(err.Error(), `"gdb"`) || strings.Contains(err.Error(), `"all",`) {
		t.Errorf("an entry that names no option: %v", err)
	}
}

func TestAMachineWithADangerousArgumentIsNotStartedWithoutTheWord(t *testing.T) {
	s := newSite(t)
	args := machineArgs("-gdb", "tcp::1234", "-plugin", "/tmp/x.so", "-S")
	vm := s.add("vm", append(bootSector(), make([]byte, 1<<20-512)...), []byte(stateBegin), args...)
	vm.place = "/etc/qemu.yaml:12:3"
	s.add("own", append(bootSector(), make([]byte, 1<<20-512)...), []byte(stateBegin+"x")).Args = machineArgs("-gdb", "tcp::1234")
	m := s.open(machinery.Options{})
	err := m.RestoreStart(limit(t), "vm")
	mustKind(t, err, machinery.ErrConfig)
	for _, want := range []string{s.config.Machines[0].Info, `argument "-gdb tcp::1234" needs your word: anyone who reaches the port`, `add "-gdb" to allow_arguments of the machine (/etc/qemu.yaml:12:3)`,
		`argument "-plugin /tmp/x.so" needs`, `argument "-S" is refused`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error has no %q: %v", want, err)
		}
	}
	mustState(t, m, "vm", machinery.StateError, reasonConfig)
	// What a program gives itself is its own.
	mustState(t, m, "own", machinery.StatePoweroff, "")
	s.config.AllowArguments = []string{"-gdb", "-plugin"}
	s.config.Machines[0].Args = nil
	if err := unallowed(args, s.config.AllowArguments, ""); err != nil {
		t.Errorf("allowed for all machines: %v", err)
	}
	s.clean()
}
