package conftemplates

import "fmt"

// Error is what is wrong with a template, or with rendering it, and where in the template.
type Error struct {
	// Line and Column are the place in the template. They count from 1, Column in characters.
	Line, Column int
	// Problem says what is wrong, and Hint, which may be empty, what to do about it.
	Problem, Hint string
}

// Error is "line:column: problem (hint)".
func (e *Error) Error() string {
	s := fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Problem)
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// place is a place in the template.
type place struct{ line, column int }

func (p place) errorf(hint, format string, args ...any) *Error {
	return &Error{Line: p.line, Column: p.column, Problem: fmt.Sprintf(format, args...), Hint: hint}
}
