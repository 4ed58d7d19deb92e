package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// scalar is a Type whose value is a single text in the file.
type scalar interface {
	Type
	// read is the value that the text stands for. With a fault that is not a warning there is no value.
	read(text string, h *host) (any, *fault)
}

// fault is what is wrong with one value, in words that follow its key.
type fault struct {
	problem, hint string
	warning       bool
	secret        bool // the value must not be shown, nor the lines that it is on
}

func faultf(hint, format string, args ...any) *fault {
	return &fault{problem: fmt.Sprintf(format, args...), hint: hint}
}

// Describe implements Type.
func (t String) Describe() string {
	if t.OneOf != nil {
		return "one of " + list(t.OneOf)
	}
	return "a text"
}

func (t String) read(text string, _ *host) (any, *fault) {
	text = strings.TrimSpace(text)
	if t.ToLower {
		text = strings.ToLower(text)
	}
	if t.OneOf != nil && !slices.Contains(t.OneOf, text) {
		hint := "write " + t.Describe()
		if near := nearest(text, t.OneOf); near != "" {
			hint = fmt.Sprintf("did you mean %q? There are %s", near, list(t.OneOf))
		}
		return nil, faultf(hint, "%s is not %s", show(text), t.Describe())
	}
	return text, nulFault(text)
}

// nulFault refuses a NUL byte, which YAML can write as "\0" but no path, address or command line can hold.
func nulFault(text string) *fault {
	if strings.Contains(text, "\x00") {
		return faultf(`in double quotes, "\0" is a NUL byte; in single quotes a backslash is itself`, "%s holds a NUL byte", show(text))
	}
	return nil
}

// Describe implements Type.
func (t Int) Describe() string {
	const name = "a whole number"
	switch {
	case t.Min != nil && t.Max != nil:
		return fmt.Sprintf("%s from %d to %d", name, *t.Min, *t.Max)
	case t.Min != nil:
		return fmt.Sprintf("%s, at least %d", name, *t.Min)
	case t.Max != nil:
		return fmt.Sprintf("%s, at most %d", name, *t.Max)
	}
	return name
}

var (
	wholeNumber  = regexp.MustCompile(`^[-+]?(0|[1-9][0-9]*(_[0-9]+)*|0x[0-9a-fA-F]+)$`)
	leadingZero  = regexp.MustCompile(`^[-+]?0[0-9]+$`)
	wholeWritten = regexp.MustCompile(`^([-+]?[0-9]+)\.0*$`)
)

func (t Int) read(text string, _ *host) (any, *fault) {
	text = strings.TrimSpace(text)
	wanted := "write " + t.Describe()
	if m := wholeWritten.FindStringSubmatch(text); m != nil {
		return nil, faultf("write "+m[1], "%s is a fraction, not a whole number", show(text))
	}
	if leadingZero.MatchString(text) {
		return nil, faultf("write it without the zeros in front", "%s begins with a zero, which some YAML readers take for an octal number", show(text))
	}
	if !wholeNumber.MatchString(text) {
		return nil, faultf(wanted, "%s is not a whole number", show(text))
	}
	n, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 0, strconv.IntSize)
	switch {
	case err != nil && t.Min == nil && t.Max == nil:
		return nil, faultf("", "%s is a larger number than this program can hold", show(text))
	case err != nil, t.Min != nil && n < *t.Min, t.Max != nil && n > *t.Max:
		return nil, faultf(wanted, "%s is out of range", show(text))
	}
	return int(n), nil
}

// Describe implements Type.
func (t Bool) Describe() string { return "true or false" }

// truths are the words of YAML 1.1, which Cuckoo3 reads.
var truths = map[string]bool{"true": true, "yes": true, "on": true, "false": false, "no": false, "off": false}

func (t Bool) read(text string, _ *host) (any, *fault) {
	b, known := truths[strings.ToLower(strings.TrimSpace(text))]
	if !known {
		return nil, faultf("write true or false", "%s is neither true nor false", show(text))
	}
	return b, nil
}

// Describe implements Type.
func (t Duration) Describe() string {
	const name = "a length of time"
	switch {
	case t.Min != nil && t.Max != nil:
		return fmt.Sprintf("%s from %v to %v", name, *t.Min, *t.Max)
	case t.Min != nil:
		return fmt.Sprintf("%s, at least %v", name, *t.Min)
	case t.Max != nil:
		return fmt.Sprintf("%s, at most %v", name, *t.Max)
	}
	return name
}

var secondsAlone = regexp.MustCompile(`^[-+]?[0-9]+(\.[0-9]+)?$`)

func (t Duration) read(text string, _ *host) (any, *fault) {
	text = strings.TrimSpace(text)
	withUnit := text
	if secondsAlone.MatchString(text) {
		withUnit += "s"
	}
	d, err := time.ParseDuration(withUnit)
	switch {
	case err != nil:
		return nil, faultf("write a number with its unit, such as 90s, 5m, 1h30m or 250ms; a number alone is seconds", "%s is not a length of time", show(text))
	case d < 0:
		return nil, faultf("", "%s is negative, and a length of time cannot be", show(text))
	case t.Min != nil && d < *t.Min, t.Max != nil && d > *t.Max:
		return nil, faultf("write "+t.Describe(), "%s is out of range", show(text))
	}
	return d, nil
}
