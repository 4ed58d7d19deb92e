//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"image/png"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/internal/require"
	"github.com/machineries/machineries/machinery"
)

// ignoring makes the guest of a running machine ignore its power button.
func (s *site) ignoring(name string) {
	s.t.Helper()
	g, err := s.bench.Guest(s.t.Context(), name)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := g.Button(s.t.Context(), conformance.ButtonIgnore, 0); err != nil {
		s.t.Fatal(err)
	}
}

func TestACPIStopWaitsForTheGuestAndFallsBackOnStop(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "good"}, conformance.MachineSpec{Name: "deaf"}, conformance.MachineSpec{Name: "off"})
	s.vm("boot", "good", "deaf").want(t, 0, "stderr")
	s.ignoring("deaf")
	r := s.vm("acpi-stop", "deaf", "--no-stop", "--timeout", "300ms")
	r.want(t, exitFailed, "stdout")
	says(t, r.err, `machinery: acpi-stop "deaf": the guest did not switch the machine off within 300ms; the machine runs on, and nothing was stopped`)
	r = s.vm("acpi-stop", "deaf", "--no-stop", "--timeout", "300ms", "--json")
	if got := decode[[]vmResult](t, r.out); got[0].Error.Kind != "unexpected_state" {
		t.Errorf("nothing was interrupted: %s", r.out)
	}
	s.state("deaf", "running")
	r = s.vm("acpi-stop", "--all", "--timeout", "1s")
	r.want(t, 0, "stderr")
	says(t, r.out, "good: poweroff\n", "deaf: poweroff; its guest did not obey within 1s, and it was stopped\n", "off: was off already\n")
	for _, name := range []string{"good", "deaf"} {
		s.state(name, "poweroff")
	}
	s.nothingLeft()

	s.vm("boot", "deaf").want(t, 0, "stderr")
	s.ignoring("deaf")
	r = s.vm("acpi-stop", "deaf", "off", "--timeout", "300ms", "--json")
	r.want(t, 0, "stderr")
	if got := decode[[]vmResult](t, r.out); len(got) != 2 || !got[0].OK || !got[0].Forced || got[1].Forced || !got[1].Already {
		t.Errorf("results: %s", r.out)
	}
	s.nothingLeft()
}

func TestACPIStopOfAPausedMachineLeavesItAlone(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a", SavedPaused: true})
	s.vm("restore", "a").want(t, 0, "stderr")
	r := s.vm("acpi-stop", "a")
	r.want(t, exitFailed, "stdout")
	says(t, r.err, `acpi-stop "a": `, "paused")
	s.state("a", "paused (from snapshot)")
	s.vm("stop", "a").want(t, 0, "stderr")
}

func TestCtrlCEndsTheWaitForTheGuestAndTheMachineRunsOn(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a"})
	s.vm("boot", "a").want(t, 0, "stderr")
	s.ignoring("a")
	g, err := s.bench.Guest(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(t, s.args("acpi-stop", "a")...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); g.Pressed() == 0 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond) // the guest tells of it without an event
	}
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait()
	r := result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
	r.want(t, exitFailed, "stdout")
	says(t, r.err, `acpi-stop "a": the wait for the guest was given up`, "the machine runs on, and nothing was stopped")
	s.state("a", "running")
	s.vm("stop", "a").want(t, 0, "stderr")
}

func TestBootRunsAMachineThatHasNoSnapshot(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "new", Damage: conformance.SnapshotMissing})
	r := s.vm("restore", "new")
	r.want(t, exitFailed, "stdout")
	says(t, r.err, "memory.snapshot")
	r = s.vm("boot", "new")
	r.want(t, 0, "stderr")
	says(t, r.out, "new: running\n")
	s.state("new", "running")
	r = s.vm("boot", "new")
	r.want(t, exitFailed, "stdout")
	says(t, r.err, `boot "new": `, "running")
	s.vm("stop", "new").want(t, 0, "stderr")
	s.nothingLeft()
}

