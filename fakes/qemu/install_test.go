//go:build linux

package qemu

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/machineries/machineries/fakes/guest"
)

func asError[T error](err error, target *T) bool { return errors.As(err, target) }

func TestCloseLeavesNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := shortDir(t)
	in, err := Install(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "qmp")
	cmd := exec.Command(in.Emulator, with("-S", "-qmp", "unix:"+socket+",server=on,wait=off")...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the emulator", func() bool { return len(in.Alive()) == 1 && in.Alive()[0].Status() == "prelaunch" })
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if err := in.Close(); err != nil {
		t.Errorf("a second time: %v", err)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != -1 {
		t.Errorf("the emulator ended with %v", cmd.ProcessState)
	}
	os.Remove(socket) // a killed QEMU leaves it, and so does the fake
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := os.Stat(in.tmp); err == nil {
		t.Errorf("%s is left behind", in.tmp)
	}
}

func TestInstallRefusesToReplaceAProgram(t *testing.T) {
	dir := shortDir(t)
	if err := os.WriteFile(filepath.Join(dir, emulatorName), []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Install(dir, Options{}); !errors.Is(err, os.ErrExist) {
		t.Errorf("%v", err)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, emulatorName)); !strings.HasPrefix(string(b), "#!") {
		t.Error("the program that was there is gone")
	}
}

func TestTheInstalledProgramIsFoundByItsNameAlone(t *testing.T) {
	in := install(t, Options{})
	cmd := exec.Command(in.Emulator, "--version")
	cmd.Args[0] = emulatorName // as a shell does
	cmd.Env = append(os.Environ(), "PATH="+in.Dir)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "QEMU emulator version 7.2.22 (Debian") {
		t.Errorf("%q, %v", out, err)
	}
	out, err = exec.Command(in.Img, "--version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "qemu-img version 7.2.22 (Debian") {
		t.Errorf("%q, %v", out, err)
	}
}

func TestFaultsAreForTheEmulatorsTheyArePlannedFor(t *testing.T) {
	in := install(t, Options{})
	if err := in.Plan("name=bad", Fault{Point: PointStart, Action: Exit, Code: 5}); err != nil {
		t.Fatal(err)
	}
	if code := start(t, in.Emulator, with("-S", "-name", "guest=x,process=name=bad")...).ended(); code != 5 {
		t.Errorf("exit code %d", code)
	}
	start(t, in.Emulator, with("-S", "-name", "guest=good")...).connect()
	in.Clear("name=bad")
	start(t, in.Emulator, with("-S", "-name", "guest=x,process=name=bad")...).connect()
	for _, f := range []Fault{{Point: PointStart, Action: Half}, {Point: PointLoad, Action: Drop}, {Point: "nowhere", Action: Kill}, {Point: PointStart, Action: "nothing"}} {
		if err := in.Plan("", f); err == nil {
			t.Errorf("%s was planned", f)
		}
	}
}

func TestTheInstallationCanDoWhatAStrangerCan(t *testing.T) {
	in := install(t, Options{})
	disk := filepath.Join(shortDir(t), "disk")
	bootDisk(t, disk)
	s, path := listenSerial(t)
	e := start(t, in.Emulator, with(append(serialArgs(path), "-drive", "file="+disk+",if=ide,format=raw")...)...)
	s.accept()
	if r := s.next(); r.Op != guest.OpBooted {
		t.Fatalf("%+v", r)
	}
	c := e.connect()
	p := in.Processes()[0]
	if _, err := p.Do(ctx(t), `{"execute":"stop"}`); err != nil {
		t.Fatal(err)
	}
	c.event("STOP")
	if p.Status() != "paused" {
		t.Errorf("status %q", p.Status())
	}
	if err := p.Suffer(ctx(t), "guest-panicked"); err == nil {
		t.Error("a paused guest panicked")
	}
	if _, err := p.Do(ctx(t), `{"execute":"cont"}`); err != nil {
		t.Fatal(err)
	}
	if err := p.Suffer(ctx(t), "guest-panicked"); err != nil {
		t.Fatal(err)
	}
	c.event("GUEST_PANICKED")
	c.event("STOP")
	c.status("guest-panicked")
	if err := p.Plan(ctx(t), Fault{Point: PointCommand, Command: "query-name", Action: Drop}); err != nil {
		t.Fatal(err)
	}
	c.send(`{"execute":"query-name"}`)
	if _, err := c.read(patience); err == nil {
		t.Error("the fault planned later does not strike")
	}
	if _, err := p.Do(ctx(t), `{"execute":"quit"}`); err != nil {
		t.Fatal(err)
	}
	e.ended()
	waitFor(t, "the end to be seen", func() bool { return !p.Alive() })
}

func TestTheFakeImgMakesImagesForTheFakeEmulator(t *testing.T) {
	in := install(t, Options{})
	dir := shortDir(t)
	base, overlay, back := filepath.Join(dir, "base"), filepath.Join(dir, "overlay"), filepath.Join(dir, "back")
	bootDisk(t, base)
	for _, args := range [][]string{
		{"create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", overlay},
		{"check", overlay},
		{"info", "--backing-chain", overlay},
	} {
		if out, err := exec.Command(in.Img, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", args, out)
		}
	}
	s, path := listenSerial(t)
	e := start(t, in.Emulator, with(append(serialArgs(path), "-drive", "file="+overlay+",if=ide,format=qcow2")...)...)
	s.accept()
	s.ask(guest.OpSetDisk, 2, 77)
	out, err := exec.Command(in.Img, "info", overlay).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "Failed to get shared \"write\" lock") {
		t.Errorf("an image in use: %s", out)
	}
	e.cmd.Process.Kill()
	e.ended()
	if out, err := exec.Command(in.Img, "convert", "-O", "raw", overlay, back).CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
	f, err := os.Open(back)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if v, err := guest.ReadDiskMark(f, 2); err != nil || v != 77 {
		t.Errorf("the mark is %d, %v", v, err)
	}
	b, _ := os.Open(base)
	defer b.Close()
	if v, _ := guest.ReadDiskMark(b, 2); v != 0 {
		t.Error("the base changed")
	}
}

func FuzzStreamer(f *testing.F) {
	for _, s := range malformed {
		f.Add([]byte(s + "\n"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var whole, parts []string
		emit := func(to *[]string) func(any, error) {
			return func(v any, err error) {
				if err != nil {
					*to = append(*to, err.Error())
					return
				}
				*to = append(*to, string(appendJSON(nil, v)))
			}
		}
		a := &streamer{emit: emit(&whole)}
		a.write(b)
		c := &streamer{emit: emit(&parts)}
		for i := range b {
			c.write(b[i : i+1])
		}
		if strings.Join(whole, "\n") != strings.Join(parts, "\n") {
			t.Errorf("in pieces it is read otherwise: %q, %q", whole, parts)
		}
	})
}

func FuzzReadStream(f *testing.F) {
	s := saved{machineType: "pc", memory: 1 << 20, status: "paused", guest: []byte("guest")}
	whole := append(s.head(), s.tail()...)
	for _, n := range []int{0, 3, 8, 12, 40, 1000, len(whole)} {
		f.Add(whole[:n])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := readStream(strings.NewReader(string(b)), "pc", 1<<20)
		if err == nil && got.status == "" && got.guest == nil {
			t.Error("nothing was read and nothing is wrong")
		}
	})
}
