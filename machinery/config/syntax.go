package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"
)

// rephrased are the parser's messages in words for people who do not know how a YAML parser works. The first entry
// whose texts are in the parser's message and context is taken.
var rephrased = []struct {
	message, context string
	problem, hint    string
	where            where
}{
	{"unexpected end of stream", "quoted scalar", "the quote that opens here is never closed", "add the closing quote at the end of the text", atContext},
	{"unexpected document indicator", "quoted scalar", "the quote that opens here is never closed", "add the closing quote at the end of the text", atContext},
	{"did not find expected ',' or ']'", "", `the list that opens with "[" here is not closed, or lacks a comma`,
		`write "]" at its end and "," between its elements`, atOtherContext},
	{"did not find expected ',' or ']'", "", `a comma, or the "]" that ends the list, is missing before this`,
		`write "]" at its end and "," between its elements`, atMark},
	{"did not find expected ',' or '}'", "", `the section that opens with "{" here is not closed, or lacks a comma`,
		`write "}" at its end and "," between its keys`, atOtherContext},
	{"did not find expected ',' or '}'", "", `a comma, or the "}" that ends the section, is missing before this`,
		`write "}" at its end and "," between its keys`, atMark},
	{"could not find expected ':'", "", "this line is neither a key with its value nor part of a text",
		`write "key: value", with a space after the colon`, atContext},
	{"mapping values are not allowed", "", "this line is indented deeper than the key above it, which has its value already",
		"begin keys of one section in the same column; put quotes around a text of several lines", atOwnKey},
	{"mapping values are not allowed", "", `the ": " here begins a second value where one already stands`,
		"if it belongs to the text, put the whole text in quotes", atMark},
	{"block sequence entries are not allowed", "", `a list element ("- ") cannot begin here`,
		"write each element on a line of its own below the key, or the list as [a, b]", atMark},
	{"did not find expected '-' indicator", "", "this line stands where the next element of the list above would",
		`begin it with "- ", or indent it as its own section is`, atMark},
	{"did not find expected key", "", "the value before this has already ended",
		`put quotes around the whole text; an apostrophe within single quotes is written twice; close no bracket twice`, afterValue},
	{"did not find expected key", "", "this does not begin in the same column as any section above it",
		"check the indentation of this line: keys of one section begin in the same column", atMark},
	{"cannot start any token", "", "a value cannot begin with this character", "put the value in quotes", atMark},
	{"found a tab character", "", "there is a tab here where only spaces may be", "indent with spaces", atMark},
	{"unknown escape character", "", "the backslash in this double-quoted text begins nothing that YAML knows",
		`write the text in single quotes, where a backslash is itself, or write \\`, atMark},
	{"invalid Unicode character escape", "", "the backslash in this double-quoted text begins no character's code",
		`write the text in single quotes, where a backslash is itself, or write \\`, atMark},
	{"did not find expected hex", "", "the backslash in this double-quoted text begins a code that lacks digits",
		`write the text in single quotes, where a backslash is itself, or write \\`, atMark},
	{"exceeded max depth", "", "the file is nested deeper here than any configuration is", "check brackets and indentation up to here", atMark},
	{"did not find expected node content", "", "a value is missing before this", "remove this, or put the text it belongs to in quotes", atMark},
	{"unknown anchor", "", `no value before this one is named with "&", so "*" has nothing to refer to`,
		`if "*" belongs to the text, put the whole text in quotes`, atMark},
	{"mapping keys are not allowed", "", `a key ("? ") cannot begin here`, "put the value in quotes", atMark},
	{"incompatible YAML document", "", "this asks for a version of YAML other than 1.1, which is what is read here", "remove the line", atMark},
	{"undefined tag handle", "", `the "!" here begins a tag, which YAML cannot read`, tagHint, atMark},
	{"document-end marker", "", `nothing can follow "...", which ends a YAML document`, `remove it, or put the whole text in quotes`, atMark},
	{"comment without preceding whitespace", "", `there is no space before the "#" of this comment`,
		"put one there; if it belongs to the text, put the whole text in quotes", atMark},
	{"", "document-end marker", `nothing can follow "...", which ends a YAML document`, `remove it, or put the whole text in quotes`, atMark},
	{"", "directive", `a line that begins with "%" is an instruction to the YAML parser, and it does not understand this one`, "remove the line", atContext},
	{"", "a tag", `the "!" here begins a tag, which YAML cannot read`, tagHint, atContext},
	{"", "an anchor", `the "&" here gives no name to anything`, `if "&" belongs to the text, put the whole text in quotes`, atContext},
	{"", "an alias", `the "*" here refers to nothing`, `if "*" belongs to the text, put the whole text in quotes`, atContext},
	{"", "block scalar", `this cannot follow the "|" or ">" that begins a text of several lines`, "begin the text on the next line, indented; or put it in quotes", atMark},
	{"expected <document start>", "", "this cannot follow what stands above it",
		`the file must consist of keys with values ("key: value"); it is not an INI file with [sections] and "="`, atMark},
}

