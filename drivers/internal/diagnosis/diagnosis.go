//go:build linux

// Package diagnosis is what the diagnoses of drivers have in common: programs, directories, disk space, network interfaces and the
// right to record traffic, each looked at without anything being changed, and said in the same words.
package diagnosis

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/machineries/machineries/drivers/internal/hostfile"
	"github.com/machineries/machineries/machinery"
)

// List collects findings. The zero value is empty and ready.
type List struct {
	Found []machinery.Finding
}

// About begins a finding.
func About(area, subject, key string) machinery.Finding {
	return machinery.Finding{Area: area, Subject: subject, Key: key}
}

// OK adds that all is well with what f is about.
func (l *List) OK(f machinery.Finding, format string, args ...any) {
	l.add(f, machinery.LevelOK, "", format, args...)
}

// Warn adds a warning with what to do.
func (l *List) Warn(f machinery.Finding, do, format string, args ...any) {
	l.add(f, machinery.LevelWarning, do, format, args...)
}

// Problem adds a problem with what to do.
func (l *List) Problem(f machinery.Finding, do, format string, args ...any) {
	l.add(f, machinery.LevelProblem, do, format, args...)
}

func (l *List) add(f machinery.Finding, level machinery.Level, do, format string, args ...any) {
	f.Level, f.Do, f.What = level, do, fmt.Sprintf(format, args...)
	l.Found = append(l.Found, f)
}

// Failed adds a problem that is an error. What the error says of a file of whose rights it complains is said in full, with what to do;
// do is for all others.
func (l *List) Failed(f machinery.Finding, err error, do string) {
	what := err.Error()
	if e, is := errors.AsType[*os.PathError](err); is {
		if why, remedy := Denied(e.Path); errors.Is(err, fs.ErrPermission) && why != "" {
			what, do = what+": "+why, remedy
		} else if e.Path == f.Subject && e == err {
			what = inPlace(e)
		}
	}
	l.add(f, machinery.LevelProblem, do, "%s", what)
}

// inPlace is an error about a file in words that go on after its path.
func inPlace(e *os.PathError) string {
	if errors.Is(e, fs.ErrNotExist) {
		return "it is not there"
	}
	return strings.TrimSpace(fmt.Sprintf("cannot %s it: %v", e.Op, e.Err))
}

// Program says whether a file can be executed; false if not. It adds nothing for one that can. do is how to get it.
func (l *List) Program(f machinery.Finding, do string) bool {
	err := hostfile.CheckProgram(f.Subject)
	if err == nil {
		return true
	}
	l.Failed(f, err, do)
	return false
}
