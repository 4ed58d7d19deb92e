package machinery_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/machinery"
)

// able has every optional operation; each fails with an error of its own, which shows that it was called.
type able struct {
	scripted
	args []any // of the call
}

type was string

func (w was) Error() string { return string(w) + " was called" }

func (a *able) NoRestoreStart(_ context.Context, name string) error {
	a.args = []any{name}
	return was("NoRestoreStart")
}
func (a *able) ACPIStop(_ context.Context, name string) error {
	a.args = []any{name}
	return was("ACPIStop")
}
func (a *able) DumpMemory(_ context.Context, name, path string) error {
	a.args = []any{name, path}
	return was("DumpMemory")
}
func (a *able) HandlePaused(_ context.Context, name string) error {
	a.args = []any{name}
	return was("HandlePaused")
}
func (a *able) Screenshot(_ context.Context, name string) ([]byte, error) {
	a.args = []any{name}
	return []byte("png"), was("Screenshot")
}
func (a *able) Version(context.Context) (string, error) {
	a.args = nil
	return "7.2.22", was("Version")
}
func (a *able) CheckDependencies(context.Context) error {
	a.args = nil
	return was("CheckDependencies")
}
func (a *able) StartCapture(_ context.Context, name string, c machinery.Capture) error {
	a.args = []any{name, c}
	return was("StartCapture")
}
func (a *able) StopCapture(_ context.Context, name string) error {
	a.args = []any{name}
	return was("StopCapture")
}
func (a *able) Watch(_ context.Context, name string) (<-chan machinery.Event, error) {
	a.args = []any{name}
	return make(chan machinery.Event), was("Watch")
}

// denying is a wrapper that has the methods of what it wraps, and denies one capability.
type denying struct {
	*able
	denied machinery.Capability
}

func (d denying) Supports(c machinery.Capability) bool { return c != d.denied }

// boasting declares everything and has nothing.
type boasting struct{ scripted }

func (*boasting) Supports(machinery.Capability) bool { return true }

// forwarding wraps a machinery by its interface, and so loses the optional methods.
type forwarding struct{ machinery.Machinery }

var capture = machinery.Capture{Path: "/tmp/x.pcap", MaxBytes: 4096, Exclude: []machinery.Endpoint{{Host: "10.0.0.1", Port: 2042}}}

// optionals are the package functions, by capability. empty is whether the function gave no value beside its error.
var optionals = []struct {
	cap    machinery.Capability
	op     machinery.Op
	method string
	args   []any
	call   func(ctx context.Context, m machinery.Machinery) (empty bool, err error)
}{
	{machinery.CapNoRestoreStart, machinery.OpNoRestoreStart, "NoRestoreStart", []any{"a"}, func(ctx context.Context, m machinery.Machinery) (bool, error) {
		return true, machinery.NoRestoreStart(ctx, m, "a")
	}},
	{machinery.CapACPIStop, machinery.OpACPIStop, "ACPIStop", []any{"a"}, func(ctx context.Context, m machinery.Machinery) (bool, error) {
		return true, machinery.ACPIStop(ctx, m, "a")
	}},
	{machinery.CapDumpMemory, machinery.OpDumpMemory, "DumpMemory", []any{"a", "/tmp/dump"}, func(ctx context.Context, m machinery.Machinery) (bool, error) {
		return true, machinery.DumpMemory(ctx, m, "a", "/tmp/dump")
	}},
	{machinery.CapHandlePaused, machinery.OpHandlePaused, "HandlePaused", []any{"a"}, func(ctx context.Context, m machinery.Machinery) (bool, error) {
		return true, machinery.HandlePaused(ctx, m, "a")
	}},
	{machinery.CapScreenshot, machinery.OpScreenshot, "Screenshot", []any{"a"}, func(ctx context.Context, m machinery.Machinery) (bool, error) {
		picture, err := machinery.Screenshot(ctx, m, "a")
		return picture == nil, err
	}},
	{machinery.CapVersion, machinery.OpVersion, "Version", nil, func(ctx context.Context, m machinery.Machinery) (bool, error) {
		version, err := machinery.Version(ctx, m)
		return version == "", err
	}},
	{machinery.CapDependencies, machinery.OpDependencies, "CheckDependencies", nil, func(ctx context.Context, m machinery.Machinery) (bool, error) {
		return true, machinery.CheckDependencies(ctx, m)
	}},
	{machinery.CapNetworkCapture, machinery.OpStartCapture, "StartCapture", []any{"a", capture}, func(ctx context.Context, m machinery.Machinery) (bool, error) {
		return true, machinery.StartCapture(ctx, m, "a", capture)
	}},
	{machinery.CapNetworkCapture, machinery.OpStopCapture, "StopCapture", []any{"a"}, func(ctx context.Context, m machinery.Machinery) (bool, error) {
		return true, machinery.StopCapture(ctx, m, "a")
	}},
	{machinery.CapWatch, machinery.OpWatch, "Watch", []any{"a"}, func(ctx context.Context, m machinery.Machinery) (bool, error) {
		events, err := machinery.Watch(ctx, m, "a")
		return events == nil, err
	}},
}

