package imports

import (
	"fmt"
	"slices"
	"strings"
)

const module = "github.com/machineries/machineries"

// rule forbids imports to some packages.
type rule struct {
	// of are the packages that the rule is for; pkg/... is pkg and all below it. They are below the module.
	of []string
	// forbidden are the packages that may not be imported, in the same form. One that begins with ./ is below the module.
	forbidden []string
	// why is what goes wrong otherwise.
	why string
}

// rules are the arrows cmd → conformance → {fakes, drivers} → machinery → machinery/config, and what keeps a program that
// imports a driver free of test frameworks and command-line flags.
var rules = []rule{
	{[]string{"machinery/...", "drivers/..."},
		[]string{"testing/...", "flag", "github.com/onsi/ginkgo/...", "github.com/onsi/gomega/...", "go.uber.org/goleak/...", "pgregory.net/rapid/..."},
		"it would bring a test framework or command-line flags into every program that imports a driver"},
	{[]string{"machinery/...", "drivers/..."}, []string{"./fakes/...", "./conformance/...", "./cmd/..."}, "what is tested must not need its tests"},
	{[]string{"machinery/...", "drivers/..."}, []string{"./conftemplates/...", "github.com/nikolalohinski/gonja/..."},
		"a template engine is only needed to write a new configuration"},
	{[]string{"conftemplates/..."}, []string{"./drivers/...", "./fakes/...", "./conformance/...", "./cmd/..."}, "templates are those of any driver"},
	{[]string{"machinery/..."}, []string{"./drivers/...", "./internal/..."}, "the contract must not know who keeps it"},
	{[]string{"machinery/config/..."}, []string{"./..."}, "a program that only reads configurations needs nothing else of ours"},
	{[]string{"fakes/..."}, []string{"./drivers/...", "./conformance/...", "./machinery/...", "./cmd/..."},
		"a fake that shares code with the driver under test shares its mistakes"},
	{[]string{"conformance/..."}, []string{"./cmd/..."}, "authors run the suite from a test of their own, without our command"},
	{[]string{"internal/..."}, []string{"./machinery/...", "./drivers/...", "./fakes/...", "./conformance/...", "./cmd/..."},
		"internal packages are leaves, which anything may import"},
}

// pkg is a package as go list has it.
type pkg struct {
	ImportPath string
	// Imports are the packages that it imports itself, without those of its tests.
	Imports []string
}

// match tells whether path is pattern, or below it for a pattern that ends in /... (as in go list).
func match(pattern, path string) bool {
	if below, any := strings.CutSuffix(pattern, "/..."); any {
		return path == below || strings.HasPrefix(path, below+"/")
	}
	return path == pattern
}

// ours is a pattern of a rule as a full one.
func ours(pattern string) string { return module + "/" + strings.TrimPrefix(pattern, "./") }

// check returns a sentence for each rule that a package breaks, with the way from it to what it must not import. A rule that
// is for none of the packages is returned as well: it would hold nothing.
func check(rules []rule, all []pkg) (broken []string) {
	byPath := map[string]pkg{}
	for _, p := range all {
		byPath[p.ImportPath] = p
	}
	for _, r := range rules {
		matched := false
		for _, p := range all {
			if !slices.ContainsFunc(r.of, func(of string) bool { return match(ours(of), p.ImportPath) }) {
				continue
			}
			matched = true
			for _, forbidden := range r.forbidden {
				if strings.HasPrefix(forbidden, "./") {
					forbidden = ours(forbidden)
				}
				if way := wayTo(byPath, p.ImportPath, func(path string) bool {
					return match(forbidden, path) && !slices.ContainsFunc(r.of, func(of string) bool { return match(ours(of), path) })
				}); way != nil {
					broken = append(broken, fmt.Sprintf("%s must not import %s: %s\n\tit does by %s", p.ImportPath, way[len(way)-1], r.why, strings.Join(way, " → ")))
				}
			}
		}
		if !matched {
			broken = append(broken, fmt.Sprintf("a rule is for %s, and there is no such package", strings.Join(r.of, ", ")))
		}
	}
	return broken
}

// wayTo is the shortest chain of imports from a package to one that is forbidden; nil if there is none.
func wayTo(all map[string]pkg, from string, forbidden func(path string) bool) []string {
	before := map[string]string{from: ""}
	for line := []string{from}; len(line) > 0; line = line[1:] {
		for _, imported := range all[line[0]].Imports {
			if _, seen := before[imported]; seen {
				continue
			}
			before[imported] = line[0]
			if forbidden(imported) {
				way := []string{imported}
				for at := line[0]; at != ""; at = before[at] {
					way = append(way, at)
				}
				slices.Reverse(way)
				return way
			}
			line = append(line, imported)
		}
	}
	return nil
}
