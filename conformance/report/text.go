package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Printer writes results and summaries for people.
type Printer struct {
	Out io.Writer
	// Color uses the terminal's colours.
	Color bool
	// Width is the number of columns; 0 means 80.
	Width int
	// Rerun is how to run one requirement alone: a command line that the id is
	// appended to. Empty says nothing of it.
	Rerun string
}

// look is how an outcome is shown.
var look = map[Outcome]struct{ word, color string }{
	Pass:         {"pass", "\x1b[32m"},
	Fail:         {"FAIL", "\x1b[1;31m"},
	Known:        {"known", "\x1b[33m"},
	Unsupported:  {"unsup", "\x1b[36m"},
	Inapplicable: {"n/a", "\x1b[36m"},
	Excluded:     {"excl", "\x1b[2m"},
	NotRun:       {"norun", "\x1b[33m"},
	Broken:       {"ERROR", "\x1b[1;35m"},
}

func (p *Printer) width() int {
	if p.Width <= 0 {
		return 80
	}
	return max(p.Width, 40)
}

func (p *Printer) paint(o Outcome, text string) string {
	if !p.Color {
		return text
	}
	return look[o].color + text + "\x1b[0m"
}

// Result writes one result: a line, and below it what a person needs to know
// if it is no pass.
func (p *Printer) Result(r Result) {
	indent := 25
	first := fmt.Sprintf("%s %-15s %6s  ", p.paint(r.Outcome, fmt.Sprintf("%-5s", look[r.Outcome].word)), r.ID, fmt.Sprintf("%.2fs", r.Seconds))
	lines := Wrap(r.Rule, p.width()-indent-7)
	for i, line := range lines {
		if i == 0 {
			fmt.Fprintf(p.Out, "%s%s\n", first, line)
			continue
		}
		fmt.Fprintf(p.Out, "%s%s\n", strings.Repeat(" ", 31), line)
	}
	if r.Reason != "" {
		p.paragraph("      ", string(r.Outcome)+": "+r.Reason)
	}
	if r.Message != "" {
		p.paragraph("      ", r.Message)
	}
	if r.Outcome == Fail || r.Outcome == Broken {
		for _, line := range r.Log {
			fmt.Fprintf(p.Out, "      | %s\n", line)
		}
		if p.Rerun != "" {
			fmt.Fprintf(p.Out, "      again: %s %s\n", p.Rerun, r.ID)
		}
	}
}

// Summary writes what the run came to.
func (p *Printer) Summary(r *Report) {
	fmt.Fprintln(p.Out)
	var failed []Result
	for _, result := range r.Results {
		if result.Outcome == Fail || result.Outcome == Broken {
			failed = append(failed, result)
		}
	}
	if len(failed) > 0 {
		fmt.Fprintln(p.Out, "Not kept or not judged:")
		for _, result := range failed {
			p.hanging(fmt.Sprintf("  %s %s (%s) ", p.paint(result.Outcome, fmt.Sprintf("%-5s", look[result.Outcome].word)), result.ID, result.Level), 2+5+1+len(result.ID)+2+len(result.Level)+2, result.Rule)
		}
		fmt.Fprintln(p.Out)
	}
	p.reasons(r, NotRun, "Not run:")
	p.reasons(r, Inapplicable, "Not applicable:")
	p.reasons(r, Unsupported, "Not supported by the driver:")
	p.problems(r)
	lab := r.Lab.Hypervisor
	if r.Lab.Version != "" {
		lab += " " + r.Lab.Version
	}
	if r.Lab.Accelerator != "" {
		lab += ", " + r.Lab.Accelerator
	}
	if lab != "" {
		fmt.Fprintf(p.Out, "Lab: %s (%s). ", r.Lab.Name, lab)
	}
	fmt.Fprintf(p.Out, "Took %.1f s.\n", r.Seconds)
	outcome := Pass
	if !r.Verdict.Conformant {
		outcome = Fail
	}
	for _, line := range Wrap(r.Verdict.Text, p.width()) {
		fmt.Fprintln(p.Out, p.paint(outcome, line))
	}
}

// maxProblems is how many of the reasons against conformance are printed.
const maxProblems = 10

// problems lists the reasons against conformance that are not in a list of
// requirements already.
func (p *Printer) problems(r *Report) {
	var more []string
	for _, problem := range r.Verdict.Problems {
		if id, _, _ := strings.Cut(problem, " "); !slices.ContainsFunc(r.Results, func(result Result) bool {
			return result.ID == id && (result.Outcome == Fail || result.Outcome == Broken)
		}) {
			more = append(more, problem)
		}
	}
	for i, problem := range more {
		if i == maxProblems {
			fmt.Fprintf(p.Out, "And %d more of that kind.\n", len(more)-maxProblems)
			break
		}
		p.hanging("Against it: ", len("Against it: "), problem)
	}
	if len(more) > 0 {
		fmt.Fprintln(p.Out)
	}
}

// reasons lists the requirements of one outcome, those with the same reason
// together.
func (p *Printer) reasons(r *Report, o Outcome, title string) {
	var order []string
	ids := make(map[string][]string)
	for _, result := range r.Results {
		if result.Outcome == o {
			if ids[result.Reason] == nil {
				order = append(order, result.Reason)
			}
			ids[result.Reason] = append(ids[result.Reason], result.ID)
		}
	}
	if len(order) == 0 {
		return
	}
	fmt.Fprintln(p.Out, title)
	for _, reason := range order {
		p.hanging("  ", 2, reason+": "+strings.Join(ids[reason], " "))
	}
	fmt.Fprintln(p.Out)
}

// hanging writes text after a prefix, further lines indented to column indent.
func (p *Printer) hanging(prefix string, indent int, text string) {
	for i, line := range Wrap(text, p.width()-indent) {
		if i > 0 {
			prefix = strings.Repeat(" ", indent)
		}
		fmt.Fprintf(p.Out, "%s%s\n", prefix, line)
	}
}

// paragraph writes text, which may have lines of its own, indented.
func (p *Printer) paragraph(indent, text string) {
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		for _, part := range Wrap(line, p.width()-len(indent)) {
			fmt.Fprintf(p.Out, "%s%s\n", indent, part)
		}
	}
}

// Wrap breaks a line between words so that each part has at most width runes.
// A word that is longer stays whole: it may be a path to be copied. A line
// that begins with a blank is shown as it is.
func Wrap(line string, width int) []string {
	if utf8.RuneCountInString(line) <= width || strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
		return []string{line}
	}
	var lines []string
	current := ""
	for _, word := range strings.Fields(line) {
		switch {
		case current == "":
			current = word
		case utf8.RuneCountInString(current)+1+utf8.RuneCountInString(word) <= width:
			current += " " + word
		default:
			lines = append(lines, current)
			current = word
		}
	}
	return append(lines, current)
}
