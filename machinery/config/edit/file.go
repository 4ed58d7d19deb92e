package edit

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"

	"github.com/machineries/machineries/machinery/config"
)

// File is the text of a configuration that is being edited. Edits change it in memory, Save writes it. It is not safe for
// use by several goroutines at once.
type File struct {
	name     string
	schema   *config.Schema
	field    config.Field // that of the machines
	machines config.Machines
	now      *state
	disk     *disk // nil if it is not from a file
}

// state is a text with what it means.
type state struct {
	*text
	root *yaml.Node       // nil if there is nothing in the file but comments
	doc  *config.Document // nil as well then
}

// Parse is a File of a text that was already read; name is what messages call it. It cannot be saved: Bytes has the result.
// What is wrong with single values does not matter, as an edit may be what corrects it: the error is config.Problems
// only if the text is no YAML mapping at all.
func Parse(name string, data []byte, s *config.Schema) (*File, error) {
	f := &File{name: name, schema: s}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	found := false
	for _, field := range s.Fields {
		if m, is := field.Type.(config.Machines); is && !found {
			f.field, f.machines, found = field, m, true
		}
	}
	if !found {
		return nil, fmt.Errorf("the schema of %s has no machines, so there is nothing to edit", s.Name)
	}
	now, err := f.parse(data)
	if err != nil {
		return nil, err
	}
	f.now = now
	return f, nil
}

// Name is the file's name as it was given to Open or Parse.
func (f *File) Name() string { return f.name }

// Bytes is the whole text with all edits. The caller may change it.
func (f *File) Bytes() []byte { return bytes.Clone(f.now.data) }

// parse reads a text as it is before or after an edit.
func (f *File) parse(data []byte) (*state, error) {
	doc, err := config.Options{Static: true}.Parse(f.name, data, f.schema)
	s := &state{text: newText(data), doc: doc}
	var problems config.Problems
	if err != nil && !errors.As(err, &problems) {
		return nil, err
	}
	root, loadErr := load(data[s.lines[0]:])
	switch {
	case doc == nil && loadErr == nil && (root == nil || nothing(root)):
		return s, nil
	case doc == nil:
		return nil, err
	}
	s.root = root
	return s, loadErr
}

// load is the tree of a text, nil if there is none. It sees the same as package config, which says better what is wrong.
func load(data []byte) (*yaml.Node, error) {
	const maxDepth = 100 // as in package config
	loader, err := yaml.NewLoader(bytes.NewReader(data), yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth), loaderlimits.AliasNone())))
	if err != nil {
		return nil, err
	}
	var document, second yaml.Node
	switch err := loader.Load(&document); {
	case err == io.EOF:
		return nil, nil
	case err != nil, len(document.Content) == 0:
		return nil, err
	}
	if err := loader.Load(&second); err != io.EOF {
		return nil, errors.New("there is a second document")
	}
	return document.Content[0], nil
}

// nothing tells a value for which nothing is written.
func nothing(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Value == "" && n.Tag == nullTag && n.Anchor == "" && n.Style == 0
}
