package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ctxT is short for the many closures that take one.
type ctxT = context.Context

// errSameMarks is a lab's mistake: machines that cannot be told apart prove
// nothing.
var errSameMarks = errors.New("the lab gave two machines the same marks")

// errNoDumpReader is a lab's mistake: it offers to look into dumps, and its
// benches cannot.
var errNoDumpReader = errors.New("the lab offers the feature \"dump\", and its bench is no DumpReader")

// kinds are the kinds of snapshot that the lab has, the plain one first.
func (w *World) kinds() []SnapshotKind {
	if k, ok := w.subject.Lab.(Kinder); ok {
		return k.Kinds()
	}
	return []SnapshotKind{SnapshotPlain}
}

// anotherKind is a kind of snapshot that is not plain, if the lab has one.
func (w *World) anotherKind() SnapshotKind {
	kinds := w.kinds()
	return kinds[len(kinds)-1]
}

// inject makes something go wrong now.
func (w *World) inject(name string, kind FaultKind) {
	w.Notef("fault: %s on %q", kind, name)
	w.Lab(w.bench.Inject(w.Ctx, name, Fault{Kind: kind}), fmt.Sprintf("making the fault %q", kind))
}

// gone waits until the guest's run is over.
func (w *World) gone(g Guest, when string) {
	if w.guestless() {
		return
	}
	timer := time.NewTimer(w.Timing.Guest)
	defer timer.Stop()
	select {
	case <-g.Gone():
	case <-timer.C:
		w.Failf("%s, its run was not over after %v", when, w.Timing.Guest)
	}
}

// Clean fails the check if anything is left that should not be. It gives the
// system a moment: a process that was ended may take some milliseconds to
// leave the process table.
func (w *World) Clean(when string) {
	var failure error
	left := w.await(w.Timing.Clean, func() string {
		lines, err := w.bench.Leftovers(w.Ctx)
		failure = err
		return strings.Join(lines, "\n  ")
	})
	w.Lab(failure, "looking for what is left")
	if left != "" {
		w.Failf("%s, this is left:\n  %s", when, left)
	}
}

// pause lets a moment pass between two looks at something that gives no event.
func (w *World) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.Ctx.Done():
	}
}

// part runs a part of a check that makes a bench of its own, and undoes it: a
// check with many benches would otherwise hold them all until its end.
func (w *World) part(f func()) {
	f()
	w.Lab(w.close(), "clearing up")
	w.opened, w.bench = nil, nil
	w.parts++
}

// lines joins lines for the end of a failure's text.
func lines(all []string) string { return strings.Join(all, "\n  ") }
