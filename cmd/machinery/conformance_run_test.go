//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/report"
	"github.com/machineries/machineries/internal/require"
)

// onFake runs the suite on the fake QEMU.
func onFake(t *testing.T, args ...string) result {
	t.Helper()
	return runCLI(t, append([]string{"conformance", "run", "--driver", "qemu", "--lab", "fake"}, args...)...)
}

func TestARunPrintsEachRequirementAndTheVerdict(t *testing.T) {
	r := onFake(t, "--only", "MM-STOP-00[12]", "--only", "MM-LOAD-001")
	r.want(t, 0, "stderr")
	narrow(t, "run", r.out)
	for _, want := range []string{"pass  MM-STOP-001", "pass  MM-STOP-002", "pass  MM-LOAD-001", "qemu: conformant on fake-qemu: 3 passed,"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("it should say %q:\n%s", want, r.out)
		}
	}
	if strings.Contains(r.out, "\x1b") || strings.Contains(r.out, "\r") {
		t.Errorf("it should have no control characters where there is no terminal:\n%q", r.out)
	}
}

func TestTheReportKeepsItsSchemaOnStdoutAndInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.json")
	r := onFake(t, "--only", "MM-STOP-001", "--json", "--report", path)
	r.want(t, 0, "")
	if !strings.Contains(r.err, "pass  MM-STOP-001") {
		t.Errorf("with --json the text should be on stderr:\n%s", r.err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if r.out != string(file) {
		t.Error("stdout and the file differ")
	}
	schemaText, err := jsonschema.UnmarshalJSON(bytes.NewReader(report.Schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("report.json", schemaText); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("report.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(decode[any](t, r.out)); err != nil {
		t.Error(err)
	}
	rep := decode[report.Report](t, r.out)
	if all := len(conformance.Requirements()); len(rep.Results) != all || rep.Verdict.Counts[report.Pass] != 1 || rep.Verdict.Counts[report.Excluded] != all-1 {
		t.Errorf("the report has %d results of %d: %v", len(rep.Results), all, rep.Verdict.Counts)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("beside the report there is more: %v", entries)
	}
}

func TestAKnownFailureThatPassesIsAFailure(t *testing.T) {
	list := filepath.Join(t.TempDir(), "known")
	if err := os.WriteFile(list, []byte("# what is known\n\nMM-STOP-001\tit was broken once\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--known", "mm-stop-001=it was broken once"}, {"--known-file", list}} {
		r := onFake(t, append(args, "--only", "MM-STOP-001")...)
		r.want(t, exitFailed, "stderr")
		for _, want := range []string{"FAIL  MM-STOP-001", "it was broken once", "take it off the list", "NOT conformant",
			"again: machinery conformance run --driver qemu --lab fake --only MM-STOP-001"} {
			if !strings.Contains(strings.Join(strings.Fields(r.out), " "), strings.Join(strings.Fields(want), " ")) {
				t.Errorf("it should say %q:\n%s", want, r.out)
			}
		}
	}
}

func TestWhatWasNotRunCountsOnlyIfItIsRequired(t *testing.T) {
	none := []string{"conformance", "run", "--driver", "qemu", "--lab", "none"}
	r := runCLI(t, none...)
	r.want(t, exitUsage, "stderr")
	if !strings.Contains(r.out, "not run") || !strings.Contains(r.out, "qemu: no verdict on no lab: ") {
		t.Errorf("what was not run should be in the verdict:\n%s", r.out)
	}
	const counts = "was required to run and did not"
	if strings.Contains(r.out, counts) {
		t.Errorf("what was not run counts though it is not required:\n%s", r.out)
	}
	if r := runCLI(t, append(none, "--require")...); !strings.Contains(r.out, counts) {
		t.Errorf("what was not run does not count though it is required:\n%s", r.out)
	}
	for _, list := range []string{"conformance", "nasm, conformance", "all"} {
		cmd := command(t, none...)
		cmd.Env = append(cmd.Env, require.Env+"="+list)
		if r := finish(t, cmd); !strings.Contains(r.out, counts) {
			t.Errorf("with %s=%s what was not run does not count:\n%s", require.Env, list, r.out)
		}
	}
}

func TestARunThatTestsNothingIsNoSuccess(t *testing.T) {
	r := runCLI(t, "conformance", "run", "--driver", "qemu", "--lab", "none", "--only", "MM-STOP-001")
	r.want(t, exitUsage, "")
	if !strings.Contains(r.out, "no verdict") {
		t.Errorf("there is nothing to judge:\n%s", r.out)
	}
}

func TestAnEmulatorThatIsNoneIsRefusedBeforeTheRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho I am no emulator\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := runCLI(t, "conformance", "run", "--driver", "qemu", "--lab", "host", "--emulator", path)
	r.want(t, exitUsage, "stdout")
	if !strings.Contains(r.err, "I am no emulator") || !strings.Contains(r.err, path) {
		t.Errorf("stderr should have its words and its path:\n%s", r.err)
	}
}

func TestCtrlCEndsARunAndLeavesNothing(t *testing.T) {
	p := newPrivate(t)
	cmd := p.command("conformance", "run", "--driver", "qemu", "--lab", "fake", "--parallel", "2", "--report", "/tmp/report.json")
	end := begin(t, cmd, "pass  MM-")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	r := end()
	r.want(t, exitUsage, "stderr")
	for _, want := range []string{"no verdict", "the run was interrupted"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("it should say %q:\n%s", want, r.out)
		}
	}
	// What is known by then is in the report.
	text, err := os.ReadFile("/proc/" + itoa(p.pid) + "/root/tmp/report.json")
	if err != nil {
		t.Fatal(err)
	}
	var rep report.Report
	if err := json.Unmarshal(text, &rep); err != nil || !rep.Interrupted || rep.Verdict.Counts[report.Pass] == 0 {
		t.Errorf("the report should be of an interrupted run: %v\n%s", err, text)
	}
	if err := os.Remove("/proc/" + itoa(p.pid) + "/root/tmp/report.json"); err != nil {
		t.Fatal(err)
	}
	p.wantNothingLeft()
}

func TestARunWhoseOutputNobodyReadsEndsAndLeavesNothing(t *testing.T) {
	p := newPrivate(t)
	cmd := p.command("conformance", "run", "--driver", "qemu", "--lab", "fake")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// As "| head -c 1" does.
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	out.Close()
	_ = cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != exitUsage || !strings.Contains(errs.String(), errOutputGone.Error()) {
		t.Errorf("exit status %d, want %d, with a reason on stderr: %s", status, exitUsage, errs.String())
	}
	p.wantNothingLeft()
}

func TestAfterKillSweepClearsUp(t *testing.T) {
	p := newPrivate(t)
	finish(t, p.command("conformance", "sweep")).want(t, 0, "stderr")
	cmd := p.command("conformance", "run", "--driver", "qemu", "--lab", "fake")
	end := begin(t, cmd, "pass  MM-")
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	end()

	again := finish(t, p.command("conformance", "run", "--driver", "qemu", "--lab", "fake", "--only", "MM-STOP-001"))
	again.want(t, exitUsage, "stdout")
	if !strings.Contains(again.err, "machinery conformance sweep") {
		t.Errorf("a run over left-overs should say what to do:\n%s", again.err)
	}

	unasked := finish(t, p.command("conformance", "sweep"))
	unasked.want(t, exitUsage, "")
	if !strings.Contains(unasked.out, "remove /tmp/mmc-") || !strings.Contains(unasked.err, "--yes") {
		t.Errorf("it should show what it would do, and not do it:\n%s%s", unasked.out, unasked.err)
	}
	if len(p.files()) == 0 {
		t.Error("it did it without being asked")
	}

	swept := finish(t, p.command("conformance", "sweep", "--yes"))
	swept.want(t, 0, "stderr")
	if !strings.Contains(swept.out, "Cleared away: 1 of 1.") {
		t.Errorf("it should tell what it did:\n%s", swept.out)
	}
	p.wantNothingLeft()
	finish(t, p.command("conformance", "run", "--driver", "qemu", "--lab", "fake", "--only", "MM-STOP-001")).want(t, 0, "stderr")
	p.wantNothingLeft()
}
