package main

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/conformance"
)

func TestWrongUsageGivesOneLineThatHelpsAndStatus2(t *testing.T) {
	with := func(args []string, more ...string) []string { return slices.Concat(args, more) }
	run := []string{"conformance", "run"}
	qemu := with(run, "--driver", "qemu")
	fake := with(qemu, "--lab", "fake")
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"conformnce"}, []string{`there is no command "machinery conformnce"`, `did you mean "conformance"?`}},
		{[]string{"zzzzzz"}, []string{`there is no command "machinery zzzzzz"`, "there are config, conformance, doctor, drivers"}},
		{[]string{"conformance"}, []string{`"machinery conformance" needs a command: explain, list, run, sweep`}},
		{[]string{"vm", "stpo"}, []string{`did you mean "stop"?`, `machinery vm --help`}},
		{[]string{"help", "vm", "stpo"}, []string{`did you mean "stop"?`}},
		{[]string{"--colour"}, []string{"unknown flag: --colour"}},
		{[]string{"drivers", "all"}, []string{`"machinery drivers" takes no argument`, `"all"`}},
		{run, []string{"--driver", "qemu"}},
		{with(run, "--driver", "qmeu", "--lab", "fake"), []string{`no driver "qmeu"`, `did you mean "qemu"?`}},
		{qemu, []string{"--lab", "fake, host, none"}},
		{with(qemu, "--lab", "hots"), []string{`no lab "hots" for the driver "qemu"`, `did you mean "host"?`}},
		{with(fake, "--accel", "kvm"), []string{"--accel is of no use with --lab fake"}},
		{with(fake, "--emulator", "/bin/qemu"), []string{"--emulator is of no use with --lab fake"}},
		{with(qemu, "--lab", "host", "--accel", "hvf"), []string{`no accelerator "hvf"`, "tcg, kvm"}},
		{with(fake, "--parallel", "-1"), []string{"--parallel"}},
		{with(fake, "--parallel", "two"), []string{`"two"`, "--parallel"}},
		{with(fake, "--scale", "0"), []string{"--scale must be above 0"}},
		{with(fake, "--only", "MM-NONE-*"), []string{`no requirement matches "MM-NONE-*"`}},
		{with(fake, "--exclude", "MM-NONE-001"), []string{`no requirement matches "MM-NONE-001"`}},
		{with(fake, "--known", "MM-STOP-001"), []string{"ID=REASON", `"MM-STOP-001"`}},
		{with(fake, "--known", "MM-STOP-001="), []string{"MM-STOP-001 needs a reason"}},
		{with(fake, "--known", "MM-STOP-999=x"), []string{`no requirement "MM-STOP-999"`}},
		{with(fake, "--known", "MM-STOP-001=x", "--known", "mm-stop-001=y"), []string{"listed twice"}},
		{with(fake, "--known-file", "/nowhere"), []string{"--known-file", "/nowhere"}},
		{with(fake, "--report", "/nowhere/report.json"), []string{"the report cannot be written", "/nowhere"}},
		{with(fake, "--report", "/"), []string{"the report cannot be written", "directory"}},
		{with(fake, "MM-STOP-001"), []string{`takes no argument`}},
		{with(qemu, "--lab", "host", "--emulator", "/nowhere/qemu"), []string{"/nowhere/qemu", "apt-get install qemu-system-x86"}},
		{[]string{"conformance", "explain"}, []string{"name a requirement", "machinery conformance list"}},
		{[]string{"conformance", "explain", "MM-STOP"}, []string{`no requirement "MM-STOP"`}},
		{[]string{"conformance", "list", "X*"}, []string{`no requirement "X*"`}},
		{[]string{"conformance", "list", "--json", "--markdown"}, []string{"exclude each other"}},
		{[]string{"vm", "list"}, []string{"-c"}},
		{[]string{"vm", "list", "-c", "/etc/passwd"}, []string{`/etc/passwd`, `no driver "passwd"`, "--driver", "qemu"}},
		{[]string{"vm", "lst", "-c", "qemu.yaml"}, []string{`no command "machinery vm lst"`, `did you mean "list"?`}},
		{[]string{"vm", "capture", "strat", "-w", "x"}, []string{`did you mean "start"?`}},
		{[]string{"vm", "list", "-c", "win.yaml", "--driver", "kemu"}, []string{`no driver "kemu"`, `"qemu"`}},
		{[]string{"vm", "list", "-c", "qemu.yaml", "--timeout", "0s"}, []string{"--timeout"}},
		{[]string{"vm", "list", "-c", "qemu.yaml", "--timeout", "5"}, []string{`--timeout: "5" has no unit; write 5s or 5m`}},
		{[]string{"vm", "list", "-c", "qemu.yaml", "--timeout", "soon"}, []string{`--timeout: "soon" is no time; write 90s`}},
		{[]string{"vm", "dump"}, []string{"name the configuration file, with -c, a machine, and the file to write, with --write"}},
		{[]string{"vm", "screenshot", "-c", "qemu.yaml"}, []string{"name a machine, and the file to write, with --write"}},
		{[]string{"vm", "dump", "-c", "qemu.yaml", "a", "-w", "-"}, []string{"standard output", "./-"}},
		{[]string{"vm", "capture", "start", "-c", "qemu.yaml", "a", "-w", "-"}, []string{"standard output", "./-"}},
		{[]string{"vm", "capture", "start", "-c", "qemu.yaml", "a"}, []string{"--write"}},
		{[]string{"vm", "capture", "start", "-c", "qemu.yaml", "a", "--write", "x", "--exclude", "localhost:1"}, []string{"--exclude", `"localhost:1"`, "192.168.30.1:2042"}},
		{[]string{"vm", "capture", "start", "-c", "qemu.yaml", "a", "--write", "x", "--max-bytes", "lots"}, []string{"--max-bytes", `"lots"`, "100M"}},
		{[]string{"vm", "capture", "stpo"}, []string{`did you mean "stop"?`}},
		{[]string{"vm", "example"}, []string{"directory"}},
		{[]string{"config"}, []string{`"machinery config" needs a command: check, init, schema, show`}},
		{[]string{"config", "init"}, []string{"name the directory to write to"}},
		{[]string{"config", "init", "/nowhere/x", "qmeu"}, []string{`no driver "qmeu"`, `did you mean "qemu"?`}},
		{[]string{"config", "check"}, []string{"name the files to check"}},
		{[]string{"doctor", "-c", "a/qemu.yaml", "a/kvm.yaml"}, []string{`"a/kvm.yaml" is no driver; write -c before each configuration file`}},
		{[]string{"config", "check", "/etc/passwd"}, []string{`/etc/passwd`, `no driver "passwd"`, "--driver"}},
		{[]string{"config", "show", "--driver", "kemu", "x.yaml"}, []string{`no driver "kemu"`, `"qemu"`}},
		{[]string{"config", "schema"}, []string{"name one driver"}},
		{[]string{"config", "schema", "qmeu"}, []string{`no driver "qmeu"`, `did you mean "qemu"?`}},
		{[]string{"config", "schema", "qemu", "--strict", "--reference"}, []string{"exclude each other"}},
		{[]string{"machine"}, []string{`"machinery machine" needs a command: add, import, list, remove`}},
		{[]string{"machine", "list"}, []string{"-c"}},
		{[]string{"machine", "list", "-c", "/etc/passwd"}, []string{`/etc/passwd`, `no driver "passwd"`, "--driver"}},
		{[]string{"machine", "add", "-c", "/etc/passwd", "--driver", "qemu"}, []string{"name the machine to add"}},
		{[]string{"machine", "add", "-c", "/etc/passwd", "--driver", "qemu", "ip=1"}, []string{"name the machine before its values"}},
		{[]string{"machine", "add", "-c", "/etc/passwd", "--driver", "qemu", "a", "ip"}, []string{`"ip" is no value; write key=value`}},
		{[]string{"machine", "add", "-c", "/etc/passwd", "--driver", "qemu", "a", "ipp=1"}, []string{`no key "ipp"; did you mean "ip"?`}},
		{[]string{"machine", "add", "-c", "/etc/passwd", "--driver", "qemu", "a", "ip.b=1"}, []string{"there is nothing below ip"}},
		{[]string{"machine", "add", "-c", "/etc/passwd", "--driver", "qemu", "a", "ip=1", "ip=2"}, []string{"ip is given twice"}},
		{[]string{"machine", "add", "-c", "/etc/passwd", "--driver", "qemu", "a", "ip=", "ip=2"}, []string{"ip is given twice"}},
		{[]string{"machine", "import", "-c", "/etc/passwd", "--driver", "qemu"}, []string{"~/.vmcloak/vms/qemu"}},
		{[]string{"machine", "import", "-c", "/etc/passwd", "--driver", "kvm", "/nowhere"}, []string{"run in QEMU alone", `the driver "kvm"`}},
		{[]string{"machine", "remove", "-c", "/etc/passwd", "--driver", "qemu"}, []string{"name the machines to remove"}},
		{[]string{"doctor", "qmeu"}, []string{`no driver "qmeu"`, `did you mean "qemu"?`}},
		{[]string{"doctor", "qemu", "kvm"}, []string{"one driver at most"}},
		{[]string{"doctor"}, []string{"no kvm.yaml and no qemu.yaml in the current directory", "-c"}},
		{[]string{"doctor", "-c", "/etc/passwd"}, []string{`/etc/passwd`, `no driver "passwd"`, "name the one to use: "}},
		{[]string{"doctor", "qemu", "--timeout", "0s"}, []string{"--timeout"}},
		{[]string{"fake", "virtualbox"}, []string{`there is no command "machinery fake virtualbox"`, "qemu"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			r := runCLI(t, c.args...)
			r.want(t, exitUsage, "stdout")
			if !strings.HasPrefix(r.err, "machinery: ") || strings.Count(r.err, "\n") != 1 {
				t.Errorf("stderr should be one line that begins with the program's name:\n%s", r.err)
			}
			for _, want := range c.want {
				if !strings.Contains(r.err, want) {
					t.Errorf("stderr should say %q:\n%s", want, r.err)
				}
			}
		})
	}
}

