package edit

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/machinery/config"
)

// described is all that a document says of its machines, one line a machine, and the rest.
func described(t *testing.T, data []byte) (machines []string, rest string) {
	t.Helper()
	doc, err := config.Options{Static: true}.Parse("test.yaml", data, testSchema())
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
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

// trials is how many configurations the property tests try.
const trials = 10_000

func TestAMachineThatIsAddedAndRemovedLeavesTheSameBytes(t *testing.T) {
	for seed := range uint64(trials) {
		r := newRandom(seed)
		text := r.config()
		machines, rest := described(t, []byte(text))
		name, settings := r.name(), r.settings()
		f := open(t, text)
		if err := f.AddMachine(name, settings); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, text)
		}
		after, restAfter := described(t, f.Bytes())
		if diff := cmp.Diff(append(machines, meant(name, settings)), after); diff != "" || rest != restAfter {
			t.Fatalf("seed %d: added, -want +got:\n%s%s\n%s\n%s", seed, diff, f.Bytes(), rest, restAfter)
		}
		again := open(t, string(f.Bytes()))
		if err := again.RemoveMachine(name); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, f.Bytes())
		}
		if string(again.Bytes()) != text {
			t.Fatalf("seed %d: -want +got:\n%s\nwith the machine:\n%s", seed, cmp.Diff(strings.SplitAfter(text, "\n"), strings.SplitAfter(string(again.Bytes()), "\n")), f.Bytes())
		}
	}
}

func TestRemovingAMachineTakesNothingElseAway(t *testing.T) {
	refused := 0
	for seed := range uint64(trials) {
		r := newRandom(seed)
		text := r.config()
		machines, rest := described(t, []byte(text))
		i := r.IntN(len(machines))
		f := open(t, text)
		err := f.RemoveMachine(r.names[i])
		if err != nil {
			if !strings.Contains(err.Error(), "refers here to what it has") || !strings.Contains(text, "<<: *") {
				t.Fatalf("seed %d: %v\n%s", seed, err, text)
			}
			refused++
			continue
		}
		if len(machines) > 1 {
			after, restAfter := described(t, f.Bytes())
			want := append(append([]string{}, machines[:i]...), machines[i+1:]...)
			if diff := cmp.Diff(want, after); diff != "" || rest != restAfter {
				t.Fatalf("seed %d: -want +got:\n%s\n%s\nwas:\n%s", seed, diff, f.Bytes(), text)
			}
		}
		for _, kind := range []string{"# header", "# top", "# end", "# free"} {
			if before, after := strings.Count(text, kind), strings.Count(string(f.Bytes()), kind); before != after {
				t.Fatalf("seed %d: of %d comments %q %d are left:\n%s\nwas:\n%s", seed, before, kind, after, f.Bytes(), text)
			}
		}
	}
	t.Logf("%d machines whose values others use were refused", refused)
	if refused == 0 || refused > trials/10 {
		t.Errorf("%d of %d removals were refused because others use the machine's values", refused, trials)
	}
}