func TestDumpAndScreenshotWriteFilesAndNeverReplaceOne(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a"}, conformance.MachineSpec{Name: "dark", Headless: true})
	dir := t.TempDir()
	elf, picture := filepath.Join(dir, "a.elf"), filepath.Join(dir, "a.png")
	for _, c := range [][]string{{"dump", elf}, {"screenshot", picture}} {
		r := s.vm(c[0], "a", "--write", c[1])
		r.want(t, exitFailed, "stdout")
		says(t, r.err, `"a": the machine is poweroff`)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("a failure leaves %v", left)
	}
	s.vm("start", "a", "dark").want(t, 0, "stderr")
	for _, c := range []struct{ cmd, path, start string }{{"dump", elf, "\x7fELF"}, {"screenshot", picture, "\x89PNG"}} {
		r := s.vm(c.cmd, "a", "--write", c.path)
		r.want(t, 0, "stderr")
		says(t, r.out, "a: ", " written to "+c.path+"\n")
		data, err := os.ReadFile(c.path)
		if err != nil || !strings.HasPrefix(string(data), c.start) {
			t.Errorf("%s: %v, and it begins with %q", c.path, err, data[:min(len(data), 8)])
		}
		if info, err := os.Stat(c.path); err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", c.path, info.Mode())
		}
		again := s.vm(c.cmd, "a", "--write", c.path, "--json")
		again.want(t, exitFailed, "")
		says(t, again.err, c.path, "exists")
		if got := decode[[]vmResult](t, again.out); got[0].Error.Kind != "configuration" {
			t.Errorf("results: %s", again.out)
		}
		if now, err := os.ReadFile(c.path); err != nil || !bytes.Equal(now, data) {
			t.Errorf("%s was changed, %v", c.path, err)
		}
		nowhere := s.vm(c.cmd, "a", "--write", filepath.Join(dir, "no", "where"))
		nowhere.want(t, exitFailed, "stdout")
		says(t, nowhere.err, "no such file or directory")
		directory := s.vm(c.cmd, "a", "--write", dir)
		directory.want(t, exitFailed, "stdout")
		unknown := s.vm(c.cmd, "b", "--write", filepath.Join(dir, "b"))
		unknown.want(t, exitUsage, "stdout")
		says(t, unknown.err, `there is no machine "b"; the configuration has "a", "dark"`)
		for _, args := range [][]string{{"a", "dark", "--write", filepath.Join(dir, "b")}, {"--write", filepath.Join(dir, "b")}, {"a"}} {
			r := s.vm(c.cmd, args...)
			r.want(t, exitUsage, "stdout")
		}
	}
	r := s.vm("screenshot", "a", "--write", "-")
	r.want(t, 0, "stderr")
	if _, err := png.Decode(strings.NewReader(r.out)); err != nil {
		t.Errorf("what was written to stdout is no picture: %v", err)
	}
	s.vm("screenshot", "a", "--write", "-", "--json").want(t, exitUsage, "stdout")
	cmd := command(t, s.args("screenshot", "a", "--write", "-")...)
	if text, status := onTerminal(t, cmd, 80); status != exitUsage || !strings.Contains(text, "terminal") {
		t.Errorf("to a terminal: %d, %q", status, text)
	}
	r = s.vm("screenshot", "dark", "--write", filepath.Join(dir, "dark.png"))
	r.want(t, exitFailed, "stdout")
	r = s.vm("dump", "a", "--write", filepath.Join(dir, "x"), "--format", "tar")
	r.want(t, exitFailed, "stdout")
	says(t, r.err, `"tar"`, "elf")
	s.vm("dump", "a", "--write", filepath.Join(dir, "z"), "--format", "elf").want(t, 0, "stderr")
	var names []string
	left, _ := os.ReadDir(dir)
	for _, e := range left {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, []string{"a.elf", "a.png", "z"}) {
		t.Errorf("in the directory there is %q", names)
	}
	s.vm("stop", "--all").want(t, 0, "stderr")
	s.nothingLeft()
}

