//go:build linux

package qemu

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/machineries/machineries/internal/require"
)

// runIn runs a program in a directory and returns what it did, with the directory's
// name taken out.
func runIn(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var ee *exec.ExitError
	if err != nil && !errors.As(err, &ee) {
		t.Fatal(err)
	}
	return strings.ReplaceAll(fmt.Sprintf("exit %d\nstdout: %s\nstderr: %s", cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()), dir, "DIR")
}

// badLines are command lines that end the emulator at once, one a line.
const badLines = `-foo
--foo
-
--
foo.img
-M nope
-M q35,foo=1
-machine accel=nope
-accel nope
-accel tcg,foo=1
-m
-m abc
-m 16X
-m -5
-m size=
-m 99999G
-m 16 -m 32,slots=2
-m 16,maxmem=8
-m 1M,foo=1
-smp 300
-smp abc
-smp cpus=2,foo=1
-smp 2,sockets=4
-cpu nope
-cpu qemu64,+nope
-cpu host
-display nope
-vga nope
-uuid nope
-uuid 1-2
-name
-name a,b=c
-rtc base=nope
-rtc foo=1
-boot z
-boot order=cdn,foo=1
-device nope
-device e1000,netdev=no
-device virtio-blk,drive=no
-device ide-hd
-device virtio-blk-pci
-netdev nope
-netdev user
-netdev user,id=a,foo=1
-netdev user,id=a -netdev user,id=a
-nic nope
-net nope
-drive foo
-drive if=nope
-drive file=/nonexistent
-drive file=raw,format=nope
-drive file=.,format=raw
-drive file=raw,foo=1
-drive file=raw,format=qcow2
-drive file=a,,b
-drive file=,format=raw
-drive file=foo:bar
-drive file=base,format=qcow2,cache=nope
-drive file=base,readonly=maybe
-drive file=base,if=virtio,index=abc
-drive media=nope,file=base
-drive file=base,werror=nope
-drive file=base,id=%%
-drive file=orphan,format=qcow2
-drive file=empty,format=qcow2
-drive file=short,format=qcow2
-drive file=v9,format=qcow2
-drive file=overlay,format=qcow2,if=none -drive file=overlay,format=qcow2,if=none
-drive file=overlay,format=qcow2,if=none -drive file=base,format=qcow2,if=none
-drive file=base,format=qcow2,if=none -drive file=overlay,format=qcow2,if=none
-drive file=base,format=qcow2,if=none,readonly=on -drive file=base,format=qcow2,if=none
-drive file=base,if=none,format=qcow2,id=x -device ide-hd,drive=x -device ide-hd,drive=x
-drive file=raw,format=raw,if=ide,index=0 -drive file=base,if=ide,index=0
-drive id=a,if=none -drive id=a,if=none
-drive file=/dev/fdset/7,format=raw
-hda /nonexistent
-cdrom /nonexistent
-fda /nonexistent
-pflash /nonexistent
-snapshot -drive file=/nonexistent
-blockdev foo
-blockdev driver=file,filename=/nonexistent,node-name=a
-blockdev driver=file,node-name=a
-chardev nope
-chardev nope,id=a
-chardev socket,id=a
-chardev socket,id=a,path=/nonexistent/x
-chardev socket,id=a,path=/nonexistent/x,server=on,wait=off
-chardev socket,id=a,fd=99
-chardev socket,id=a,fd=0
-chardev socket,id=a,foo=1
-chardev socket,id=a,path=s,wait=off
-chardev socket,id=a,path=s,server=maybe
-chardev file,id=a,path=/nonexistent/x
-chardev null
-chardev null,id=a -chardev null,id=a
-mon nope
-mon chardev=nope
-mon chardev=a,mode=nope -chardev null,id=a
-qmp nope
-qmp unix:/nonexistent/a,server
-qmp unix:
-monitor nope
-monitor unix:/nonexistent/x,server,nowait
-serial nope
-serial chardev:nope
-S -incoming nope
-incoming file:x
-incoming fd:nosuch
-incoming unix:/nonexistent/x
-global nope
-global migration.foo=on
-global migration.x-events=maybe
-add-fd nope
-add-fd fd=99,set=1
-add-fd fd=0,set=1
-pidfile /nonexistent/a
-sandbox nope
-sandbox on,foo=1
-sandbox on,spawn=nope
-sandbox on,obsolete=children
-sandbox on,elevateprivileges=nope,spawn=nope
-sandbox on,resourcecontrol=
-sandbox off,spawn=nope -M nope
-msg nope
-msg timestamp=on -foo
-D /nonexistent/a
-loadvm x
-loadvm nope -drive file=base,format=qcow2
-enable-kvm -accel tcg
-L
-kernel /nonexistent
-bios nope
-readconfig /nonexistent
-no-shutdown=1
-no-shutdown -action nope=1
-action panic=nope
-watchdog-action nope
-vnc nope
-version
--version`

