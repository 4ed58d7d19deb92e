package config

import (
	"fmt"
	"slices"
	"strings"
)

// Severity tells a problem that the file cannot be used with from one that it can.
type Severity int

const (
	// Error is a problem that makes the file, or the machine that it is in, unusable.
	Error Severity = iota
	// Warning is a likely mistake that does not stop the file from being used, such as an unknown key.
	Warning
)

// String is "error" or "warning".
func (s Severity) String() string {
	if s == Warning {
		return "warning"
	}
	return "error"
}

// Position is a place in a file. Line and Column count from 1, Column in characters; 0 means not known.
type Position struct {
	File         string
	Line, Column int
}

// String is "file:line:column", as compilers write it; what is not known is left out.
func (p Position) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Diagnostic is one problem of a file, with its place.
type Diagnostic struct {
	Position
	// Path is the key with those above it, joined by dots: machines.win10_1.agent_port. Empty for the file itself.
	Path string
	// Problem says what is wrong, and Hint, which may be empty, what to do about it.
	Problem, Hint string
	// Text is the line that Position names, without its line end, made safe to print and shortened if it is long.
	// Empty where there is none, or where the line holds a sensitive value.
	Text     string
	Severity Severity

	caret   int    // column in Text, from 1; 0 for none
	machine string // name of the machine the problem belongs to; "" for none
}

// String is the problem on one line: "file:line:column: key.path: problem".
func (d Diagnostic) String() string {
	var b strings.Builder
	b.WriteString(d.Position.String())
	b.WriteString(": ")
	if d.Severity == Warning {
		b.WriteString("warning: ")
	}
	if d.Path != "" {
		b.WriteString(withoutPassword(d.Path))
		b.WriteString(": ")
	}
	b.WriteString(d.Problem)
	return b.String()
}

// Error is String: a single Diagnostic is an error too.
func (d Diagnostic) Error() string { return d.String() }

// WithHint is the Diagnostic with its Hint replaced.
func (d Diagnostic) WithHint(hint string) Diagnostic {
	d.Hint = hint
	return d
}

// Detail is String followed by the line itself, a mark under the place, and the hint, each on lines of their own.
func (d Diagnostic) Detail() string {
	var b strings.Builder
	b.WriteString(d.String())
	if d.Text != "" {
		number := fmt.Sprintf("%5d", d.Line)
		fmt.Fprintf(&b, "\n%s | %s", number, d.Text)
		if d.caret > 0 {
			fmt.Fprintf(&b, "\n%s | %s^", strings.Repeat(" ", len(number)), strings.Repeat(" ", d.caret-1))
		}
	}
	if d.Hint != "" {
		fmt.Fprintf(&b, "\n      hint: %s", d.Hint)
	}
	return b.String()
}

// Problems is everything that is wrong with a file, in the order of the file. As an error it reads as all of its
// problems in detail; a caller that wants them one by one uses errors.As or errors.AsType.
type Problems []Diagnostic

// Error is the Detail of each problem, one after the other: errors first, as a warning is never why a file is refused.
func (p Problems) Error() string {
	parts := make([]string, 0, len(p))
	for _, d := range append(p.Errors(), p.Warnings()...) {
		parts = append(parts, d.Detail())
	}
	return strings.Join(parts, "\n")
}

// Errors are the problems that are errors.
func (p Problems) Errors() Problems { return p.of(Error) }

// Warnings are the problems that are warnings.
func (p Problems) Warnings() Problems { return p.of(Warning) }

func (p Problems) of(s Severity) Problems {
	return slices.DeleteFunc(slices.Clone(p), func(d Diagnostic) bool { return d.Severity != s })
}

// err is p as an error: nil when nothing in it is one.
func (p Problems) err() error {
	if len(p.Errors()) == 0 {
		return nil
	}
	return p
}
