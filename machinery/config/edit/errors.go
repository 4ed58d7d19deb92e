package edit

import (
	"cmp"
	"errors"

	"go.yaml.in/yaml/v4"

	"github.com/machineries/machineries/machinery/config"
)

var (
	// ErrExists is what AddMachine's error wraps if there is a machine of that name.
	ErrExists = errors.New("there is a machine of that name already")
	// ErrNotThere is what RemoveMachine's error wraps if there is no machine of that name.
	ErrNotThere = errors.New("there is no machine of that name")
)

// known is a placed error that callers can ask for.
type known struct {
	config.Problems
	err error
}

// Unwrap is what errors.Is and errors.As find.
func (k *known) Unwrap() []error { return []error{k.err, k.Problems} }

// at is a problem at a node, which may be nil. The line itself is not in it: it may hold what is not to be shown.
func (f *File) at(n *yaml.Node, problem, hint string) config.Problems {
	d := config.Diagnostic{Position: config.Position{File: f.name}, Problem: problem, Hint: hint}
	if n != nil {
		d.Line, d.Column = n.Line, n.Column
	}
	return config.Problems{d}
}

// byHand is what to do where a program can do nothing.
const byHand = "nothing was changed; make this edit in an editor"

// refuse is an error with its place and its file.
func (f *File) refuse(err error) error {
	var p *placed
	if errors.As(err, &p) {
		return f.at(p.node, p.problem, cmp.Or(p.hint, byHand))
	}
	return err
}
