//go:build linux

package qemu

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/machineries/machineries/drivers/internal/hostfile"
)

// The bounds of a machineinfo.json. Real ones have some dozen arguments in a few kilobytes; the kernel takes no argument
// longer than maxArg.
const (
	maxInfoSize = 1 << 20
	maxArgs     = 4096
	maxArg      = 128<<10 - 1
)

// readMachineInfo reads the arguments for QEMU from a machineinfo.json.
func readMachineInfo(path string) ([]string, error) {
	f, err := hostfile.OpenRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxInfoSize+1))
	if err != nil {
		return nil, err
	}
	args, err := parseMachineInfo(data)
	if err != nil {
		return nil, fmt.Errorf("%s%w", path, err)
	}
	return args, nil
}

// infoError is a mistake in a machineinfo.json, with its place. It reads as what follows the file's name.
type infoError struct {
	line, column int
	problem      string
}

func (e *infoError) Error() string {
	if e.line == 0 {
		return ": " + e.problem
	}
	return fmt.Sprintf(":%d:%d: %s", e.line, e.column, e.problem)
}

// parseMachineInfo finds machine.start_args, a list of strings, and nothing else: all that VMCloak writes besides is for
// those who import machines. What is there twice is an error, as readers of JSON disagree about it.
func parseMachineInfo(data []byte) ([]string, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // the byte order mark that editors on Windows put first
	p := &infoReader{data: data}
	if len(data) > maxInfoSize {
		return nil, &infoError{problem: fmt.Sprintf("the file is longer than %d bytes, which no machineinfo.json is", maxInfoSize)}
	}
	if at := invalidUTF8(data); at >= 0 {
		return nil, p.at(at, "the file is not UTF-8 text")
	}
	if err := p.syntax(); err != nil {
		return nil, err
	}
	p.dec = json.NewDecoder(bytes.NewReader(data))
	var args []string
	err := p.object("the file", "", map[string]func() error{
		"machine": func() error {
			return p.object(`"machine"`, "machine.", map[string]func() error{
				"start_args": func() (err error) { args, err = p.strings(`"machine.start_args"`); return err },
			})
		},
	})
	if err != nil {
		return nil, err
	}
	return args, nil
}

// infoReader walks through text that is JSON and knows where it is.
type infoReader struct {
	data  []byte
	dec   *json.Decoder
	start int // where the value that was read last begins
}

// object reads an object that must have all the given keys; the value of any other is passed over.
func (p *infoReader) object(what, prefix string, keys map[string]func() error) error {
	if err := p.open('{', what+` must be an object, such as {"machine": {"start_args": ["-m", "2048"]}}`); err != nil {
		return err
	}
	seen := map[string]bool{}
	for p.dec.More() {
		token, err := p.token()
		if err != nil {
			return err
		}
		key, _ := token.(string) // an object's keys are strings, or the decoder has failed
		read, known := keys[key]
		switch {
		case !known:
			p.skip()
			var skipped json.RawMessage
			err = p.dec.Decode(&skipped)
		case seen[key]:
			err = p.here(fmt.Sprintf("%q is there twice", prefix+key))
		default:
			seen[key] = true
			err = read()
		}
		if err != nil {
			return err
		}
	}
	if _, err := p.token(); err != nil {
		return err
	}
	for key := range keys {
		if !seen[key] {
			return p.here(fmt.Sprintf("%q is missing; it is needed to start the machine", prefix+key))
		}
	}
	return nil
}

// strings reads a list of strings that can be arguments of a program.
func (p *infoReader) strings(what string) ([]string, error) {
	if err := p.open('[', what+` must be a list of strings, such as ["-m", "2048"]`); err != nil {
		return nil, err
	}
	list := []string{}
	for p.dec.More() {
		token, err := p.token()
		if err != nil {
			return nil, err
		}
		s, ok := token.(string)
		switch {
		case !ok:
			return nil, p.here(fmt.Sprintf("%s must hold strings alone; its element %d is none (put it in quotes)", what, len(list)+1))
		case len(list) == maxArgs:
			return nil, p.here(fmt.Sprintf("%s has more than %d elements", what, maxArgs))
		}
		if problem := badArg(s); problem != "" {
			return nil, p.here(fmt.Sprintf("element %d of %s %s", len(list)+1, what, problem))
		}
		list = append(list, s)
	}
	_, err := p.token()
	return list, err
}

// badArg says why a string cannot be an argument of a program, or nothing.
func badArg(s string) string {
	switch {
	case len(s) > maxArg:
		return fmt.Sprintf("is longer than the %d bytes that an argument may have", maxArg)
	case bytes.IndexByte([]byte(s), 0) >= 0:
		return "has a NUL character, which no argument can have"
	}
	return ""
}

// open reads the delimiter that a value has to begin with.
func (p *infoReader) open(delim json.Delim, problem string) error {
	token, err := p.token()
	if err != nil {
		return err
	}
	if token != delim {
		return p.here(problem)
	}
	return nil
}

func (p *infoReader) token() (json.Token, error) {
	p.skip()
	return p.dec.Token()
}

// skip moves start to the value that is read next.
func (p *infoReader) skip() {
	p.start = int(p.dec.InputOffset())
	p.start += len(p.data[p.start:]) - len(bytes.TrimLeft(p.data[p.start:], " \t\r\n,:"))
}

// syntax says where text stops being JSON.
func (p *infoReader) syntax() error {
	var whole json.RawMessage
	err := json.Unmarshal(p.data, &whole)
	var syntax *json.SyntaxError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &syntax) && !strings.HasPrefix(syntax.Error(), "unexpected end"):
		return p.at(int(syntax.Offset)-1, "this is not JSON: "+syntax.Error()) // the offset counts the wrong byte too
	}
	return p.at(len(p.data), "this is not JSON: "+err.Error())
}

// here is a problem with the value that was read last.
func (p *infoReader) here(problem string) error { return p.at(p.start, problem) }

func (p *infoReader) at(offset int, problem string) error {
	before := p.data[:min(max(offset, 0), len(p.data))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	return &infoError{line: line, column: column, problem: problem}
}

// invalidUTF8 is where text stops being UTF-8, or -1. JSON decoders replace such bytes silently.
func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}
