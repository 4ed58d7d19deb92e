//go:build linux

package hostfile

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestOnlyRegularFilesAreOpenedAndNothingIsWaitedFor(t *testing.T) {
	dir := t.TempDir()
	file, pipe := filepath.Join(dir, "file"), filepath.Join(dir, "pipe")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := OpenRegular(file)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for path, want := range map[string]string{pipe: "a named pipe", dir: "a directory", "/dev/zero": "a device", filepath.Join(dir, "none"): "no such file"} {
		if f, err := OpenRegular(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v; want %q in it", path, err, want)
			if err == nil {
				f.Close()
			}
		}
	}
}

func TestAProgramIsAFileThatMayBeExecuted(t *testing.T) {
	dir := t.TempDir()
	program, text := filepath.Join(dir, "program"), filepath.Join(dir, "text")
	for path, mode := range map[string]os.FileMode{program: 0o700, text: 0o600} {
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := CheckProgram(program); err != nil {
		t.Error(err)
	}
	for _, path := range []string{text, dir, filepath.Join(dir, "none")} {
		if err := CheckProgram(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v; want an error that names it", path, err)
		}
	}
}

func TestAFileThatWasChangedOrReplacedHasAnotherIdentity(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write := func(text string, at time.Time) Identity {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		id, err := Identify(path)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	before := write("same", noon)
	if again := write("same", noon); again != before {
		t.Errorf("%+v and %+v are of the same file", before, again)
	}
	for want, now := range map[string]Identity{
		"it had 4 bytes and has 6": write("longer", noon),
		"it was written to":        write("same", noon.Add(time.Second)),
	} {
		if now == before || !strings.Contains(before.ChangeTo(now), want) {
			t.Errorf("%q; want %q in it", before.ChangeTo(now), want)
		}
	}
	kept := path + ".kept"
	if err := os.Rename(path, kept); err != nil { // so that the next one gets another number
		t.Fatal(err)
	}
	if now := write("same", noon); now == before || before.ChangeTo(now) != "it was replaced by another file" {
		t.Errorf("%q", before.ChangeTo(now))
	}
}
