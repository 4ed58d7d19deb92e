package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// The exit statuses.
const (
	exitFailed = 1 // an operation failed, or a driver is not conformant
	exitUsage  = 2 // wrong usage, or the program could not do its work at all
)

// failure is an error with the exit status that it leads to. Every other error
// of a command is one of usage.
type failure struct {
	status int
	// err is nil if all has been said already.
	err error
}

func (f *failure) Error() string {
	if f.err == nil {
		return fmt.Sprintf("exit status %d", f.status)
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

// failed makes err the failure of an operation; nil stays nil.
func failed(err error) error {
	if err == nil {
		return nil
	}
	return &failure{exitFailed, err}
}

// broken makes err one that kept the program from doing its work.
func broken(err error) error {
	if err == nil {
		return nil
	}
	return &failure{exitUsage, err}
}

// usage is an error in how a command was called; it says where help is.
func usage(cmd *cobra.Command, format string, args ...any) error {
	return fmt.Errorf("%s (see %q)", fmt.Sprintf(format, args...), cmd.CommandPath()+" --help")
}

// exitStatus reports the error of a command and turns it into an exit status.
func (a *app) exitStatus(err error) int {
	if err == nil {
		return 0
	}
	var f *failure
	if !errors.As(err, &f) {
		a.complain(err)
		return exitUsage
	}
	if f.err != nil {
		a.complain(f.err)
	}
	return f.status
}

// complain writes an error to stderr. Further lines, which have the words of a
// hypervisor or the problems of a file, are indented.
func (a *app) complain(err error) { a.say("machinery: ", inWords(a.command, err)) }

// say writes text for people to stderr, with a prefix before its first line. A
// terminal gets it folded to its width.
func (a *app) say(prefix, text string) {
	var b strings.Builder
	for i, line := range strings.Split(strings.TrimRight(printable(text), "\n"), "\n") {
		if i > 0 {
			prefix = "  "
		}
		b.WriteString(prefix + line + "\n")
	}
	fmt.Fprint(a.err, a.errTerm.fold(b.String()))
}
