package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/machineries/machineries/machinery"
)

func TestErrorsCallOperationsAsCommandsAreCalled(t *testing.T) {
	root := newRoot(newApp(func() {}, func(error) {}))
	for _, c := range []struct {
		command []string
		err     error
		want    string
	}{
		{[]string{"vm", "start"}, &machinery.Error{Op: machinery.OpRestoreStart, Machine: "a", Reason: "no"}, `start "a": no`},
		{nil, &machinery.Error{Op: machinery.OpNoRestoreStart, Machine: "a", Reason: "no"}, `boot "a": no`},
		{[]string{"vm", "capture", "stop"}, &machinery.Error{Op: machinery.OpStopCapture, Machine: "a", Reason: "no", Err: errors.New(`stop_netcapture "b": said by another`)},
			`capture stop "a": no: stop_netcapture "b": said by another`},
		{[]string{"vm", "acpi-stop"}, &machinery.Error{Op: machinery.OpACPIStop, Machine: "a", Reason: "no", Err: &machinery.Error{Op: machinery.OpDumpMemory, Machine: "a", Reason: "why"}},
			`acpi-stop "a": no: dump "a": why`},
		{[]string{"vm", "check"}, &machinery.Error{Op: machinery.OpDependencies, Reason: "no"}, `check: no`},
		{[]string{"vm", "check"}, &machinery.Error{Op: machinery.OpOpen, Reason: "no"}, `no`},
		{[]string{"vm", "stop"}, also(fmt.Errorf("before %w", &machinery.Error{Op: machinery.OpHandlePaused, Machine: "a\n", Reason: "no"}), "more"), "before resume \"a\\n\": no\nmore"},
		{[]string{"vm", "start"}, &machinery.Error{Op: "unheard_of", Machine: "a", Reason: "no"}, `start "a": no`},
		{nil, &machinery.Error{Op: machinery.OpStop, Machine: "a", Reason: "interrupted while x", Err: errors.Join(context.DeadlineExceeded, errors.New("--timeout 1s is over"))},
			`stop "a": interrupted while x: --timeout 1s is over`},
		{nil, also(context.DeadlineExceeded, "the machine runs on"), "its time was over\nthe machine runs on"},
		{nil, errors.New("plain"), "plain"},
	} {
		cmd, _, err := root.Find(c.command)
		if err != nil {
			t.Fatal(err)
		}
		if got := inWords(cmd, c.err); got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
}

func TestATerminalGetsLinesFoldedAndAPipeDoesNot(t *testing.T) {
	text := "machinery: one two three four five six seven\n  eight nine ten eleven twelve thirteen\n      7 | a line of a file that is long, and its mark\n        |           ^\nshort\n"
	want := "machinery: one two three four\n  five six seven\n  eight nine ten eleven twelve\n    thirteen\n      7 | a line of a file that is long, and its mark\n        |           ^\nshort\n"
	if got := (terminal{live: true, width: 32}).fold(text); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if got := (terminal{width: 32}).fold(text); got != text {
		t.Errorf("what goes to a pipe is changed:\n%s", got)
	}
}
