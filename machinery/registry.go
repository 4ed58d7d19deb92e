package machinery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"sync"

	"github.com/machineries/machineries/machinery/config"
)

// Driver is what makes a kind of machinery loadable. Registering it is all
// that a driver has to do to be found by its name.
type Driver struct {
	// Name is the driver's name: the stem of its configuration file
	// (qemu.yaml), of its template (qemu.yaml.jinja2) and the name of its
	// schema. Lower case letters, digits and underscores, a letter first.
	Name string
	// Doc says in one line what the driver drives.
	Doc string
	// Schema declares what the configuration file may hold. Required.
	Schema *config.Schema
	// Template is the jinja2 document that an example configuration is
	// rendered from. Required: without one a sandbox cannot write a
	// configuration for a new installation.
	Template string
	// CheckDependencies, if not nil, is called before Open and returns an
	// error for what is missing on the host.
	CheckDependencies func(ctx context.Context, doc *config.Document) error
	// Open makes the driver for a configuration in which nothing is wrong that
	// concerns all machines. What is wrong with single ones is told by
	// [config.Entry.Err]: such a machine, or one that cannot be used for another
	// reason, stays listed, with status error. Open fails only where nothing
	// can work.
	Open func(ctx context.Context, doc *config.Document, o Options) (Machinery, error)
	// Diagnose, if not nil, tells people how an installation stands, and what
	// to do where it does not: see [Finding]. It changes nothing, leaves
	// nothing, and ends soon after ctx. It is a function of the driver's and not
	// an operation of a Machinery because much of what it has to explain is why
	// there can be none.
	//
	// doc was read without a look at the host ([config.Options].Static): what it
	// names may not be there. What is wrong with the file itself the caller
	// tells, so that a machine whose [config.Entry.Err] is not nil can be left
	// out. doc is nil where there is no configuration. Without this function,
	// what the operations say has to do.
	Diagnose func(ctx context.Context, doc *config.Document, o DiagnoseOptions) []Finding
}

// Options are what the program that opens a driver decides, not the user's
// configuration file.
type Options struct {
	// Logger receives what the driver has to say; nil discards it.
	Logger *slog.Logger
	// RuntimeDir is where the driver keeps what belongs to running machines.
	// Empty means the driver's default.
	RuntimeDir string
	// EndMachines makes machines end with the driver that holds them, by Close
	// or because its process ends, where the driver can do that. The default
	// lets them run on.
	EndMachines bool
	// Strict makes unknown keys in the configuration errors.
	Strict bool
	// Degraded opens a driver also where something is gone from this host that
	// the configuration names, such as a network interface or a program: a
	// machine's state can be told, and it can be stopped, without that. What is
	// gone is told to Warn; a start may fail for want of it.
	Degraded bool
	// Warn, if not nil, receives the problems of a configuration that is opened
	// all the same: what is doubtful, such as an unknown key, and the errors of
	// the machines that cannot be used for them. Their Severity tells which.
	Warn func(config.Diagnostic)
}

// Registry is a set of drivers by name. The zero value is empty and ready.
type Registry struct {
	mu      sync.RWMutex
	drivers map[string]Driver
}

// namePattern is what the stem of a file name and a schema key can both be
// without quoting, on every file system.
var namePattern = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// Register adds a driver. It refuses, with an error of kind [ErrConfig], a
// name that is empty, not lower case or taken, and a driver without a schema
// of the same name, without a template or without Open.
func (r *Registry) Register(d Driver) error {
	refuse := func(format string, args ...any) error {
		return &Error{Op: OpOpen, Kind: ErrConfig, Reason: fmt.Sprintf("driver %q cannot be registered: ", d.Name) + fmt.Sprintf(format, args...)}
	}
	switch {
	case d.Name == "":
		return refuse("it has no name")
	case !namePattern.MatchString(d.Name):
		return refuse("the name is used as the stem of file names (%s.yaml); use lower case letters, digits and underscores, such as %q", d.Name, suggestName(d.Name))
	case d.Schema == nil:
		return refuse("it has no schema")
	case d.Schema.Name != d.Name:
		return refuse("its schema is named %q; both names must be the same", d.Schema.Name)
	case strings.TrimSpace(d.Template) == "":
		return refuse("it has no template; write one and set Driver.Template")
	case d.Open == nil:
		return refuse("it has no Open function")
	}
	if err := d.Schema.Validate(); err != nil {
		return refuse("its schema is wrong: %v", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, taken := r.drivers[d.Name]; taken {
		return refuse("another driver has this name already")
	}
	if r.drivers == nil {
		r.drivers = make(map[string]Driver)
	}
	r.drivers[d.Name] = d
	return nil
}

// suggestName turns any name into one that can be registered.
func suggestName(name string) string {
	mapped := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '_':
			return c
		case c >= 'A' && c <= 'Z':
			return c - 'A' + 'a'
		}
		return '_'
	}, name)
	if mapped[0] < 'a' || mapped[0] > 'z' {
		mapped = "m" + mapped
	}
	return mapped
}

