package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// commandEnv makes the test binary the command itself, with the arguments that
// it was given.
const commandEnv = "MACHINERIES_TEST_COMMAND"

func TestMain(m *testing.M) {
	platformMain()
	if os.Getenv(commandEnv) != "" {
		main()
	}
	os.Exit(m.Run())
}

// patience bounds every command of these tests. None needs more than a few
// seconds on an idle machine.
const patience = 2 * time.Minute

// command is the command with arguments. Without more, it runs with no terminal
// and without what the environment of the tests asks for.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, self, args...)
	// A race-built binary otherwise waits a second before it ends.
	cmd.Env = append(os.Environ(), commandEnv+"=1", "MACHINERY_REQUIRE=", "NO_COLOR=", "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	return cmd
}

// result is what became of a command.
type result struct {
	out, err string
	status   int
}

// finish runs a command to its end.
func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", cmd, err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// run runs the command to its end.
func runCLI(t *testing.T, args ...string) result {
	t.Helper()
	return finish(t, command(t, args...))
}

// want fails the test unless a command ended with this status; quiet names the
// stream that must be empty, if one must.
func (r result) want(t *testing.T, status int, quiet string) {
	t.Helper()
	if r.status != status {
		t.Fatalf("exit status %d, want %d\nstdout:\n%s\nstderr:\n%s", r.status, status, r.out, r.err)
	}
	if quiet == "stdout" && r.out != "" {
		t.Errorf("stdout should be empty:\n%s", r.out)
	}
	if quiet == "stderr" && r.err != "" {
		t.Errorf("stderr should be empty:\n%s", r.err)
	}
}

// decode reads what should be one JSON document.
func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	d := json.NewDecoder(strings.NewReader(text))
	if err := d.Decode(&v); err != nil {
		t.Fatalf("this is no JSON: %v\n%s", err, text)
	}
	if d.More() {
		t.Fatalf("there is more after the JSON document:\n%s", text)
	}
	return v
}