func TestABadCommandLineIsRefusedAsQEMURefusesIt(t *testing.T) {
	require.Tool(t, "qemu", emulatorName)
	real, err := exec.LookPath(emulatorName)
	if err != nil {
		t.Fatal(err)
	}
	in := install(t, Options{})
	dir := imageDir(t, in)
	for line := range strings.SplitSeq(badLines, "\n") {
		args := append([]string{"-display", "none"}, strings.Fields(line)...)
		if want, got := runIn(t, dir, real, args...), runIn(t, dir, in.Emulator, args...); want != got {
			t.Errorf("%s\n--- QEMU: %s\n--- fake: %s", line, want, got)
		}
	}
}

// imageDir is a directory with images, sound and not.
func imageDir(t *testing.T, in *Installation) string {
	t.Helper()
	dir := shortDir(t)
	for _, c := range [][]string{{"create", "-q", "-f", "qcow2", "base", "1M"}, {"create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", "overlay"},
		{"create", "-q", "-f", "qcow2", "-u", "-b", "gone", "-F", "qcow2", "orphan", "1M"}, {"create", "-q", "-f", "raw", "raw", "1M"}} {
		runIn(t, dir, in.Img, c...)
	}
	b, err := os.ReadFile(filepath.Join(dir, "base"))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"empty": nil, "short": b[:100], "v9": append([]byte("QFI\xfb\x00\x00\x00\x09"), make([]byte, 2000)...)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// imgLines are qemu-img's command lines, done in order in one directory each.
const imgLines = `
nope
create
create -f qcow2 a
create -f qcow2 a 1M
create -f raw r 1M
create -q -f qcow2 b 3M
create -f qcow2 -b a -F qcow2 c
create -f qcow2 -b a c2
create -f qcow2 -o backing_file=a,backing_fmt=qcow2 c3 2M
create -f qcow2 -b nope -F qcow2 d
create -f qcow2 -b nope -F qcow2 d 1M
create -f qcow2 -u -b nope -F qcow2 d 1M
create -f nope e 1M
create -f qcow2 /nonexistent/x 1M
create -f qcow2 x abc
create -f qcow2 -o foo=1 x 1M
create -f qcow2 -o cluster_size=4k y 1M
create x
create x 1000
create -f qcow2 -F qcow2 z 1M
create -f qcow2 a 2M
create -f qcow2 -b a -F qcow2 -o size=5M g
info
info a
info r
info c
info --output json c
info --output=json r
info --backing-chain c
info --backing-chain --output=json c
info -U a
info nope
info -f qcow2 r
info --output=nope a
info -f nope a
info .
info d
info --backing-chain d
info -x a
check a
check r
check nope
check --output json a
check -q a
check -f qcow2 r
convert a
convert -O qcow2 r o
convert -f qcow2 -O raw c o2
convert -O nope r o3
convert nope o3
convert -O qcow2 a /nonexistent/o
snapshot -l a
snapshot -l r
--version`

func TestTheFakeImgDoesAsTheRealOneDoes(t *testing.T) {
	require.Tool(t, "qemu", imgName)
	real, err := exec.LookPath(imgName)
	if err != nil {
		t.Fatal(err)
	}
	in := install(t, Options{})
	ours, theirs := shortDir(t), shortDir(t)
	// How much of a file is holes is each one's own affair.
	used := func(s string) string {
		var lines []string
		for l := range strings.SplitSeq(s, "\n") {
			if !strings.Contains(l, "disk size:") && !strings.Contains(l, `"actual-size":`) {
				lines = append(lines, l)
			}
		}
		return strings.Join(lines, "\n")
	}
	for line := range strings.SplitSeq(imgLines, "\n") {
		args := strings.Fields(line)
		if want, got := used(runIn(t, theirs, real, args...)), used(runIn(t, ours, in.Img, args...)); want != got {
			t.Errorf("%s\n--- qemu-img: %s\n--- fake: %s", line, want, got)
		}
	}
}