const tagHint = "remove it, as a value needs none; if it belongs to the text, put the whole text in quotes"

// where is the place that a message is about: the parser's own place is often only where it noticed.
type where int

const (
	atMark         where = iota // where the parser noticed
	atContext                   // where the thing began that the parser was reading, such as a text with its quote
	atOtherContext              // the same, but only if that is on an earlier line
	atOwnKey                    // at the line's first word, but only if the parser stopped at the colon after it
	afterValue                  // where the parser noticed, but only if something stands before it on the line
)

// given are texts that say more than the parser about why a file is not YAML.
var given = []struct {
	line          *regexp.Regexp
	problem, hint string
}{
	{regexp.MustCompile(`^(<{7}|>{7})( |$)`), "this is the mark of an unresolved merge conflict", "decide between the two versions, and remove the marks"},
	{regexp.MustCompile(`^\s*\{[%#]`), "this is a line of a template", "the configuration is what the template gives when it is rendered"},
}

var (
	keyLine    = regexp.MustCompile(`^\s*(- +)?["']?[\w.-]+["']?\s*:(\s|$)`)
	gluedKey   = regexp.MustCompile(`^(\s*)([\w-]+):([^\s:/\\][^:]*|/[^/][^:]*|[a-z][a-z0-9+.-]*://.*)$`)
	openedText = regexp.MustCompile(`^\s*(- +)?(?:["']?[\w.-]+["']?\s*:\s+)?(["'])`)
)

