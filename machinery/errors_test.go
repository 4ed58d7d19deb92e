package machinery_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/machineries/machineries/machinery"
)

func TestAnErrorIsOfItsKindAndNoOther(t *testing.T) {
	for _, kind := range machinery.Kinds() {
		err := fmt.Errorf("while testing: %w", &machinery.Error{Op: machinery.OpStop, Machine: "a", Kind: kind, Reason: "a reason", Err: fs.ErrNotExist})
		for _, other := range machinery.Kinds() {
			if got, want := errors.Is(err, other), other == kind; got != want {
				t.Errorf("an error of kind %q: errors.Is says %v for %q", kind, got, other)
			}
		}
		if got := machinery.KindOf(err); got != kind {
			t.Errorf("KindOf an error of kind %q is %v", kind, got)
		}
		if got := machinery.KindOf(kind); got != kind {
			t.Errorf("KindOf the kind %q itself is %v", kind, got)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("an error of kind %q hides its cause", kind)
		}
		var e *machinery.Error
		if !errors.As(err, &e) || e.Op != machinery.OpStop || e.Machine != "a" {
			t.Errorf("errors.As found %+v", e)
		}
	}
}

func TestKindsAreDistinctAndSayWhatTheyAre(t *testing.T) {
	seen := map[string]bool{}
	for _, kind := range machinery.Kinds() {
		text := kind.Error()
		if text == "" || seen[text] {
			t.Errorf("the kind %q is empty or there twice", text)
		}
		seen[text] = true
	}
	machinery.Kinds()[0] = nil
	if machinery.Kinds()[0] == nil {
		t.Error("a caller changed the list of kinds")
	}
}

func TestUnsupportedIsTheStandardLibrarysOwn(t *testing.T) {
	err := machinery.Unsupported(machinery.OpScreenshot, "a")
	if !errors.Is(err, errors.ErrUnsupported) || machinery.KindOf(err) != machinery.ErrUnsupported {
		t.Errorf("%v does not match errors.ErrUnsupported", err)
	}
}

func TestKindOfIsTheOutermost(t *testing.T) {
	inner := &machinery.Error{Op: machinery.OpState, Kind: machinery.ErrConnection}
	for _, tt := range []struct {
		name string
		err  error
		want error
	}{
		{"nil has none", nil, nil},
		{"a stranger's error has none", errors.New("x"), nil},
		{"an error without a kind has none", &machinery.Error{Op: machinery.OpStop}, nil},
		{"a kind goes before that of the cause", &machinery.Error{Kind: machinery.ErrHypervisor, Err: inner}, machinery.ErrHypervisor},
		{"without one, the cause's is taken", &machinery.Error{Err: inner}, machinery.ErrConnection},
		{"a system call's \"not supported\" does not become the driver's",
			&machinery.Error{Kind: machinery.ErrHypervisor, Err: syscall.EOPNOTSUPP}, machinery.ErrHypervisor},
		{"of joined errors it is the first", errors.Join(errors.New("x"), inner, machinery.ErrClosed), machinery.ErrConnection},
		{"a bare kind that is wrapped is found", fmt.Errorf("%w: held by process 7", machinery.ErrBusy), machinery.ErrBusy},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := machinery.KindOf(tt.err); got != tt.want {
				t.Errorf("KindOf(%v) = %v, want %v", tt.err, got, tt.want)
			}
		})
	}
}

func TestAnErrorReadsAsOneSentence(t *testing.T) {
	cause := errors.New("Device 'drive0' is in use")
	for _, tt := range []struct {
		err  machinery.Error
		want string
	}{
		{machinery.Error{}, ": failed"},
		{machinery.Error{Op: machinery.OpVersion}, "version: failed"},
		{machinery.Error{Op: machinery.OpStop, Machine: "a"}, `stop "a": failed`},
		{machinery.Error{Op: machinery.OpStop, Machine: "a", Kind: machinery.ErrClosed}, `stop "a": the driver is closed`},
		{machinery.Error{Op: machinery.OpStop, Machine: "a", Kind: machinery.ErrStateReached, Reason: "the machine is off"}, `stop "a": the machine is off`},
		{machinery.Error{Op: machinery.OpRestoreStart, Machine: "a b\n", Kind: machinery.ErrHypervisor, Err: cause},
			`restore_start "a b\n": the hypervisor failed: Device 'drive0' is in use`},
		{machinery.Error{Op: machinery.OpShutdown, Kind: machinery.ErrHypervisor, Reason: "QEMU did not end", Err: cause},
			`shutdown: QEMU did not end: Device 'drive0' is in use`},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("%#v reads\n%s\nwant\n%s", tt.err, got, tt.want)
		}
	}
}

func TestAnInterruptedOperationMatchesItsContextsError(t *testing.T) {
	err := error(&machinery.Error{Op: machinery.OpWait, Machine: "a", Kind: machinery.ErrInterrupted, Err: context.DeadlineExceeded})
	if !errors.Is(err, machinery.ErrInterrupted) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		t.Errorf("%v matches the wrong errors", err)
	}
}

func TestNotFoundListsTheKnownNamesButNotThousands(t *testing.T) {
	machines := make([]machinery.Machine, 23)
	for i := range machines {
		machines[i].Name = fmt.Sprintf("win10_%d", i+1)
	}
	for _, tt := range []struct {
		known []machinery.Machine
		want  string
	}{
		{nil, `state "win": there is no machine of this name; the configuration has none at all`},
		{machines[:2], `state "win": there is no machine of this name; the configuration has "win10_1", "win10_2"`},
		{machines[:20], `"win10_19", "win10_20"`},
		{machines, `"win10_19", "win10_20" and 3 more`},
	} {
		err := machinery.NotFound(machinery.OpState, "win", tt.known)
		if got := err.Error(); !strings.HasSuffix(got, tt.want) {
			t.Errorf("with %d machines the error reads\n%s\nwant it to end in\n%s", len(tt.known), got, tt.want)
		}
		if machinery.KindOf(err) != machinery.ErrNotFound {
			t.Errorf("its kind is %v", machinery.KindOf(err))
		}
	}
}