func TestWatchTellsEveryChangeUntilCtrlC(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a"}, conformance.MachineSpec{Name: "b"})
	cmd := command(t, s.args("watch", "a", "--json")...)
	var errs, told bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	until := func(state string) {
		for lines.Scan() {
			fmt.Fprintln(&told, lines.Text())
			if strings.Contains(lines.Text(), state) {
				return
			}
		}
	}
	until("poweroff")
	s.vm("start", "a").want(t, 0, "stderr")
	until("running")
	s.vm("stop", "a").want(t, 0, "stderr")
	until("poweroff")
	_ = cmd.Process.Signal(os.Interrupt)
	until("nothing more")
	_ = cmd.Wait()
	r := result{told.String(), errs.String(), cmd.ProcessState.ExitCode()}
	r.want(t, 0, "stderr")
	var seen []machinery.State
	for line := range strings.Lines(r.out) {
		var e watchLine
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Machine != "a" || e.Time.IsZero() {
			t.Errorf("the line %q: %v", line, err)
		}
		seen = append(seen, e.Status.State)
	}
	if len(seen) < 2 || seen[0] != machinery.StatePoweroff || !slices.Contains(seen, machinery.StateRunning) || seen[len(seen)-1] != machinery.StatePoweroff {
		t.Errorf("it told %q", seen)
	}
}

