package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/machinery"
)

// opWords are the operations of the contract as the commands are called that do
// them. Programs get the contract's own names, with --json.
var opWords = map[machinery.Op]string{
	machinery.OpOpen:         "",
	machinery.OpRestoreStart: "restore", machinery.OpNoRestoreStart: "boot", machinery.OpHandlePaused: "resume",
	machinery.OpACPIStop: "acpi-stop", machinery.OpDumpMemory: "dump", machinery.OpDependencies: "check",
	machinery.OpStartCapture: "capture start", machinery.OpStopCapture: "capture stop",
	machinery.OpWait: "wait", machinery.OpWaitReady: "wait-ready", machinery.OpAccount: "list",
	"save_snapshot": "snapshot create", "seal_snapshot": "snapshot seal", "check_snapshot": "check",
	machinery.OpDiagnose: "doctor",
}

// inWords is an error for people: operations are called as commands are, the
// outermost one as the command that was called, and the words of Go's own
// library are left out.
func inWords(cmd *cobra.Command, err error) string {
	var b strings.Builder
	rest := err.Error()
	outermost := true
	for _, e := range contractErrors(err) {
		old := opPrefix(e.Op, e.Machine)
		at := strings.Index(rest, old)
		if at < 0 {
			continue // said in other words
		}
		b.WriteString(rest[:at])
		rest = rest[at+len(old):]
		word, known := opWords[e.Op]
		if !known {
			word = string(e.Op)
		}
		if outermost && at == 0 && word != "" {
			word = called(cmd, word)
		}
		outermost = false
		b.WriteString(opPrefix(machinery.Op(word), e.Machine))
	}
	b.WriteString(rest)
	return libraryWords.Replace(libraryCause.ReplaceAllString(b.String(), "$1"))
}

// opPrefix is what an error begins with.
func opPrefix(op machinery.Op, machine string) string {
	switch {
	case op == "" && machine == "":
		return ""
	case op == "":
		return fmt.Sprintf("%q: ", machine)
	case machine == "":
		return string(op) + ": "
	}
	return fmt.Sprintf("%s %q: ", op, machine)
}

// called is what the command about machines is called that was given, or else
// the word.
func called(cmd *cobra.Command, word string) string {
	if cmd == nil {
		return word
	}
	if _, name, is := strings.Cut(cmd.CommandPath(), " vm "); is {
		return name
	}
	return word
}

// libraryCause is what Go's library says of a context that ended, before a cause
// that says it better.
var libraryCause = regexp.MustCompile(`context (?:deadline exceeded|canceled)\n(--timeout|[a-z ]+ signal received)`)

// libraryWords are what it says where there is no cause.
var libraryWords = strings.NewReplacer("context deadline exceeded", "its time was over", "context canceled", "it was given up")

// contractErrors are the errors of the contract in err, in the order of its
// text.
func contractErrors(err error) []*machinery.Error {
	var all []*machinery.Error
	switch e := err.(type) {
	case *machinery.Error: // its kind, which it also unwraps to, has no text of its own
		all = append(append(all, e), contractErrors(e.Err)...)
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			all = append(all, contractErrors(inner)...)
		}
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			all = append(all, contractErrors(inner)...)
		}
	}
	return all
}

// also is err with a line below it that says what else is the case.
func also(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w\n%s", err, fmt.Sprintf(format, args...))
}

// flagWords is what is wrong with a flag, without the words of Go's library.
func flagWords(err error) string {
	text := err.Error()
	flag, value := "", ""
	if wrong, is := errors.AsType[interface {
		error
		GetValue() string
	}](err); is {
		value = wrong.GetValue()
	}
	if _, after, is := strings.Cut(text, " for "); is {
		flag, _, _ = strings.Cut(strings.Trim(after, `"`), `"`)
	}
	switch {
	case strings.Contains(text, "time: missing unit in duration"):
		return fmt.Sprintf("%s: %q has no unit; write %ss or %sm", flag, value, value, value)
	case strings.Contains(text, "time: "):
		return fmt.Sprintf("%s: %q is no time; write 90s, 5m or 1h30m", flag, value)
	}
	return text
}
