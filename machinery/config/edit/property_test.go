package edit

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/machinery/config"
)

// described is all that a file says of its machines, one line a machine, and the rest.
func described(t *testing.T, f *File) (machines []string, rest string) {
	t.Helper()
	doc := f.now.doc
	if len(doc.Problems().Errors()) > 0 {
		t.Fatalf("%v\n%s", doc.Problems(), f.Bytes())
	}
	for _, e := range doc.Machines() {
		machines = append(machines, fmt.Sprintf("%q %s", e.Name, describe(e.Values)))
	}
	return machines, fmt.Sprintf("%q %q", doc.String("interface"), doc.Section("binaries").String("qemu"))
}

func describe(v *config.Values) string {
	out := fmt.Sprintf("ip %q mac %q version %q port %d tags %q env %q extra %q", v.String("ip"), v.String("mac"), v.String("version"), v.Int("port"),
		v.Strings("tags"), v.Dict("env"), v.Section("extra").String("a"))
	for _, d := range v.Sections("disks") {
		out += fmt.Sprintf(" disk %q %q", d.String("path"), d.String("bus"))
	}
	return out
}

// meant is what a machine with these settings is to be described as.
func meant(name string, settings []Setting) string {
	text := func(v any) string {
		s, _ := v.(string)
		return strings.TrimSpace(s)
	}
	vals := map[string]any{}
	for _, s := range settings {
		vals[s.Key] = s.Value
	}
	port := 8000
	switch p := vals["port"].(type) {
	case int:
		port = p
	case string:
		n, _ := strconv.ParseInt(strings.ReplaceAll(p, "_", ""), 0, 32)
		port = int(n)
	}
	var tags []string
	switch given := vals["tags"].(type) {
	case string:
		tags = []string{given}
	case []string:
		for _, s := range given {
			tags = append(tags, text(s))
		}
	}
	env := []config.Pair{}
	pairs, _ := vals["env"].([]config.Pair)
	for _, p := range pairs {
		env = append(env, config.Pair{Key: p.Key, Value: text(p.Value)})
	}
	extra := ""
	if e, is := vals["extra"].([]Setting); is {
		extra = text(e[0].Value)
	}
	out := fmt.Sprintf("%q ip %q mac %q version %q port %d tags %q env %q extra %q", name, text(vals["ip"]), strings.ToLower(text(vals["mac"])), text(vals["version"]), port, tags, env, extra)
	sections, _ := vals["disks"].([][]Setting)
	for _, d := range sections {
		bus := ""
		if len(d) > 1 {
			bus = text(d[1].Value)
		}
		out += fmt.Sprintf(" disk %q %q", text(d[0].Value), bus)
	}
	return out
}

// TestAnEditChangesExactlyWhatItIsToInAnyConfiguration adds a machine to random configurations, removes it again, which has to leave the
// same bytes, and removes one of those that were there.
func TestAnEditChangesExactlyWhatItIsToInAnyConfiguration(t *testing.T) {
	refused := 0
	for seed := range uint64(trials) {
		r := newRandom(seed)
		text := r.config()
		f := open(t, text)
		left := addAndRemove(t, r, f, text)
		if seed%10 == 0 { // the others go on with what the File itself knows
			f = open(t, left)
		}
		if !removeOne(t, r, f, text) {
			refused++
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d machines whose values others use were refused", refused)
	if refused == 0 || refused > trials/10 {
		t.Errorf("%d of %d removals were refused because others use the machine's values", refused, trials)
	}
}

// addAndRemove returns the text that is left.
func addAndRemove(t *testing.T, r *random, f *File, text string) string {
	t.Helper()
	machines, rest := described(t, f)
	name, settings := r.name(), r.settings()
	if err := f.AddMachine(name, settings); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	with := string(f.Bytes())
	after, restAfter := described(t, f)
	if diff := cmp.Diff(append(machines, meant(name, settings)), after); diff != "" || rest != restAfter {
		t.Errorf("added, -want +got:\n%s%s\n%s\n%s", diff, with, rest, restAfter)
	}
	if err := f.RemoveMachine(name); err != nil {
		t.Fatalf("%v\n%s", err, with)
	}
	left := string(f.Bytes())
	if left != text {
		t.Errorf("-want +got:\n%s\nwith the machine:\n%s", cmp.Diff(strings.SplitAfter(text, "\n"), strings.SplitAfter(left, "\n")), with)
	}
	return left
}

// removeOne takes out one of the machines that were there. It returns false if others use its values.
func removeOne(t *testing.T, r *random, f *File, text string) bool {
	t.Helper()
	machines, rest := described(t, f)
	i := r.IntN(len(machines))
	if err := f.RemoveMachine(r.names[i]); err != nil {
		if !strings.Contains(err.Error(), "refers here to what it has") || !strings.Contains(text, "<<: *") {
			t.Errorf("%v\n%s", err, text)
		}
		return false
	}
	if len(machines) > 1 {
		after, restAfter := described(t, f)
		want := append(append([]string{}, machines[:i]...), machines[i+1:]...)
		if diff := cmp.Diff(want, after); diff != "" || rest != restAfter {
			t.Errorf("-want +got:\n%s\n%s\nwas:\n%s", diff, f.Bytes(), text)
		}
	}
	for _, kind := range []string{"# header", "# top", "# end", "# free"} {
		if before, after := strings.Count(text, kind), strings.Count(string(f.Bytes()), kind); before != after {
			t.Errorf("of %d comments %q %d are left:\n%s\nwas:\n%s", before, kind, after, f.Bytes(), text)
		}
	}
	return true
}
