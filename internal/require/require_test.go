package require

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// recorder is a TB that notes what was asked of it instead of ending the test.
type recorder struct{ skipped, failed string }

func (r *recorder) Helper()                      {}
func (r *recorder) Skipf(f string, args ...any)  { r.skipped = fmt.Sprintf(f, args...) }
func (r *recorder) Fatalf(f string, args ...any) { r.failed = fmt.Sprintf(f, args...) }

func TestToolSkipsOrFailsAsTheEnvironmentSays(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "present"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	tests := []struct {
		name          string
		env           string
		tool          string
		binaries      []string
		skips, failed bool
	}{
		{"a tool that is there runs the test", "", "present", nil, false, false},
		{"a tool that is there runs the test when it is demanded", "present", "present", nil, false, false},
		{"a missing tool skips the test", "", "absent", nil, true, false},
		{"a missing tool that is demanded fails the test", "other, absent", "absent", nil, false, true},
		{"all demands every tool", "all", "absent", nil, false, true},
		{"a demand for another tool changes nothing", "absentee,,", "absent", nil, true, false},
		{"one missing binary of two is enough", "", "tool", []string{"present", "absent"}, true, false},
		{"the binaries count, not the name", "", "tool", []string{"present"}, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(Env, tt.env)
			var r recorder
			Tool(&r, tt.tool, tt.binaries...)
			if got := r.skipped != ""; got != tt.skips {
				t.Errorf("skipped = %v (%q), want %v", got, r.skipped, tt.skips)
			}
			if got := r.failed != ""; got != tt.failed {
				t.Errorf("failed = %v (%q), want %v", got, r.failed, tt.failed)
			}
			if msg := r.skipped + r.failed; msg != "" && !strings.Contains(msg, tt.tool) {
				t.Errorf("the message %q does not name the tool %q", msg, tt.tool)
			}
		})
	}
}
