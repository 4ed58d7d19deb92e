package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// MaxSize is the size of the largest file that is read, in bytes. Ten thousand machines fit easily.
const MaxSize = 4 << 20

// Options change how a file is read. The zero value is what Load and Parse use.
type Options struct {
	// Strict makes every warning an error.
	Strict bool
	// Static leaves out what depends on this host: whether files, directories, sockets and interfaces are there
	// and may be used. It is for checking a file on another host than the one it is for.
	Static bool
}

// Load reads the file at path, which must be a regular file, with the schema.
//
// What is wrong with the file comes as one error of type Problems that holds everything at once. The Document is then
// not nil if the file is a YAML mapping at all, so that a caller may go on with the machines that have no errors (see
// Document.Err and Entry.Err). A file that cannot be opened or read gives the operating system's error; a schema with
// mistakes gives those of Schema.Validate.
func Load(path string, s *Schema) (*Document, error) { return Options{}.Load(path, s) }

// Parse is Load for a file that was already read; name is what messages call it.
func Parse(name string, data []byte, s *Schema) (*Document, error) {
	return Options{}.Parse(name, data, s)
}

// Load is the function Load with options.
func (o Options) Load(path string, s *Schema) (*Document, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return o.Parse(path, data, s)
}

// Parse is the function Parse with options.
func (o Options) Parse(name string, data []byte, s *Schema) (*Document, error) {
	return o.parse(name, data, s, newHost(o.Static))
}

func (o Options) parse(name string, data []byte, s *Schema, h *host) (*Document, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	src := newSource(name, data)
	sensitive := sensitiveKeys(s.Fields)
	root, problem := src.tree()
	if problem != nil {
		src.hideText(sensitive)
		src.illustrate(problem)
		return nil, Problems{*problem}
	}
	src.hideNodes(root, sensitive)
	c := &checker{source: src, host: h, strict: o.Strict, doc: &Document{schema: s, source: src}, failed: map[string]bool{}}
	doc := c.document(root)
	doc.problems = c.finish()
	if root == nil || root.Kind != mappingKind {
		return nil, doc.problems
	}
	return doc, doc.problems.err()
}

// readFile reads a regular file of bounded size. Anything else, such as a named pipe or a device, could make the
// program wait or read for ever.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, openError(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is %s, not a file with a configuration", path, fileKind(info.Mode()))
	}
	if info.Size() > MaxSize {
		return nil, fmt.Errorf("%s is %d bytes long, which is no configuration: at most %d are read", path, info.Size(), MaxSize)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, openError(path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1)) // one more, so that Parse sees a file that grew meanwhile
	if err != nil {
		return nil, fmt.Errorf("the configuration file %s cannot be read: %w", path, err)
	}
	return data, nil
}

func openError(path string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	if errors.Is(err, fs.ErrNotExist) {
		if at := nearestExisting(path); at != filepath.Dir(path) {
			return fmt.Errorf("the configuration file %s is not there (%s is as far as the path exists): %w", path, at, err)
		}
	}
	return fmt.Errorf("the configuration file %s cannot be opened: %w", path, err)
}

// finish is all that was found, in the order of the file.
func (c *checker) finish() Problems {
	for i := range c.problems {
		c.source.illustrate(&c.problems[i])
	}
	slices.SortStableFunc(c.problems, func(a, b Diagnostic) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if c.unlisted > 0 {
		c.problems = append(c.problems, Diagnostic{
			Position: Position{File: c.source.name, Line: len(c.source.lines)},
			Problem:  fmt.Sprintf("there are %d more problems, which are not listed", c.unlisted),
			Severity: c.unlistedSeverity,
			machine:  "\n", // of no machine, nor of none: whose errors they are, the listed ones tell
		})
	}
	return c.problems
}