func TestWatchEndsAfterAWhileOrWhenNobodyReads(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a"}, conformance.MachineSpec{Name: "b"})
	r := s.vm("watch", "--for", "300ms")
	r.want(t, 0, "stderr")
	says(t, r.out, " a: poweroff\n", " b: poweroff\n")
	for _, args := range [][]string{{"--for", "0s"}, {"--for", "-1s"}, {"--timeout", "1s"}} {
		s.vm("watch", args...).want(t, exitUsage, "stdout")
	}
	r = s.vm("watch", "a", "c")
	r.want(t, exitUsage, "stdout")
	says(t, r.err, `there is no machine "c"`)

	cmd := command(t, s.args("watch", "a")...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	out.Close()
	s.vm("start", "a").want(t, 0, "stderr") // it has something to tell, to nobody
	_ = cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != 0 {
		t.Errorf("without a reader it ends with %d", status)
	}
	s.vm("stop", "a").want(t, 0, "stderr")
}

func TestCheckTellsWhatIsMissing(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a"}, conformance.MachineSpec{Name: "bad", Damage: conformance.SnapshotEmpty})
	r := s.vm("check")
	r.want(t, exitFailed, "")
	says(t, r.out, "hypervisor: qemu ", "dependencies: all there\n", "a: poweroff\n")
	says(t, r.err, `check "bad": error`, "memory.snapshot")
	all := s.vm("check", "--json")
	all.want(t, exitFailed, "")
	if got := decode[checked](t, all.out); got.OK || got.Version == "" || len(got.Machines) != 2 || !got.Machines[0].OK || got.Machines[1].OK {
		t.Errorf("it found: %s", all.out)
	}
	s.vm("check", "a").want(t, exitUsage, "stdout")
	s.nothingLeft()
}

// withAgent is the arguments for a configuration of the site's whose first machine has its agent at an address.
func (s *site) withAgent(address string) []string {
	s.t.Helper()
	text, err := os.ReadFile(s.bench.ConfigPath())
	if err != nil {
		s.t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		s.t.Fatal(err)
	}
	path := filepath.Join(s.t.TempDir(), "qemu.yaml")
	changed := strings.Replace(string(text), "ip: 192.0.2.1\n", fmt.Sprintf("ip: %s\n    agent_port: %s\n", host, port), 1)
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return []string{"-c", path, "--runtime-dir", s.bench.RuntimeDir()}
}

func TestWaitReadyWaitsForTheAgent(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a"}, conformance.MachineSpec{Name: "paused", SavedPaused: true})
	agent := httptest.NewServer(http.NotFoundHandler())
	defer agent.Close()
	at := s.withAgent(agent.Listener.Addr().String())
	for _, op := range []string{"restore", "start", "boot"} {
		r := runCLI(t, append([]string{"vm", op, "a", "--wait-ready"}, at...)...)
		r.want(t, 0, "stderr")
		says(t, r.out, "a: running\n")
		runCLI(t, append([]string{"vm", "stop", "a"}, at...)...).want(t, 0, "stderr")
	}
	agent.Close()
	r := runCLI(t, append([]string{"vm", "start", "a", "--wait-ready", "--timeout", "1s", "--json"}, at...)...)
	r.want(t, exitFailed, "")
	says(t, r.err, `start "a": waited`, agent.Listener.Addr().String(), "refused", "the machine was started, and is running")
	if got := decode[[]vmResult](t, r.out); got[0].Error.Kind != "interrupted" {
		t.Errorf("results: %s", r.out)
	}
	state := runCLI(t, append([]string{"vm", "state", "a"}, at...)...)
	says(t, state.out, "a: running\n")
	runCLI(t, append([]string{"vm", "stop", "a"}, at...)...).want(t, 0, "stderr")
	paused := s.vm("restore", "paused", "--wait-ready")
	paused.want(t, exitFailed, "stdout")
	says(t, paused.err, `restore "paused": the machine is paused (from snapshot), so nothing in it can answer`)
	s.vm("stop", "paused").want(t, 0, "stderr")
	s.vm("stop", "a", "--wait-ready").want(t, exitUsage, "stdout")
	s.nothingLeft()
}

func TestSnapshotCreateMakesAMachineThatCanBeRestored(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a", Damage: conformance.SnapshotMissing})
	dir := t.TempDir()
	made := filepath.Join(dir, "new")
	r := s.vm("snapshot", "create", "a", "--output", made, "--wait", "100ms", "--compress", "zstd")
	r.want(t, 0, "stderr")
	says(t, r.out, "Made "+made+", which restores to running.", `"new":`, `snapshot_path: "`+made+`/memory.snapshot.zst"`, `ip: "192.0.2.1" # of "a"; one of its own if both are used`, `tags: ["suite","machine0"]`)
	s.nothingLeft()

	// What was printed is a machine in a qemu.yaml.
	text, err := os.ReadFile(s.bench.ConfigPath())
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(text), "machines:\n")
	_, entry, _ := strings.Cut(r.out, "\n\n")
	entry, _, _ = strings.Cut(entry, "\n\n")
	yaml := filepath.Join(dir, "qemu.yaml")
	if err := os.WriteFile(yaml, []byte(head+"machines:\n"+entry+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := []string{"-c", yaml, "--runtime-dir", s.bench.RuntimeDir(), "--strict"}
	for _, op := range []string{"start", "stop"} {
		runCLI(t, append([]string{"vm", op, "new"}, at...)...).want(t, 0, "stderr")
	}

	r = s.vm("snapshot", "create", "a", "--output", filepath.Join(dir, "paused"), "--wait", "100ms", "--paused", "--json")
	r.want(t, 0, "stderr")
	got := decode[savedJSON](t, r.out)
	if got.Machine != "a" || got.Saved.State != machinery.StatePaused || got.Saved.Snapshot != filepath.Join(dir, "paused", "memory.snapshot") {
		t.Errorf("it says %s", r.out)
	}
	s.nothingLeft()
}

func TestSnapshotCreateSaysWhatIsWrongBeforeItBoots(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a"})
	dir := t.TempDir()
	ok := filepath.Join(dir, "new")
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"a", "--wait", "1s"}, exitUsage, "--output"},
		{[]string{"a", "-o", ok}, exitUsage, "no terminal"},
		{[]string{"a", "-o", ok, "--wait", "0s"}, exitUsage, "--wait must be more than 0"},
		{[]string{"a", "-o", ok, "--wait", "1s", "--running"}, exitUsage, "exclude each other"},
		{[]string{"a", "-o", ok, "--wait", "1s", "--compress", "xz"}, exitUsage, `"xz"; there are none, zstd`},
		{[]string{"-o", ok, "--wait", "1s"}, exitUsage, `name one machine, not 0; the configuration has "a"`},
		{[]string{"a", "b", "-o", ok, "--wait", "1s"}, exitUsage, "name one machine, not 2"},
		{[]string{"a", "-o", ok, "--wait", "1s", "--timeout", "0s"}, exitUsage, "--timeout"},
		{[]string{"b", "-o", ok, "--wait", "1s"}, exitUsage, `there is no machine "b"`},
		{[]string{"a", "-o", dir, "--wait", "1s"}, exitFailed, "there is something already"},
		{[]string{"a", "-o", ok + "/x", "--wait", "1s"}, exitFailed, "there is no directory " + ok},
		{[]string{"a", "-o", ok, "--running"}, exitFailed, "the machine is poweroff"},
	} {
		r := s.vm("snapshot", append([]string{"create"}, c.args...)...)
		r.want(t, c.status, "stdout")
		says(t, r.err, "machinery: ", c.says)
	}
	s.vm("start", "a").want(t, 0, "stderr")
	r := s.vm("snapshot", "create", "a", "-o", ok, "--wait", "1s")
	r.want(t, exitFailed, "stdout")
	says(t, r.err, "running", "--running saves it as it is")
	s.state("a", "running")
	s.vm("stop", "a").want(t, 0, "stderr")
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("this is left: %v", left)
	}
	s.nothingLeft()
}

