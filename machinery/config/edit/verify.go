package edit

import (
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/machineries/machineries/machinery/config"
)

// verified is the file after an edit, if it is exactly what was wanted. made are the nodes that are new in want.
func (f *File) verified(splices []splice, want *yaml.Node, made ...*yaml.Node) (*state, error) {
	next, err := f.parse(f.now.spliced(splices...))
	if err != nil {
		return nil, f.unsafe(splices, "the file could not be read any more: "+firstLine(err))
	}
	if !newComparison(made...).same(want, next.root) {
		return nil, f.unsafe(splices, "more would change in the file than was meant")
	}
	return next, nil
}

// unsafe is the error of an edit that did not come out as it was meant.
func (f *File) unsafe(splices []splice, why string) error {
	problems := f.at(nil, "this edit cannot be made safely: "+why, byHand)
	problems[0].Line = f.now.line(splices[0].from) + 1
	return problems
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// sound is what is wrong with the machine that was added, and with others because of it.
func (f *File) sound(next *state) error {
	before := map[string]bool{}
	if f.now.doc != nil {
		for _, d := range f.now.doc.Problems().Errors() {
			before[d.Path] = true
		}
	}
	var found config.Problems
	for _, d := range next.doc.Problems().Errors() {
		if !before[d.Path] && strings.HasPrefix(d.Path, f.field.Key+".") {
			// Its place is one in a file that nobody has seen.
			d.Line, d.Column, d.Text = 0, 0, ""
			found = append(found, d)
		}
	}
	if len(found) > 0 {
		return found
	}
	return nil
}
