//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// goBlock finds the Go files in a document.
var goBlock = regexp.MustCompile("(?s)```go\n(package .*?)```")

func TestTheGoFilesInTheGuideCompile(t *testing.T) {
	goCommand, err := exec.LookPath("go")
	if err != nil {
		t.Skip("there is no go command here to compile with")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", "writing-a-driver.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := goBlock.FindAllSubmatch(text, -1)
	if len(blocks) < 3 {
		t.Fatalf("only %d Go files were found in the guide", len(blocks))
	}
	// The files are laid over the module, in folders that do not exist.
	dir := t.TempDir()
	overlay := map[string]map[string]string{"Replace": {}}
	// To list with -export is to compile without linking; go vet wants folders
	// that exist.
	args := []string{"list", "-export", "-test", "-f", "{{.ImportPath}}", "-overlay", filepath.Join(dir, "overlay.json")}
	for i, block := range blocks {
		name := "guide.go"
		if strings.Contains(string(block[1]), "_test\n") {
			name = "guide_test.go"
		}
		file := filepath.Join(dir, fmt.Sprintf("%d_%s", i, name))
		if err := os.WriteFile(file, block[1], 0o600); err != nil {
			t.Fatal(err)
		}
		folder := fmt.Sprintf("guide%d", i)
		overlay["Replace"][filepath.Join(root, "docs", folder, name)] = file
		args = append(args, "./docs/"+folder)
	}
	data, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(goCommand, args...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