func TestCtrlCWhileTheGuestIsWaitedForLeavesNothing(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a"})
	dir := t.TempDir()
	cmd := command(t, s.args("snapshot", "create", "a", "-o", filepath.Join(dir, "new"), "--wait", "1m")...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.bench.Guest(t.Context(), "a"); err != nil { // it runs
		t.Fatal(err)
	}
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait()
	r := result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
	r.want(t, exitFailed, "stdout")
	says(t, r.err, `snapshot create "a": `, "nothing was made; the machine is off")
	s.state("a", "poweroff")
	s.nothingLeft()
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("this is left: %v", left)
	}
}

func TestAMachineThatGoesOffBeforeItIsSavedIsAnError(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a"})
	cmd := command(t, s.args("snapshot", "create", "a", "-o", filepath.Join(t.TempDir(), "new"), "--wait", "1m")...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(s.vm("state", "a").out, "running"); {
		if time.Now().After(deadline) {
			break // what follows says why
		}
	}
	g, err := s.bench.Guest(t.Context(), "a")
	if err == nil {
		err = g.PowerOff(t.Context())
	}
	if err != nil {
		_ = cmd.Process.Signal(syscall.SIGTERM)
	}
	_ = cmd.Wait()
	r := result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
	r.want(t, exitFailed, "stdout")
	says(t, r.err, `snapshot create "a": `, "went off before it could be saved", "nothing was made; the machine is off")
	s.nothingLeft()
}

func TestOnATerminalSnapshotCreateAsksForEnterAndTellsItsProgress(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a"})
	made := filepath.Join(t.TempDir(), "new")
	cmd := command(t, s.args("snapshot", "create", "a", "-o", made)...)
	cmd.Env = append(cmd.Env, "TERM=xterm")
	text, status := typing(t, cmd, "Press Enter", "\n")
	if status != 0 {
		t.Fatalf("exit status %d:\n%q", status, text)
	}
	says(t, text, "a boots. Press Enter when its guest is ready to be saved, or Ctrl-C to give up.\r\n", "\r\x1b[Ka: memory ", "\r\x1b[Ka: verify", "Made", made+",")
	cmd = command(t, s.args("snapshot", "create", "a", "-o", made+"2")...)
	text, status = typing(t, cmd, "Press Enter", "\x03")
	if status != exitFailed || !strings.Contains(text, "interrupted") {
		t.Errorf("after Ctrl-C: %d\n%q", status, text)
	}
	if _, err := os.Stat(made + "2"); err == nil {
		t.Error("after Ctrl-C there is a snapshot")
	}
	s.nothingLeft()
}

func TestAFullDiskLeavesNoSnapshotAndAMachineThatRanRunsOn(t *testing.T) {
	require.Tool(t, "unshare")
	s := newSite(t, conformance.MachineSpec{Name: "a"})
	s.vm("boot", "a").want(t, 0, "stderr")
	for _, pack := range []string{"none", "zstd"} {
		full := t.TempDir()
		cmd := command(t, s.args("snapshot", "create", "a", "-o", filepath.Join(full, "new"), "--running", "--compress", pack)...)
		// One page, on a file system that only the command sees.
		script := `mount -t tmpfs -o size=4k none "$0" || exit 77; "$@"; status=$?; ls -A "$0"; exit $status`
		cmd.Args = append([]string{"unshare", "-rm", "sh", "-c", script, full}, cmd.Args...)
		path, err := exec.LookPath("unshare")
		if err != nil {
			t.Fatal(err)
		}
		cmd.Path = path
		r := finish(t, cmd)
		if r.status == 77 || strings.Contains(r.err, "unshare failed") {
			require.Missing(t, "namespaces", r.err)
		}
		r.want(t, exitFailed, "stdout")
		says(t, strings.ToLower(r.err), `snapshot create "a": `, "no space left on device", "nothing was made; the machine is running")
		s.state("a", "running")
	}
	s.vm("stop", "a").want(t, 0, "stderr")
	s.nothingLeft()
}

func TestAShellCompletesTheNamesOfMachinesAndDrivers(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "win10"}, conformance.MachineSpec{Name: "win7"})
	complete := func(args ...string) string {
		return runCLI(t, append([]string{"__complete"}, args...)...).out
	}
	says(t, complete(s.args("stop", "")...), "win10\nwin7\n")
	if text := complete(s.args("stop", "win7", "")...); strings.Contains(text, "win7\n") || !strings.Contains(text, "win10\n") {
		t.Errorf("a machine that is named already: %s", text)
	}
	says(t, complete("vm", "stop", "--driver", ""), "qemu\n")
	if text := complete("vm", "stop", "-c", "/nowhere/qemu.yaml", ""); strings.Contains(text, "win") {
		t.Errorf("without a configuration: %s", text)
	}
}

