package config

import "go.yaml.in/yaml/v4"

// Document is a file that was read with a Schema. It is read-only and safe for use by several goroutines at once.
// The keys at its top are read with the methods of Values.
type Document struct {
	*Values
	schema   *Schema
	source   *source
	problems Problems
}

// Schema is what the file was read with.
func (d *Document) Schema() *Schema { return d.schema }

// Name is the file's name as it was given to Load or Parse.
func (d *Document) Name() string { return d.source.name }

// Problems are all errors and warnings of the file, in its order.
func (d *Document) Problems() Problems { return append(Problems(nil), d.problems...) }

// Warnings are the problems that do not stop the file from being used, such as unknown keys.
func (d *Document) Warnings() Problems { return d.problems.Warnings() }

// Err is the errors, as Problems, that belong to no machine; nil without one. A driver that would rather run with
// the machines that are right than not at all fails on this, and lists each machine whose own Err is not nil as broken.
func (d *Document) Err() error { return d.problemsOf("").err() }

// Machines are the machines of the file, in its order: the entries of the schema's first field of type Machines.
// Machines that have errors are among them. It is empty if the schema has no such field.
func (d *Document) Machines() []Entry {
	for _, f := range d.schema.Fields {
		if f.Type.kind() == kindMachines {
			return d.Entries(f.Key)
		}
	}
	return nil
}

func (d *Document) problemsOf(machine string) Problems {
	var p Problems
	for _, x := range d.problems {
		if x.machine == machine {
			p = append(p, x)
		}
	}
	return p
}

// Entry is one named section of a Machines.
type Entry struct {
	// Name is the machine's name, as it was written.
	Name string
	*Values
}

// Err is the errors of this machine, as Problems; nil without one. Two machines that share a value which must be
// unique are an error of the second alone.
func (e Entry) Err() error { return e.doc.problemsOf(e.Name).err() }

// Pair is one name and value of a Dict.
type Pair struct{ Key, Value string }

// Values are the keys of a document, a section or a machine, each with a value, which is the file's or the default.
//
// Each kind of type has one method. Asking for a key that the schema does not have, or with the method of another
// kind, is a mistake in the calling program, and panics. A value that is an error in the file reads as the zero value.
type Values struct {
	doc     *Document
	fields  []Field
	path    string
	keyNode *yaml.Node // the key above the mapping; nil at the top
	node    *yaml.Node // the mapping; nil where the file has none
	vals    map[string]*value
}

// value is what one key came to.
type value struct {
	keyNode *yaml.Node // nil where the file does not have the key
	node    *yaml.Node
	set     bool
	// data is string, int, bool, time.Duration, []any (of the scalars before), []Pair, []*Values, *Values or
	// []Entry, as the kind of the type says; nil where there is none.
	data  any
	items []*yaml.Node // the nodes of a list's elements
}