// syntaxProblem is an error of the YAML parser as one of ours, placed at what is to be corrected, which is often not
// where the parser noticed.
func (s *source) syntaxProblem(err error) *Diagnostic {
	var le *yaml.LoadError
	if !errors.As(err, &le) {
		return s.problem(1, 1, "the file is not YAML: "+err.Error(), "")
	}
	mark, context := le.Mark, le.ContextMark
	if mark.Line == 0 {
		mark = context
	}
	for i, text := range s.lines {
		for _, g := range given {
			if i < mark.Line && g.line.MatchString(text) {
				return s.problem(i+1, len(text)-len(strings.TrimLeft(text, " "))+1, g.problem, g.hint)
			}
		}
	}
	if mark.Line > len(s.lines) && strings.Contains(le.Message, "did not find expected node content") {
		if open := s.openAtEnd(); open != nil {
			le, mark, context = open, open.Mark, open.ContextMark
		}
	}
	line := min(max(mark.Line, 1), len(s.lines)) // the end of the text is a line further than its last
	if at, col := s.unclosedQuote(line); at > 0 && !strings.Contains(le.ContextMsg, "quoted scalar") {
		return s.problem(at, col, "the quote that opens here is not closed on this line", "add the closing quote at the end of the text")
	}
	text := s.lines[line-1]
	indent := text[:len(text)-len(strings.TrimLeft(text, " \t"))]
	if tab := strings.IndexByte(indent, '\t'); tab >= 0 {
		return s.problem(line, tab+1, "the line is indented with a tab", "indent with spaces: YAML does not permit tabs here")
	}
	if at := s.gluedColon(line, le.Message); at > 0 {
		indent := len(gluedKey.FindStringSubmatch(s.lines[at-1])[1])
		return s.problem(at, indent+1, "there is no space after the colon, so this is not a key with a value",
			`write "key: value", with a space after the colon`)
	}
	for _, r := range rephrased {
		if !strings.Contains(le.Message, r.message) || !strings.Contains(le.ContextMsg, r.context) {
			continue
		}
		before := string([]rune(text)[:min(max(mark.Column-1, 0), len([]rune(text)))])
		switch {
		case r.where == atMark,
			r.where == afterValue && strings.TrimSpace(before) != "" && line == mark.Line:
			return s.problem(line, mark.Column, r.problem, r.hint)
		case r.where == atContext && context.Line > 0,
			r.where == atOtherContext && context.Line > 0 && context.Line < mark.Line:
			return s.problem(min(context.Line, len(s.lines)), context.Column, r.problem, r.hint)
		case r.where == atOwnKey && keyLine.MatchString(text) && !strings.ContainsAny(strings.TrimSpace(before), " :"):
			return s.problem(line, len(indent)+1, r.problem, r.hint)
		}
	}
	return s.problem(line, mark.Column, "the file is not YAML here: "+le.Message, "")
}

// openAtEnd is the parser's error about the innermost bracket that is open where the file ends, or nil. Where a value would have to
// follow the parser misses that, and does not say what it was in; so it is given one.
func (s *source) openAtEnd() *yaml.LoadError {
	loader, err := yaml.NewLoader(io.MultiReader(bytes.NewReader(s.data), strings.NewReader("\n0\n")))
	for err == nil {
		err = loader.Load(new(yaml.Node))
	}
	le, is := errors.AsType[*yaml.LoadError](err)
	if !is || le.ContextMark.Line == 0 || le.ContextMark.Line > len(s.lines) {
		return nil
	}
	return le
}

// gluedColon is the line, at or right above the given one, that looks like "key:value", or 0. YAML takes it for a text that
// goes on in the next line, and notices the mistake only there.
func (s *source) gluedColon(line int, message string) int {
	if !strings.Contains(message, "mapping values are not allowed") && !strings.Contains(message, "could not find expected ':'") {
		return 0
	}
	for at := line; at >= max(1, line-2); at-- {
		if gluedKey.MatchString(s.lines[at-1]) {
			return at
		}
	}
	return 0
}

// unclosedQuote is the place of a quote at or above line that is not closed on its own line although the line after it is a
// key again; 0 if there is none. YAML reads on to the next quote of the file and notices the mistake only there.
func (s *source) unclosedQuote(line int) (at, column int) {
	for at := line; at >= max(1, line-200); at-- {
		text := s.lines[at-1]
		m := openedText.FindStringSubmatchIndex(text)
		if m == nil || closesQuote(text[m[4]+1:], text[m[4]]) {
			continue
		}
		if at < len(s.lines) && at < line && !keyLine.MatchString(s.lines[at]) && strings.TrimSpace(s.lines[at]) != "" {
			continue // a text of several lines
		}
		if at == line {
			continue // the parser itself is here, and says what it misses
		}
		return at, len([]rune(text[:m[4]])) + 1
	}
	return 0, 0
}

// closesQuote tells whether text, which follows an opening quote, has the closing one.
func closesQuote(text string, quote byte) bool {
	for i := 0; i < len(text); i++ {
		switch {
		case quote == '"' && text[i] == '\\':
			i++
		case quote == '\'' && text[i] == '\'' && i+1 < len(text) && text[i+1] == '\'':
			i++
		case text[i] == quote:
			return true
		}
	}
	return false
}
