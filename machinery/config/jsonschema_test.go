package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

// compiled is the JSON Schema of a schema, as an editor uses it.
func compiled(t *testing.T, s *Schema, strict bool) *jsonschema.Schema {
	t.Helper()
	text, err := s.JSONSchema(strict)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// asJSON is a YAML file as an editor holds it against a schema. The error is one of syntax, which editors show by themselves, as they do keys
// that stand twice.
func asJSON(text string) (any, error) {
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		return nil, err
	}
	b, err := json.Marshal(plain(v))
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(b))
}

// plain has texts for the keys of mappings.
func plain(v any) any {
	switch v := v.(type) {
	case map[any]any:
		out := map[string]any{}
		for k, e := range v {
			out[fmt.Sprint(k)] = plain(e)
		}
		return out
	case map[string]any:
		for k, e := range v {
			v[k] = plain(e)
		}
	case []any:
		for i, e := range v {
			v[i] = plain(e)
		}
	}
	return v
}

// differences are the files about which the JSON Schema says otherwise than the loader's static part, and why it has to.
var differences = map[string]string{
	"broken/every/machines-ip6-same.txt": unsayable, "broken/kvm/label-twice.txt": unsayable, "broken/qemu/same-disk.txt": unsayable,
	"broken/kvm/machine-alias.txt": unsayable, "broken/kvm/machine-merged.txt": unsayable,
	"broken/qemu/same-ip.txt": unsayable, "broken/qemu/same-several.txt": unsayable, "broken/qemu/same-mac-other-case.txt": unsayable,
	"broken/every/number-exponent.txt": written, "broken/qemu/port-fraction-zero.txt": written,
	"broken/qemu/port-leading-zero.txt": written, "broken/qemu/machine-name-null.txt": written,
	"broken/qemu/tag-binary.txt": written, "broken/qemu/tag-python.txt": written,
	"broken/qemu/two-documents.txt": "editors look at each document of a file by itself",
	"broken/every/timeout-long.txt": bounded, "broken/every/timeout-short.txt": bounded,
}

const (
	unsayable = "that values of two sections differ cannot be said in JSON Schema"
	written   = "JSON has no other way of writing it, so that only the loader sees how it is written"
	bounded   = "a length of time with a unit is a text, of which a pattern cannot say how long it is"
)

// The JSON Schema takes and refuses what the loader does without looking at the host, and both do so strictly, too.
func TestTheJSONSchemaTakesAndRefusesWhatTheLoaderDoes(t *testing.T) {
	schemas := map[string]*Schema{"qemu": qemuSchema(), "kvm": kvmSchema(), "every": everySchema()}
	type file struct{ name, schema, text string }
	var files []file
	broken, _ := filepath.Glob("testdata/broken/*/*.txt")
	good, _ := filepath.Glob("testdata/good/*.yaml")
	for _, path := range append(broken, good...) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		input, _, _ := strings.Cut(string(text), wantMark)
		schema := filepath.Base(filepath.Dir(path))
		if schema == "good" {
			schema, _, _ = strings.Cut(strings.TrimSuffix(filepath.Base(path), ".yaml"), "-")
		}
		files = append(files, file{strings.TrimPrefix(path, "testdata/"), schema, input})
	}
	for _, v := range values {
		files = append(files, file{"values/" + v.file, "every", v.file + "\n"})
	}
	if len(files) < 250 {
		t.Fatalf("there are %d files", len(files))
	}
	type mode struct {
		schema string
		strict bool
	}
	compiledBy := map[mode]*jsonschema.Schema{}
	for name, s := range schemas {
		for _, strict := range []bool{false, true} {
			compiledBy[mode{name, strict}] = compiled(t, s, strict)
		}
	}
	seen := map[string]bool{}
	for _, f := range files {
		value, err := asJSON(f.text)
		if err != nil {
			continue
		}
		for _, strict := range []bool{false, true} {
			_, loads := Options{Static: true, Strict: strict}.Parse("x.yaml", []byte(f.text), schemas[f.schema])
			takes := compiledBy[mode{f.schema, strict}].Validate(value)
			if (loads == nil) == (takes == nil) {
				continue
			}
			seen[f.name] = true
			if differences[f.name] == "" {
				t.Errorf("%s (strict %t): the loader says %v\nand the JSON Schema %v", f.name, strict, loads, takes)
			}
		}
	}
	for name := range differences {
		if !seen[name] {
			t.Errorf("%s is said to differ, and does not", name)
		}
	}
}

func TestPatternsOfWholeNumbersHoldTheirBounds(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		from := random.Int64N(int64(1) << random.IntN(20))
		to := from + random.Int64N(int64(1)<<random.IntN(20))
		pattern := regexp.MustCompile(`^(` + strings.Join(between(fmt.Sprint(from), fmt.Sprint(to)), "|") + `)$`)
		for _, n := range []int64{0, 1, from - 1, from, from + 1, (from + to) / 2, to - 1, to, to + 1, 10 * to, random.Int64N(2*to + 2)} {
			if got, want := pattern.MatchString(fmt.Sprint(n)), n >= from && n <= to; got != want {
				t.Fatalf("%d from %d to %d: %t, by %s", n, from, to, got, pattern)
			}
		}
	}
}

func TestThePatternOfIPv6AddressesIsThatOfThePackage(t *testing.T) {
	pattern := regexp.MustCompile(compiledPattern(IPAddress{Version: 6}))
	random := rand.New(rand.NewPCG(3, 4))
	parts := []string{"0", "1", "ab", "FFFF", "12345", "", "", ":", "1.2.3.4", "g"}
	valid := 0
	for range 200_000 {
		words := make([]string, random.IntN(10))
		for i := range words {
			words[i] = parts[random.IntN(len(parts))]
		}
		text := strings.Join(words, ":")
		addr, err := netip.ParseAddr(text)
		want := err == nil && addr.Is6()
		if want {
			valid++
		}
		if got := pattern.MatchString(text); got != want {
			t.Fatalf("%q: %t, and the package says %t", text, got, want)
		}
	}
	if valid < 100 {
		t.Errorf("only %d of the texts were addresses", valid)
	}
}

func compiledPattern(t Type) string { return jsonSchema{}.scalar(t)[0][1].value.(string) }