// Lookup returns the driver of that name, or an error of kind [ErrNotFound]
// that lists the known ones.
func (r *Registry) Lookup(name string) (Driver, error) {
	r.mu.RLock()
	d, ok := r.drivers[name]
	r.mu.RUnlock()
	if ok {
		return d, nil
	}
	var known []string
	for _, d := range r.Drivers() {
		known = append(known, d.Name)
	}
	reason := fmt.Sprintf("there is no driver %q; the known ones are %s", name, quoteList(known))
	if len(known) == 0 {
		reason = fmt.Sprintf("there is no driver %q; none is registered", name)
	}
	return Driver{}, &Error{Op: OpOpen, Kind: ErrNotFound, Reason: reason}
}

// Drivers returns the registered drivers, sorted by name.
func (r *Registry) Drivers() []Driver {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]Driver, 0, len(r.drivers))
	for _, d := range r.drivers {
		all = append(all, d)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all
}

// Open loads the configuration file at path with the driver whose name is the
// file's stem: the driver "qemu" for "…/qemu.yaml". It checks the file against
// the schema, then the driver's dependencies, then opens it. What is wrong with
// single machines is no reason to refuse the file: they are listed, with status
// error.
//
// Errors: [ErrNotFound] for a driver that is not registered, [ErrConfig] with
// every problem of the file and its place, [ErrDependency], [ErrInterrupted] if
// ctx ended, and what the driver's own Open returns.
func (r *Registry) Open(ctx context.Context, path string, o Options) (Machinery, error) {
	base := filepath.Base(path)
	return r.OpenAs(ctx, strings.TrimSuffix(base, filepath.Ext(base)), path, o)
}

// OpenAs is Open for a file whose name does not tell the driver's.
func (r *Registry) OpenAs(ctx context.Context, driver, path string, o Options) (Machinery, error) {
	d, err := r.Lookup(driver)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, asKind(err, OpOpen, ErrInterrupted)
	}
	doc, err := o.load(path, d.Schema)
	// What is wrong with one machine is no reason to refuse the others: the
	// driver lists it, in the error state.
	if err != nil && (doc == nil || doc.Err() != nil) {
		return nil, &Error{Op: OpOpen, Kind: ErrConfig, Reason: fmt.Sprintf("the configuration of driver %q cannot be used", d.Name), Err: err}
	}
	if o.Warn != nil {
		for _, problem := range doc.Problems() {
			o.Warn(problem)
		}
	}
	if d.CheckDependencies != nil && !o.Degraded {
		if err := d.CheckDependencies(ctx, doc); err != nil {
			return nil, asKind(err, OpOpen, ErrDependency)
		}
	}
	m, err := d.Open(ctx, doc, o)
	if err != nil {
		return nil, asKind(err, OpOpen, ErrHypervisor)
	}
	if m == nil {
		return nil, &Error{Op: OpOpen, Kind: ErrHypervisor, Reason: fmt.Sprintf("driver %q returned neither machines nor an error; its Open function is wrong", d.Name)}
	}
	return m, nil
}

// load reads a configuration. Where o is Degraded, what is wrong with it on this host alone is warned of.
func (o Options) load(path string, s *config.Schema) (*config.Document, error) {
	doc, err := config.Options{Strict: o.Strict}.Load(path, s)
	if !o.Degraded || doc == nil || doc.Err() == nil {
		return doc, err
	}
	static, wrong := config.Options{Strict: o.Strict, Static: true}.Load(path, s)
	if static == nil || static.Err() != nil {
		return doc, err // it would be wrong on every host
	}
	if o.Warn != nil {
		for _, problem := range doc.Problems().Errors() {
			problem.Severity = config.Warning
			o.Warn(problem)
		}
	}
	return static, wrong
}

// asKind makes sure that err is an [*Error], of the given kind if it had none
// and no context ended.
func asKind(err error, op Op, kind error) error {
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	if known := KindOf(err); known != nil {
		kind = known
	} else if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		kind = ErrInterrupted
	}
	return &Error{Op: op, Kind: kind, Err: err}
}

// DefaultRegistry is the registry that the package functions use.
var DefaultRegistry = new(Registry)

// Register adds a driver to the default registry; see [Registry.Register].
func Register(d Driver) error { return DefaultRegistry.Register(d) }

// MustRegister is Register for a program's start: it panics on an error.
func MustRegister(d Driver) {
	if err := Register(d); err != nil {
		panic(err)
	}
}

// Lookup finds a driver in the default registry; see [Registry.Lookup].
func Lookup(name string) (Driver, error) { return DefaultRegistry.Lookup(name) }

// Drivers returns the drivers of the default registry; see [Registry.Drivers].
func Drivers() []Driver { return DefaultRegistry.Drivers() }

// Open loads a configuration file with a driver of the default registry; see
// [Registry.Open].
func Open(ctx context.Context, path string, o Options) (Machinery, error) {
	return DefaultRegistry.Open(ctx, path, o)
}
