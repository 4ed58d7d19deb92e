package config

import (
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestTheSchemasOfTheTestsAreValid(t *testing.T) {
	for _, s := range []*Schema{qemuSchema(), kvmSchema(), everySchema()} {
		if err := s.Validate(); err != nil {
			t.Error(err)
		}
	}
}

func TestAuthorsMistakesAreFound(t *testing.T) {
	one := func(f Field) *Schema { return &Schema{Name: "x", Fields: []Field{f}} }
	ring := []Field{{Key: "a"}}
	ring[0].Type = Section{Fields: ring}
	for want, s := range map[string]*Schema{
		`config: there is no schema`: nil,
		`config: schema Machinery_Name: the name "Machinery_Name" is not the stem of a file`:                          {Name: "Machinery_Name", Fields: []Field{{Key: "a", Type: String{}}}},
		`config: schema x: it has no fields`:                                                                          {Name: "x"},
		`config: schema x: a: the key is declared twice`:                                                              {Name: "x", Fields: []Field{{Key: "a", Type: String{}}, {Key: "a", Type: Int{}}}},
		`config: schema x: a: it has no Type`:                                                                         one(Field{Key: "a"}),
		`config: schema x: "a b": a key has letters`:                                                                  one(Field{Key: "a b", Type: String{}}),
		`config: schema x: a: Min 2 is more than Max 1`:                                                               one(Field{Key: "a", Type: Between(2, 1)}),
		`config: schema x: a: OneOf leaves no choice`:                                                                 one(Field{Key: "a", Type: String{OneOf: []string{"b"}}}),
		`config: schema x: a: OneOf has capital letters, which ToLower makes small`:                                   one(Field{Key: "a", Type: String{ToLower: true, OneOf: []string{"B", "c"}}}),
		`config: schema x: a: the bounds exclude everything`:                                                          one(Field{Key: "a", Type: Duration{Max: new(-time.Second)}}),
		`config: schema x: a: Version is 5, but must be 0, 4 or 6`:                                                    one(Field{Key: "a", Type: IPAddress{Version: 5}}),
		`config: schema x: a: Of is a list, but must be a plain value`:                                                one(Field{Key: "a", Type: List{Of: List{}}}),
		`config: schema x: a: Min 3 is more than Max 2`:                                                               one(Field{Key: "a", Type: Dict{Of: Between(3, 2)}}),
		`config: schema x: a.b: it has no Type`:                                                                       one(Field{Key: "a", Type: Section{Fields: []Field{{Key: "b"}}}}),
		`config: schema x: a.b: Machines can only stand at the top of a file`:                                         one(Field{Key: "a", Type: Section{Fields: []Field{{Key: "b", Type: Machines{Fields: []Field{{Key: "c", Type: Int{}}}}}}}}),
		`config: schema x: a: Unique names "ip", which is not one of its keys`:                                        one(Field{Key: "a", Type: Machines{Unique: []string{"ip"}, Fields: []Field{{Key: "c", Type: Int{}}}}}),
		`config: schema x: a: Unique names "c", which is not a plain value`:                                           one(Field{Key: "a", Type: DictList{Unique: []string{"c"}, Fields: []Field{{Key: "c", Type: List{}}}}}),
		`config: schema x: a: a required key has a Default, which would never be used`:                                one(Field{Key: "a", Type: Int{}, Default: 1}),
		`config: schema x: a: the Default breaks the type's own rule: "0" is out of range`:                            one(Field{Key: "a", Type: Between(1, 9), Optional: true, Default: 0}),
		`config: schema x: a: the Example breaks the type's own rule: "x" is not an IP`:                               one(Field{Key: "a", Type: IPAddress{}, Example: "x"}),
		`config: schema x: a: the Default breaks the type's own rule: 8000 is a Go string, but this type wants int`:   one(Field{Key: "a", Type: Int{}, Optional: true, Default: "8000"}),
		`config: schema x: a: the Default breaks the type's own rule: b is a Go string, but this type wants []string`: one(Field{Key: "a", Type: List{}, Optional: true, Default: "b"}),
		`config: schema x: a: the Default breaks the type's own rule: "x" is not a whole number`:                      one(Field{Key: "a", Type: List{Of: Int{}}, Optional: true, Default: []string{"1", "x"}}),
		`config: schema x: a: the Example breaks the type's own rule: it is the empty text`:                           one(Field{Key: "a", Type: String{}, Example: ""}),
		`config: schema x: a: Sensitive is for values`:                                                                one(Field{Key: "a", Sensitive: true, Type: Section{Fields: []Field{{Key: "b", Type: Int{}}}}}),
		`sections are nested more than 16 deep`:                                                                       {Name: "x", Fields: ring},
	} {
		err := s.Validate()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %.300v\nwant %s", err, want)
		}
		if _, loaded := Parse("x.yaml", nil, s); loaded == nil || err != nil && loaded.Error() != err.Error() {
			t.Errorf("Parse takes the schema, or says something else: %v", loaded)
		}
	}
	err := (&Schema{Name: "X", Fields: []Field{{Key: "a"}, {Key: "a"}}}).Validate()
	if n := strings.Count(err.Error(), "\n") + 1; n != 4 {
		t.Errorf("%d mistakes are told at once, want 4: %v", n, err)
	}
}

func TestThePackageDragsInNoTestFrameworkNorFlags(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Skipf("go list does not run here: %v\n%s", err, out)
	}
	for dep := range strings.Lines(string(out)) {
		dep = strings.TrimSpace(dep)
		outside := strings.Contains(strings.SplitN(dep, "/", 2)[0], ".")
		known := strings.HasPrefix(dep, "go.yaml.in/yaml/v4") || strings.HasPrefix(dep, "golang.org/x/sys/") ||
			strings.HasSuffix(dep, "/machinery/config")
		if dep == "testing" || dep == "flag" || outside && !known {
			t.Errorf("the package depends on %s", dep)
		}
	}
}
