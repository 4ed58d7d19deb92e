package edit

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/internal/require"
)

func TestATextIsPlainOnlyWhereNobodyTakesItForSomethingElse(t *testing.T) {
	for text, want := range map[string]string{
		"windows": `windows`, "/a/b c/ü.qcow2": `/a/b c/ü.qcow2`, "192.168.30.101": `192.168.30.101`, "qemu:///system": `qemu:///system`, "win10_1": `win10_1`,
		"10": `"10"`, "1.10": `"1.10"`, "no": `"no"`, "Y": `"Y"`, "null": `"null"`, "~": `"~"`, "": `""`, "52:54:00:12:34:56": `"52:54:00:12:34:56"`, "52:54:00:ab:34:56": `52:54:00:ab:34:56`,
		"2024-01-01": `"2024-01-01"`, "0x1F": `"0x1F"`, "1e3": `"1e3"`, "a: b": `"a: b"`, "a #b": `"a #b"`, "*a": `"*a"`, "- a": `"- a"`, "a,b": `"a,b"`, " a": `" a"`, "a ": `"a "`, "a:": `"a:"`,
		"it's": `"it's"`, `C:\new`: `'C:\new'`, `"x" 'y'`: `'"x" ''y'''`, "a\nb": `"a\nb"`, "\t": `"\t"`, "\\\u200b": `"\\\u200b"`, "\U000e0001": `"\U000e0001"`, "日本": `日本`, "😀": `"😀"`, "...": `"..."`,
	} {
		if got := (quoting{}).text(text); got != want {
			t.Errorf("%q is written %s, want %s", text, got, want)
		}
	}
	for text, want := range map[string]string{"10": `'10'`, "it's": `'it''s'`, "a\nb": `"a\nb"`, "windows": `windows`} {
		if got := (quoting{single: true}).text(text); got != want {
			t.Errorf("with a preference for single quotes, %q is written %s, want %s", text, got, want)
		}
	}
	for text, want := range map[string]string{"8000": `8000`, "8_000": `"8_000"`, "5m": `"5m"`, "true": `true`, "0x10": `"0x10"`} {
		if got := (quoting{always: true}).bare(text); got != want {
			t.Errorf("in JSON, %q is written %s, want %s", text, got, want)
		}
	}
}

// texts are those that are hard, and random ones.
func texts() []string {
	r := newRandom(1)
	out := append([]string{""}, nasty...)
	for range 3000 {
		if s := r.anything(); utf8.ValidString(s) {
			out = append(out, s)
		}
	}
	return out
}

func TestATextInJSONIsJSON(t *testing.T) {
	for _, text := range texts() {
		var got string
		if err := json.Unmarshal([]byte(quoting{always: true}.text(text)), &got); err != nil || got != text {
			t.Errorf("%q is written %s and reads as %q, %v", text, quoting{always: true}.text(text), got, err)
		}
	}
}

// TestPythonReadsTheSameTexts holds what is written against PyYAML, a reader of YAML 1.1, which Cuckoo3 reads its configuration with.
func TestPythonReadsTheSameTexts(t *testing.T) {
	python := require.Python(t, "pyyaml", "yaml")
	var file strings.Builder
	all := slices.DeleteFunc(texts(), func(s string) bool { return len(s) > 500 }) // which no key is
	for _, text := range all {
		for _, q := range []quoting{{}, {single: true}, {always: true}} {
			file.WriteString("- " + q.text(text) + "\n- {" + q.text(text) + ": [" + q.text(text) + "]}\n")
		}
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin.buffer), sys.stdout)")
	cmd.Stdin = strings.NewReader(file.String())
	var words bytes.Buffer
	cmd.Stderr = &words
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, words.Bytes())
	}
	var got, want []any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	for _, text := range all {
		for range 3 {
			want = append(want, text, map[string]any{text: []any{text}})
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
