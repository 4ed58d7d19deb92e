// Package require decides what a test does on a machine that lacks a program it needs.
//
// Without a word from the user the test is skipped, with a message that names what is missing. Where
// the environment variable MACHINERY_REQUIRE (a list with commas, such as "qemu,nasm") names the tool,
// the test fails instead, so that a CI job which is meant to have the tool cannot turn green by
// skipping everything that needs it.
package require

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Env is the environment variable that lists the tools a run must have, separated by commas. Blanks
// around a name and empty entries mean nothing; "all" names every tool.
const Env = "MACHINERY_REQUIRE"

// TB is the part of testing.TB (or of Ginkgo's GinkgoT) that this package needs.
type TB interface {
	Helper()
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Tool goes on if every one of binaries is found in PATH. Otherwise it skips the test, or fails it if
// Env lists name or "all". With no binaries, name itself is looked for.
func Tool(t TB, name string, binaries ...string) {
	t.Helper()
	if len(binaries) == 0 {
		binaries = []string{name}
	}
	for _, b := range binaries {
		if _, err := exec.LookPath(b); err != nil {
			Missing(t, name, err.Error())
			return
		}
	}
}

// Python goes on with the path of a Python that has a module: the python3 in PATH, which may be a version of someone's own, or else
// the system's. Otherwise it does as Tool does.
func Python(t TB, name, module string) string {
	t.Helper()
	var words []string
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		out, err := exec.Command(python, "-c", "import "+module).CombinedOutput()
		if err == nil {
			return python
		}
		words = append(words, fmt.Sprintf("%s: %v: %s", python, err, bytes.TrimSpace(out)))
	}
	Missing(t, name, "no Python has the module "+module+": "+strings.Join(words, "; "))
	return ""
}

// Missing skips the test because name cannot be used, for the reason given, or fails it if Env lists
// name or "all". It is for what is more than a program in PATH, such as a device that must open.
func Missing(t TB, name, reason string) {
	t.Helper()
	if Demanded(name) {
		t.Fatalf("%s is required (%s=%s) but cannot be used here: %s", name, Env, os.Getenv(Env), reason)
		return
	}
	t.Skipf("needs %s, which cannot be used here: %s (set %s=%s to make this a failure)", name, reason, Env, name)
}

// Demanded tells whether Env lists name or "all".
func Demanded(name string) bool {
	for entry := range strings.SplitSeq(os.Getenv(Env), ",") {
		entry = strings.TrimSpace(entry)
		if entry != "" && (entry == name || entry == "all") {
			return true
		}
	}
	return false
}