func TestEveryCapabilityHasItsPackageFunctionHere(t *testing.T) {
	var tested []machinery.Capability
	for _, o := range optionals {
		tested = append(tested, o.cap)
	}
	if diff := cmp.Diff(machinery.Capabilities(), slices.Compact(tested)); diff != "" {
		t.Errorf("these tests do not cover the capabilities (- capabilities, + tested):\n%s", diff)
	}
	for _, c := range machinery.Capabilities() {
		if c.Doc() == "" {
			t.Errorf("%q has no documentation", c)
		}
	}
	if doc := machinery.Capability("teleport").Doc(); doc != "" {
		t.Errorf("a capability that does not exist has the documentation %q", doc)
	}
}

func TestAnOptionalOperationIsCalledWhereTheDriverHasIt(t *testing.T) {
	for _, o := range optionals {
		t.Run(o.method, func(t *testing.T) {
			m := &able{}
			if !machinery.Supports(m, o.cap) {
				t.Errorf("Supports denies %s", o.cap)
			}
			if _, err := o.call(t.Context(), m); err != was(o.method) {
				t.Errorf("the error is %v, want the driver's own of %s, untouched", err, o.method)
			}
			if diff := cmp.Diff(o.args, m.args); diff != "" {
				t.Errorf("the driver got other arguments:\n%s", diff)
			}
			// A wrapper that denies something else changes nothing.
			for _, other := range machinery.Capabilities() {
				if _, err := o.call(t.Context(), denying{m, other}); other != o.cap && err != was(o.method) {
					t.Errorf("with %s denied the error is %v", other, err)
				}
			}
		})
	}
}

func TestAnOptionalOperationThatIsMissingOrDeniedIsUnsupported(t *testing.T) {
	for _, o := range optionals {
		for _, tt := range []struct {
			name string
			m    machinery.Machinery
		}{
			{"a driver without the method", &scripted{}},
			{"a wrapper that has the method and denies it", denying{&able{}, o.cap}},
			{"a driver that declares it without the method", &boasting{}},
			{"a wrapper that does not forward it is not unwrapped", forwarding{&able{}}},
		} {
			t.Run(o.method+"/"+tt.name, func(t *testing.T) {
				if machinery.Supports(tt.m, o.cap) {
					t.Errorf("Supports says that it has %s", o.cap)
				}
				empty, err := o.call(t.Context(), tt.m)
				if !errors.Is(err, errors.ErrUnsupported) || machinery.KindOf(err) != machinery.ErrUnsupported {
					t.Fatalf("the error is %v, want one that matches errors.ErrUnsupported", err)
				}
				if !empty {
					t.Error("it returned a value all the same")
				}
				e, is := errors.AsType[*machinery.Error](err)
				wantName := ""
				if len(o.args) > 0 {
					wantName = "a"
				}
				if !is || e.Op != o.op || e.Machine != wantName {
					t.Errorf("the error does not say what was unsupported: %#v", err)
				}
			})
		}
	}
}

func TestACapabilityThatDoesNotExistIsNotSupported(t *testing.T) {
	for _, m := range []machinery.Machinery{&able{}, &boasting{}} {
		if machinery.Supports(m, "teleport") {
			t.Errorf("%T supports teleport", m)
		}
	}
}