var _ snapshotSaver = (*qemu.Machinery)(nil)
var _ progressDumper = (*qemu.Machinery)(nil)

func TestStopSucceedsForAMachineThatIsOffAndCannotBeUsed(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a"}, conformance.MachineSpec{Name: "bad", Damage: conformance.SnapshotEmpty})
	s.vm("start", "a").want(t, 0, "stderr")
	r := s.vm("stop", "--all")
	r.want(t, 0, "stderr")
	says(t, r.out, "a: poweroff\n", `bad: was off already; "vm check" tells why it cannot be used`)
	r = s.vm("stop", "bad", "--json")
	r.want(t, 0, "stderr")
	if got := decode[[]vmResult](t, r.out); !got[0].OK || !got[0].Already {
		t.Errorf("results: %s", r.out)
	}
	s.nothingLeft()
}

func TestCheckFindsTheChangedDiskThatARestoreRefuses(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a"}, conformance.MachineSpec{Name: "b"})
	for _, name := range []string{"a", "b"} {
		s.vm("snapshot", "seal", name).want(t, 0, "stderr")
	}
	s.vm("check").want(t, 0, "stderr")
	disk := s.bench.Saved("a").Files["disk"]
	f, err := os.OpenFile(disk, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("more"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	r := s.vm("check")
	r.want(t, exitFailed, "")
	says(t, r.err, `check "a": `, disk+" has changed since the snapshot was made")
	says(t, r.out, "b: poweroff\n")
	restore := s.vm("restore", "a")
	restore.want(t, exitFailed, "stdout")
	_, checked, _ := strings.Cut(r.err, `"a": `)
	if _, restored, _ := strings.Cut(restore.err, `"a": `); restored != checked {
		t.Errorf("check and restore say different things:\n%s%s", r.err, restore.err)
	}
	if n := strings.Count(r.err, "\n"); n != 1 {
		t.Errorf("it says it %d times:\n%s", n, r.err)
	}
}

func TestAFileOfTheConfigurationThatCannotBeReadIsSaidBeforeAnythingOfDrivers(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		filepath.Join(dir, "nope.yaml"): "there is no configuration file", dir: "is a directory", filepath.Join(dir, "qemu.yaml"): "there is no configuration file",
	} {
		r := runCLI(t, "vm", "list", "-c", path)
		r.want(t, exitFailed, "stdout")
		says(t, r.err, path, want)
		if strings.Contains(r.err, "--driver") {
			t.Errorf("it speaks of drivers: %s", r.err)
		}
	}
}

func TestErrorsOfAConfigurationComeBeforeItsWarnings(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a"})
	text, err := os.ReadFile(s.bench.ConfigPath())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "qemu.yaml")
	odd := "interfaze: lo\n" + strings.Replace(string(text), "    platform:", "    plattform:", 1)
	if err := os.WriteFile(path, []byte(odd), 0o600); err != nil {
		t.Fatal(err)
	}
	r := runCLI(t, "vm", "list", "-c", path, "--runtime-dir", s.bench.RuntimeDir())
	wrong, doubtful := strings.Index(r.err, "platform: "), strings.Index(r.err, "warning: ")
	if wrong < 0 || doubtful < 0 || doubtful < wrong {
		t.Errorf("the errors should be first:\n%s", r.err)
	}
}
