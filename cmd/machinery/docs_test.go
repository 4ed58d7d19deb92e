package main

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/conformance"
)

func TestTheCatalogueInDocsIsUpToDate(t *testing.T) {
	have, err := os.ReadFile("../../docs/requirements.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(have), catalogueMarkdown(conformance.Requirements())); diff != "" {
		t.Errorf("docs/requirements.md is not what the suite has; \"make catalogue\" writes it (-have +want):\n%s", diff)
	}
}

func TestListWritesTheCatalogueAsMarkdown(t *testing.T) {
	r := runCLI(t, "conformance", "list", "--markdown")
	r.want(t, 0, "stderr")
	if r.out != catalogueMarkdown(conformance.Requirements()) {
		t.Error("--markdown writes something else")
	}
}