func TestTheBareNameShowsHelpAndIsNoSuccess(t *testing.T) {
	r := runCLI(t)
	r.want(t, exitUsage, "stdout")
	for _, want := range []string{"conformance", "vm", "Usage:", "Examples:"} {
		if !strings.Contains(r.err, want) {
			t.Errorf("the help should have %q:\n%s", want, r.err)
		}
	}
}

// everyCommand calls f for each command that help shows.
func everyCommand(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, child := range cmd.Commands() {
		if child.IsAvailableCommand() {
			everyCommand(child, f)
		}
	}
}

func TestEveryCommandHasHelpWithExamplesIn80Columns(t *testing.T) {
	root := newRoot(newApp(func() {}, func(error) {}))
	n := 0
	everyCommand(root, func(cmd *cobra.Command) {
		n++
		if cmd.Short == "" || !cmd.HasExample() {
			t.Errorf("%s has no description or no example", cmd.CommandPath())
		}
		cmd.InitDefaultHelpFlag()
		narrow(t, cmd.CommandPath()+" --help", helpText(cmd))
	})
	if n < 15 {
		t.Errorf("only %d commands were looked at", n)
	}
}

// narrow fails the test for lines of more than 80 columns.
func narrow(t *testing.T, what, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > standardWidth {
			t.Errorf("%s: a line has %d columns: %s", what, n, line)
		}
	}
}

