package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/machineries/machineries/conformance/report"
)

// app is what all commands share: where they read and write.
type app struct {
	in       *os.File
	out, err io.Writer
	// outTerm and errTerm describe the terminals behind out and err.
	outTerm, errTerm terminal
	// release gives signals their usual effect back.
	release func()
	// command is the one that was called, once that is known.
	command *cobra.Command
}

// terminal says what may be written to a stream.
type terminal struct {
	// live is set if lines may be overwritten: it is a terminal.
	live bool
	// color is set if colours may be used.
	color bool
	// width is the number of columns; 80 if it is not a terminal.
	width int
}

const standardWidth = 80

// fold breaks the lines of a text that are longer than the terminal is wide,
// between words; what follows is indented by two more columns than the line. Text
// that goes elsewhere stays as it is, and so do the lines of a file that are
// quoted with their number and a mark below them.
func (t terminal) fold(text string) string {
	if !t.live {
		return text
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		words := strings.TrimLeft(line, " ")
		indent := line[:len(line)-len(words)]
		if utf8.RuneCountInString(line) <= t.width || quotedLine.MatchString(line) {
			b.WriteString(line + "\n")
			continue
		}
		lines := report.Wrap(words, max(t.width-len(indent)-2, 20))
		b.WriteString(indent + strings.Join(lines, "\n  "+indent) + "\n")
	}
	return b.String()
}

// quotedLine is a line of a file in the problem of a configuration, or the mark
// below it.
var quotedLine = regexp.MustCompile(`^ +[0-9]* \| `)

// newApp takes the standard streams. gone is called when what is written to
// stdout is not read any more, so that what runs ends in good order: the
// runtime would otherwise end the process on the spot.
func newApp(release func(), gone func(error)) *app {
	return &app{
		in:  os.Stdin,
		out: &guarded{w: apart(os.Stdout), gone: gone}, outTerm: describe(os.Stdout),
		err: &guarded{w: apart(os.Stderr), gone: func(error) {}}, errTerm: describe(os.Stderr),
		release: release,
	}
}

// apart returns the same stream under another descriptor. On descriptors 1 and
// 2 the Go runtime answers a closed pipe by ending the process; on all others
// the write returns an error.
func apart(f *os.File) io.Writer {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		return f
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), f.Name())
}

// guarded is a stream that tells when nobody reads it any more, and keeps any
// other reason why it could not be written, for the end: what a command does is
// done all the same.
type guarded struct {
	mu   sync.Mutex
	w    io.Writer
	gone func(error)
	dead bool
	// failed is the first error, unless it was that nobody reads.
	failed error
}

// Write writes p, or drops it once a write has failed.
func (g *guarded) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dead {
		return len(p), nil
	}
	if _, err := g.w.Write(p); err != nil {
		g.dead = true
		if errors.Is(err, syscall.EPIPE) {
			g.gone(fmt.Errorf("%w: %w", errOutputGone, err))
		} else {
			g.failed = err
		}
	}
	return len(p), nil
}

// why is the reason why the stream could not be written; nil if it could, or if
// nobody wanted to read it.
func (g *guarded) why() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failed
}

// unwritten is the error for a standard output that could not be written.
func (a *app) unwritten() error {
	g, is := a.out.(*guarded)
	if !is {
		return nil
	}
	err := g.why()
	if err == nil {
		return nil
	}
	if e, is := errors.AsType[*os.PathError](err); is {
		err = e.Err // the path is no file's that anybody named
	}
	return fmt.Errorf("cannot write to standard output: %w", err)
}

// describe looks at what a stream is. NO_COLOR is the convention of
// no-color.org: set to anything, it means no colours.
func describe(f *os.File) terminal {
	t := terminal{width: standardWidth}
	fd := int(f.Fd())
	if !term.IsTerminal(fd) || os.Getenv("TERM") == "dumb" {
		return t
	}
	t.live = true
	t.color = os.Getenv("NO_COLOR") == ""
	if width, _, err := term.GetSize(fd); err == nil && width > 0 {
		t.width = width
	}
	return t
}

// writeJSON writes v to stdout as indented JSON.
func (a *app) writeJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return broken(e.Encode(v))
}

// printable makes text safe for a terminal: what a hypervisor or a file says
// must not move the cursor or change colours. Line feeds and tabs stay.
func printable(text string) string {
	safe := func(r rune) bool { return r == '\n' || r == '\t' || unicode.IsPrint(r) && r != unicode.ReplacementChar }
	if strings.IndexFunc(text, func(r rune) bool { return !safe(r) }) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if safe(r) {
			b.WriteRune(r)
			continue
		}
		quoted := fmt.Sprintf("%+q", string(r))
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// oneLine is printable for names, which may hold line feeds too.
func oneLine(name string) string {
	return strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(printable(name))
}
