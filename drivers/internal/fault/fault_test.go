package fault

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/machineries/machineries/drivers/internal/turns"
	"github.com/machineries/machineries/machinery"
)

func TestErrorsQuoteTheEndOfWhatTheHypervisorSaysInReadableForm(t *testing.T) {
	if err := Words("\x00\x00\x1b[1mred\x7f\nnext\r\n"); err == nil || err.Error() != "[1mred; next" {
		t.Errorf("it is %q", err)
	}
	if err := Words("\x00\x00"); err != nil {
		t.Errorf("of nothing but NULs it is %q", err)
	}
	long := Words(strings.Repeat("ä", 8000) + "the end")
	if n := len(long.Error()); n > quotedOutput+8 || !strings.HasSuffix(long.Error(), "the end") || !strings.HasPrefix(long.Error(), "… ä") {
		t.Errorf("of 16 KB %d bytes are quoted: %.20q", n, long)
	}
}

func TestTheErrorOfWhatWasInterruptedTellsByWhom(t *testing.T) {
	begun := func(cause error) context.Context {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(cause)
		return ctx
	}
	reason := errors.New("the analysis is over")
	for what, c := range map[string]struct {
		cause   error
		text    string
		matches []error
	}{
		"by its caller":                {nil, "interrupted while loading: context canceled", []error{context.Canceled}},
		"by its caller, with a reason": {reason, "interrupted while loading: context canceled\nthe analysis is over", []error{context.Canceled, reason}},
		"by Stop":                      {turns.ErrStopped, "interrupted while loading: the machine was stopped meanwhile", nil},
		"by Close":                     {turns.ErrClosing, "interrupted while loading: the driver was closed meanwhile", nil},
	} {
		err := Interrupted(machinery.OpRestoreStart, "vm", begun(c.cause), "loading")
		if !strings.HasSuffix(err.Error(), c.text) {
			t.Errorf("%s: %q, want %q", what, err, c.text)
		}
		for _, match := range append(c.matches, machinery.ErrInterrupted) {
			if !errors.Is(err, match) {
				t.Errorf("%s: %q does not match %q", what, err, match)
			}
		}
		if c.matches == nil && errors.Is(err, context.Canceled) {
			t.Errorf("%s: %q is taken for the end of the caller's context", what, err)
		}
	}
}

func TestWhatGotNoTurnIsToldApart(t *testing.T) {
	for _, c := range []struct{ err, want error }{
		{turns.ErrClosing, machinery.ErrClosed},
		{turns.ErrStuck, machinery.ErrHypervisor},
		{context.DeadlineExceeded, machinery.ErrInterrupted},
	} {
		if err := NotMyTurn(machinery.OpStop, "vm", context.Background(), c.err); !errors.Is(err, c.want) {
			t.Errorf("%v: %v, want %v", c.err, err, c.want)
		}
	}
}

func TestSeveralProblemsAreOneErrorOnOneLineThatMatchesEach(t *testing.T) {
	a, b := errors.New("no disk"), errors.New("no snapshot")
	if err := Join(NotNil(nil, nil)); err != nil {
		t.Errorf("of no problem it is %v", err)
	}
	if err := Join(NotNil(nil, a)); err != a {
		t.Errorf("of one it is %v", err)
	}
	if err := Join(NotNil(a, nil, b)); err.Error() != "no disk; no snapshot" || !errors.Is(err, a) || !errors.Is(err, b) {
		t.Errorf("of two it is %v", err)
	}
}

func TestAnErrorOfTheContractIsKeptAndOthersGetItsForm(t *testing.T) {
	inner := Fail(machinery.OpStop, "vm", machinery.ErrBusy, nil, "held by process %d", 7)
	if err := AsError(machinery.OpShutdown, "vm", machinery.ErrConnection, inner); err != error(inner) {
		t.Errorf("it became %v", err)
	}
	plain := errors.New("connection refused")
	if err := AsError(machinery.OpState, "vm", machinery.ErrConnection, plain); !errors.Is(err, machinery.ErrConnection) || !errors.Is(err, plain) {
		t.Errorf("it became %v", err)
	}
	if err := AsError(machinery.OpState, "vm", machinery.ErrConnection, nil); err != nil {
		t.Errorf("of nothing it is %v", err)
	}
}
