//go:build linux

package qemu

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestMachineInfoNeedsNothingButStartArgs(t *testing.T) {
	for _, text := range []string{
		`{"machine": {"start_args": ["-m", "16"]}}`,
		"\xef\xbb\xbf" + `{"machine": {"start_args": ["-m", "16"]}}`,
		`{"vmcloak_version": null, "machinery": "qemu", "machine": {"name": "w", "tags": ["a"], "start_args": ["-m", "16"], "x": {"start_args": 1}}, "z": [{}]}` + "\n",
	} {
		args, err := parseMachineInfo([]byte(text))
		if err != nil || !slices.Equal(args, []string{"-m", "16"}) {
			t.Errorf("%s: %q, %v", text, args, err)
		}
	}
}

func TestAMistakeInMachineInfoIsShownWithItsPlace(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", ":1:1: this is not JSON: unexpected end"},
		{"[]", ":1:1: the file must be an object"},
		{"{}", `"machine" is missing`},
		{`{"machine": 5}`, `:1:13: "machine" must be an object`},
		{`{"machine": {}}`, `"machine.start_args" is missing`},
		{`{"machine": {"start_args": "-m 16"}}`, `"machine.start_args" must be a list`},
		{"{\"machine\":\n  {\"start_args\": [\"-m\", 16]}}", ":2:25: \"machine.start_args\" must hold strings alone; its element 2 is none"},
		{"{\"machine\":\n  {\"start_args\": [\"-m\",\n   \"16\"}}", ":3:"},
		{`{"machine": {"start_args": ["-m", "16"]}`, ":1:41: this is not JSON: unexpected end"},
		{`{"machine": {"start_args": ["-m"], "start_args": []}}`, `"machine.start_args" is there twice`},
		{`{"machine": {"start_args": ["-m"]}, "machine": {}}`, `"machine" is there twice`},
		{`{"machine": {"start_args": ["-m"]}} x`, ":1:37: this is not JSON: invalid character 'x' after top-level value"},
		{"{\n\"x\": [1, 2, tru]}", ":2:16: this is not JSON"},
		{`{"machine": {"start_args": ["a\u0000b"]}}`, "NUL"},
		{"{\"machine\": {\"start_args\": [\"\xff\"]}}", ":1:30: the file is not UTF-8"},
		{`{"machine": {"start_args": [` + strings.Repeat(`"a",`, maxArgs) + `"a"]}}`, "more than 4096"},
		{`{"machine": {"start_args": ["` + strings.Repeat("a", maxArg+1) + `"]}}`, "longer than"},
		{strings.Repeat(" ", maxInfoSize+1), "longer than 1048576 bytes"},
		{strings.Repeat("[", 100000), "depth"},
		{`{"x": ` + strings.Repeat("[", 100000), "depth"},
	} {
		_, err := parseMachineInfo([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60s: error is %v, want %q", c.text, err, c.want)
		}
	}
}

func TestAMachineInfoThatIsNoFileIsAnError(t *testing.T) {
	dir := scratch(t)
	path := filepath.Join(dir, "info.json")
	for _, c := range []struct {
		path string
		want string
	}{{path, "no such file"}, {dir, "a directory"}, {"/dev/zero", "a device"}} {
		if _, err := readMachineInfo(c.path); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.path) {
			t.Errorf("%s: error is %v, want %q", c.path, err, c.want)
		}
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readMachineInfo(path); err == nil || !strings.Contains(err.Error(), path+":1:2: ") {
		t.Errorf("error is %v, want %s:1:2", err, path)
	}
}

func FuzzMachineInfo(f *testing.F) {
	f.Add([]byte(`{"machine": {"start_args": ["-drive", "file=%DISPOSABLE_DISK_PATH%,format=qcow2"]}}`))
	f.Add([]byte(`{"machine": {"start_args": ["-blockdev", "{\"filename\":\"%DISPOSABLE_DISK_PATH%\"}", "--hda", "x"]}}`))
	f.Add([]byte(`{"machine": {"start_args": []}, "x": [1, {"y": null}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		args, err := parseMachineInfo(data)
		if err != nil {
			if args != nil || !utf8.ValidString(err.Error()) {
				t.Errorf("error %q with arguments %q", err, args)
			}
			return
		}
		line, err := parseArgs(args, "")
		if err != nil {
			return
		}
		const path = "/tmp/a,b"
		got := line.with(path, overlayPaths("overlay.qcow2", len(line.media))[1:]...)
		if len(got) != len(args) {
			t.Fatalf("%d arguments became %d", len(args), len(got))
		}
		if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "/tmp/a,") }) {
			t.Fatalf("the disk is in none of %q", got)
		}
		for i, arg := range got {
			if strings.Contains(arg, placeholder) && !strings.Contains(args[i], placeholder+placeholder[1:]) {
				t.Fatalf("%q is left in %q", placeholder, arg)
			}
		}
	})
}
