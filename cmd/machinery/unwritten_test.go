//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/machineries/machineries/conformance"
)

// full runs a command whose standard output is a full disk.
func full(t *testing.T, args ...string) result {
	t.Helper()
	out, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := command(t, args...)
	var errs strings.Builder
	cmd.Stdout, cmd.Stderr = out, &errs
	_ = cmd.Run()
	return result{"", errs.String(), cmd.ProcessState.ExitCode()}
}

const cannotWrite = "machinery: cannot write to standard output: no space left on device\n"

func TestOutputThatCannotBeWrittenIsOneErrorOfEveryCommand(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a"})
	for _, args := range [][]string{
		{"--help"}, {"help", "vm"}, {"vm", "stop", "--help"}, {"--version"}, {"version"}, {"drivers"}, {"drivers", "--json"}, {"completion", "bash"},
		s.args("list"), s.args("list", "--json"), s.args("state"), s.args("check"), s.args("check", "--json"), s.args("sweep"),
		s.args("watch"), s.args("watch", "--json"), s.args("start", "a"), s.args("screenshot", "a", "-w", "-"),
		s.args("dump", "a", "-w", filepath.Join(t.TempDir(), "dump")), s.args("stop", "a"),
	} {
		r := full(t, args...)
		if r.status != exitFailed || r.err != cannotWrite {
			t.Errorf("%v: exit status %d, and:\n%s", args, r.status, r.err)
		}
	}
	s.state("a", "poweroff") // what a command was to do it did
	s.nothingLeft()
	if r := full(t, "conformance", "list"); r.status != exitUsage || r.err != cannotWrite {
		t.Errorf("of the suite 1 is a verdict: exit status %d, and:\n%s", r.status, r.err)
	}
}