func TestHelpIsOnStdout(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"help"}, {"vm", "stop", "-h"}, {"help", "fake", "qemu"}, {"conformance", "--help"}} {
		r := runCLI(t, args...)
		r.want(t, 0, "stderr")
		if !strings.Contains(r.out, "Usage:\n  machinery") {
			t.Errorf("%v shows no usage:\n%s", args, r.out)
		}
	}
}

func TestListAndExplainFit80Columns(t *testing.T) {
	ids := 0
	for _, args := range [][]string{{"conformance", "list"}, {"conformance", "explain", "MM-*"}, {"drivers"}, {"version"}} {
		r := runCLI(t, args...)
		r.want(t, 0, "stderr")
		narrow(t, strings.Join(args, " "), r.out)
		ids += strings.Count(r.out, "MM-")
	}
	if all := len(conformance.Requirements()); ids < 3*all {
		t.Errorf("%d requirements were named %d times in all", all, ids)
	}
}

func TestExplainTellsAllThatIsKnown(t *testing.T) {
	r := runCLI(t, "conformance", "explain", "mm-stop-001")
	r.want(t, 0, "stderr")
	known, _ := conformance.Find("MM-STOP-001")
	flat := strings.Join(strings.Fields(r.out), " ")
	for _, want := range []string{known.ID, string(known.Level), known.Rule, known.Why, known.Source, string(known.Op), "every driver", "--only MM-STOP-001"} {
		if !strings.Contains(flat, want) {
			t.Errorf("it should say %q:\n%s", want, r.out)
		}
	}
}

func TestListAndExplainAsJSONAreTheCatalogue(t *testing.T) {
	all := decode[[]conformance.Requirement](t, runCLI(t, "conformance", "list", "--json").out)
	if want := conformance.Requirements(); len(all) != len(want) || all[0].Rule != want[0].Rule {
		t.Errorf("list has %d requirements, the catalogue %d", len(all), len(want))
	}
	some := decode[[]conformance.Requirement](t, runCLI(t, "conformance", "explain", "--json", "MM-STOP-002", "MM-LOAD-001").out)
	if len(some) != 2 || some[0].ID != "MM-LOAD-001" || some[1].ID != "MM-STOP-002" {
		t.Errorf("explain should have the two in the order of the catalogue: %+v", some)
	}
}

func TestWrapKeepsLongWordsWhole(t *testing.T) {
	long := strings.Repeat("x", 100)
	got := hanging("ab ", "one two "+long+" three", 30)
	if want := "ab one two\n   " + long + "\n   three\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestShellQuoteIsWhatAShellTakesAsOneWord(t *testing.T) {
	for word, want := range map[string]string{
		"/usr/bin/qemu": "/usr/bin/qemu", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "MM-*": "'MM-*'", "$x": "'$x'", "ü": "'ü'",
	} {
		if got := shellQuote(word); got != want {
			t.Errorf("%q became %s, want %s", word, got, want)
		}
	}
}
