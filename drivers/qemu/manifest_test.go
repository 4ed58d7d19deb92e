//go:build linux

package qemu

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

const someSum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestAManifestThatIsNoneIsRefusedWithTheReason(t *testing.T) {
	dir := t.TempDir()
	snapshot := filepath.Join(dir, "memory.snapshot")
	if _, err := ReadManifest(snapshot); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a manifest: %v", err)
	}
	file := `{"path": "disk", "size": 1, "sha256": "` + someSum + `"}`
	for text, problem := range map[string]string{
		"": "EOF",
		`{"version": 1, "files": [` + file + `]} {}`:                                             "more behind its end",
		`{"version": 1, "files": [` + file + `]`:                                                 "unexpected EOF",
		`{"version": 2, "files": [` + file + `]}`:                                                "version is 2",
		`{"version": 1, "files": []}`:                                                            "names no files",
		`{"version": 1, "files": [{"path": "", "sha256": "` + someSum + `"}]}`:                   "file 1 has no path",
		`{"version": 1, "files": [{"path": "a", "size": -1, "sha256": "` + someSum + `"}]}`:      "is -1",
		`{"version": 1, "files": [{"path": "a", "size": 1, "sha256": "abc"}]}`:                   `is none: "abc"`,
		`{"version": 1, "files": [` + strings.Repeat(file+",", 1000) + file + `]}`:               "more than 1000 files",
		`{"version": 1, "files": "` + strings.Repeat("x", maxManifest) + `"}`:                    "longer than",
		`{"version": 1, "files": [{"path": "a\u0000", "size": 1, "sha256": "` + someSum + `"}]}`: "has no path",
	} {
		if err := os.WriteFile(ManifestPath(snapshot), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadManifest(snapshot)
		if err == nil || !strings.Contains(err.Error(), problem) || !strings.Contains(err.Error(), ManifestPath(snapshot)) {
			t.Errorf("%.60s…: %v; want %q and the path", text, err, problem)
		}
	}
}

func TestAManifestIsReadAsItWasWritten(t *testing.T) {
	dir := t.TempDir()
	snapshot, disk, other := filepath.Join(dir, "s", "memory"), filepath.Join(dir, "s", "disk"), filepath.Join(dir, "base")
	if err := os.Mkdir(filepath.Join(dir, "s"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{snapshot, disk, other} {
		if err := os.WriteFile(path, []byte(path), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m, err := newManifest(context.Background(), filepath.Dir(snapshot), []string{snapshot, disk, other})
	if err != nil {
		t.Fatal(err)
	}
	if m.Files[1].Path != "disk" || m.Files[2].Path != other {
		t.Errorf("a file beside it should be named by its name alone, and another by its path: %q, %q", m.Files[1].Path, m.Files[2].Path)
	}
	m.Hypervisor, m.Arguments = "QEMU 7.2.22", someSum
	data, err := m.text()
	if err == nil {
		err = os.WriteFile(ManifestPath(snapshot), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadManifest(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	m.Files[0].Path, m.Files[1].Path = snapshot, disk
	if diff := cmp.Diff(m, got); diff != "" {
		t.Error(diff)
	}
	dead, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := newManifest(dead, dir, []string{other}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a dead context: %v", err)
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"version": 1, "files": [{"path": "disk", "size": 1, "modified": "2026-01-02T03:04:05.6Z", "sha256": "` + someSum + `"}]}`))
	f.Add([]byte(`{"version": 1, "files": [{}], "arguments": 1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseManifest(data)
		if err != nil {
			if m != nil || !utf8.ValidString(err.Error()) {
				t.Errorf("error %q with %+v", err, m)
			}
			return
		}
		text, err := m.text()
		if err != nil {
			return // a time beyond the year 9999
		}
		again, err := parseManifest(text)
		if err != nil || !cmp.Equal(m, again) {
			t.Errorf("%s was written as %s, which is read as %+v, %v", data, text, again, err)
		}
	})
}
