package config

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

const (
	mappingKind  = yaml.MappingNode
	sequenceKind = yaml.SequenceNode
	scalarKind   = yaml.ScalarNode

	// maxDepth is how deep the file may be nested. Schemas need five levels; a parser of hostile input needs a bound.
	maxDepth = 100
	// maxText is the longest piece of a line that a message shows, in characters: with its number before it, it fits a terminal of 80 columns.
	maxText = 70
)

// source is the text of one file, with the lines that must not be shown.
type source struct {
	name      string
	data      []byte // without byte order mark
	lines     []string
	hidden    map[int]bool        // by line number
	secret    map[*yaml.Node]bool // values of sensitive keys, which other keys can refer to
	sensitive []string            // the sensitive keys
}

func newSource(name string, data []byte) *source {
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	// Line ends as YAML counts them; its further ones (U+0085, U+2028, U+2029) are refused by unreadable.
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(data))
	s := &source{name: name, data: data, lines: strings.Split(strings.TrimSuffix(text, "\n"), "\n"), hidden: map[int]bool{}, secret: map[*yaml.Node]bool{}}
	for i, line := range s.lines {
		if strings.Contains(line, "@") && password.MatchString(line) {
			s.hidden[i+1] = true
		}
	}
	return s
}

// tree is the file's only document: nil if it has none. A problem means that the file is not YAML.
func (s *source) tree() (root *yaml.Node, problem *Diagnostic) {
	if problem := s.unreadable(); problem != nil {
		return nil, problem
	}
	defer func() {
		// The parser is handed files that anybody may have written. What it has missed is a bad file for the user, not
		// the end of a program that looks after running machines.
		if p := recover(); p != nil {
			root, problem = nil, s.problem(1, 1, fmt.Sprintf("the YAML parser cannot cope with this file: %v", p), "")
		}
	}()
	loader, err := yaml.NewLoader(bytes.NewReader(s.data),
		yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth), loaderlimits.AliasNone())))
	if err != nil {
		return nil, s.problem(0, 0, err.Error(), "")
	}
	var first, second yaml.Node
	switch err := loader.Load(&first); {
	case err == io.EOF:
		return nil, nil
	case err != nil:
		return nil, s.syntaxProblem(err)
	}
	switch err := loader.Load(&second); {
	case err == io.EOF:
	case err != nil:
		return nil, s.syntaxProblem(err)
	default:
		return nil, s.problem(second.Line, second.Column, "a second document begins here",
			`the file must be a single YAML document: remove the line "---" or "..." before this, or put the rest into a file of its own`)
	}
	if len(first.Content) == 0 {
		return nil, nil
	}
	return first.Content[0], nil
}

// unreadable is the first thing that cannot be in a YAML text at all.
func (s *source) unreadable() *Diagnostic {
	if len(s.data) > MaxSize {
		return s.problem(0, 0, fmt.Sprintf("the file is %d bytes long, which is no configuration: at most %d are read", len(s.data), MaxSize), "")
	}
	if bytes.HasPrefix(s.data, []byte("\xff\xfe")) || bytes.HasPrefix(s.data, []byte("\xfe\xff")) {
		return s.problem(1, 1, "the file is encoded as UTF-16", "save it as UTF-8; Windows editors call UTF-16 \"Unicode\"")
	}
	line, column := 1, 1
	for i := 0; i < len(s.data); {
		r, size := utf8.DecodeRune(s.data[i:])
		switch {
		case r == '\n' || r == '\r':
			if r == '\n' || i+1 == len(s.data) || s.data[i+1] != '\n' {
				line, column = line+1, 0
			}
		case r == utf8.RuneError && size == 1:
			return s.problem(line, column, fmt.Sprintf("the byte 0x%02x here is not UTF-8 text", s.data[i]),
				"save the file as UTF-8; if it is not a text file at all, the path is probably wrong")
		case r == 0x85 || r == 0x2028 || r == 0x2029:
			return s.problem(line, column, fmt.Sprintf("there is an invisible line break here (U+%04X)", r),
				"replace it by a space or by a normal end of line; such characters come with text that is copied from web pages")
		case r == 0:
			return s.problem(line, column, "there is a NUL byte here", "this is probably not a text file: check the path")
		case r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 || r == 0xfeff || r == 0xfffe || r == 0xffff:
			return s.problem(line, column, fmt.Sprintf("there is a character here that YAML does not permit (U+%04X)", r),
				"remove it; it cannot be seen in most editors")
		}
		i += size
		column++
	}
	return nil
}

func (s *source) problem(line, column int, problem, hint string) *Diagnostic {
	return &Diagnostic{Position: Position{File: s.name, Line: line, Column: column}, Problem: problem, Hint: hint}
}

// position is where a node is; the beginning of the file for none.
func (s *source) position(n *yaml.Node) Position {
	if n == nil || n.Line == 0 {
		return Position{File: s.name, Line: 1, Column: 1}
	}
	return Position{File: s.name, Line: n.Line, Column: n.Column}
}

// illustrate gives a problem the text of its line, unless that may not be shown, and takes passwords out of its own.
func (s *source) illustrate(d *Diagnostic) {
	d.Problem, d.Hint = withoutPassword(d.Problem), withoutPassword(d.Hint)
	if d.Line < 1 || d.Line > len(s.lines) || s.hidden[d.Line] {
		return
	}
	// Only the part that is shown is looked at closely: a file of one long line may have a problem in each of its words.
	line := s.lines[d.Line-1]
	length := utf8.RuneCountInString(line)
	d.caret = min(d.Column, length+1)
	from, to := 0, length
	if length > maxText {
		from = max(0, min(d.caret-1-maxText/2, length-maxText))
		to = from + maxText
	}
	runes := make([]rune, 0, to-from)
	at := 0
	for _, r := range line {
		if at == to {
			break
		}
		if at >= from {
			switch {
			case r == '\t':
				r = ' '
			case !printable(r):
				r = '\uFFFD'
			}
			runes = append(runes, r)
		}
		at++
	}
	d.caret -= from
	if from > 0 {
		runes[0] = '…'
	}
	if to < length {
		runes[len(runes)-1] = '…'
	}
	if text := strings.TrimRight(string(runes), " "); text != "" {
		d.Text = text
	} else {
		d.Text, d.caret = "", 0
	}
}
