//go:build linux

package ordeal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/libvirtlab"
	"github.com/machineries/machineries/drivers/kvm"
	"github.com/machineries/machineries/machinery"
)

const (
	// between is how long the drivers work at most before their daemon ends, and downtime how long it is away at most.
	between  = 1200 * time.Millisecond
	downtime = 600 * time.Millisecond
	// settling is how long it may take after a restart, when nobody works at the machines any more, until what is told of them is true. A libvirtd that
	// was started looks after the machines that it finds in its own time.
	settling = 30 * time.Second
	// telling is how long a watch may take to tell of a change: it looks every second of itself.
	telling = 5 * time.Second
)

// TestADaemonMayBeRestartedAtAnyMoment restarts the daemon under a driver that works at three machines, and under a second one that comes and goes.
// After each restart, with the same driver, every machine is in a known state, which is the truth; it can be stopped and started, watches
// tell of that, and nothing is unaccounted for.
func TestADaemonMayBeRestartedAtAnyMoment(t *testing.T) {
	daemons(t, func(t *testing.T, l *libvirtlab.Lab) {
		restarts := length(t, "MACHINERY_RESTARTS", 4)
		seed := uint64(length(t, "MACHINERY_SEED", int(time.Now().UnixNano()&0xffffffff)))
		t.Logf("%d restarts, MACHINERY_SEED=%d", restarts, seed)
		specs := []conformance.MachineSpec{{Name: "a"}, {Name: "b", SavedPaused: true}, {Name: "c", Kind: conformance.SnapshotMemory}}
		r := &restarter{t: t, bench: newBench(t, l, specs...), machines: specs, out: t.TempDir(), random: rand.New(rand.NewPCG(seed, 0)),
			found: map[machinery.State]int{}, results: map[string]int{}, last: map[string]machinery.Event{}}
		m, err := openKVM(r.bench)
		if err != nil {
			t.Fatal(err)
		}
		r.m = m
		stop := r.begin(seed)
		for i := range restarts {
			r.restart()
			if t.Failed() {
				t.Errorf("after restart %d of %d", i+1, restarts)
				break
			}
		}
		stop()
		if err := m.Shutdown(within(t)); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		nothingLeft(t, r.bench, "after Shutdown")
		r.wholeDumps()
		t.Logf("after the restarts the machines were found in these states: %v, and known to be after %v at most; %d memory dumps were whole", r.found, r.slowest, r.dumps)
		for _, line := range slices.Sorted(maps.Keys(r.results)) {
			t.Logf("%6d × %s", r.results[line], line)
		}
	})
}

// restarter restarts the daemon of drivers that work.
type restarter struct {
	t        *testing.T
	bench    conformance.Bench
	machines []conformance.MachineSpec
	out      string // where memory dumps are written to
	random   *rand.Rand
	m        *kvm.Machinery

	// quiet is held for reading by who works at the machines, and for writing while they are looked at.
	quiet sync.RWMutex

	mu      sync.Mutex
	results map[string]int // operations, by what became of them
	did     []string       // since the last look
	last    map[string]machinery.Event
	serial  int

	found   map[machinery.State]int
	slowest time.Duration
	dumps   int
}

// begin has the drivers work, and watches the machines, until stop is called.
func (r *restarter) begin(seed uint64) (stop func()) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for i, spec := range r.machines {
		random := rand.New(rand.NewPCG(seed, uint64(i+1)))
		all.Go(func() {
			for ctx.Err() == nil {
				r.quiet.RLock()
				r.work("", r.m, random, spec.Name)
				r.quiet.RUnlock()
			}
		})
		events, err := r.m.Watch(ctx, spec.Name)
		if err != nil {
			r.t.Fatal(err)
		}
		all.Go(func() {
			for e := range events {
				r.mu.Lock()
				r.last[spec.Name] = e
				r.mu.Unlock()
			}
			if ctx.Err() == nil {
				r.t.Errorf("the watch of %s has ended", spec.Name)
			}
		})
	}
	random := rand.New(rand.NewPCG(seed, uint64(len(r.machines)+1)))
	all.Go(func() {
		for ctx.Err() == nil {
			r.quiet.RLock()
			r.visit(random)
			r.quiet.RUnlock()
			select {
			case <-time.After(time.Duration(random.Int64N(int64(between)))): // how often it comes is up to the seed
			case <-ctx.Done():
			}
		}
	})
	return func() {
		cancel()
		all.Wait()
	}
}

// kvmOperations are all that a driver can do to a machine. A start has several places, or the machine would be off most of the time.
var kvmOperations = []struct {
	name string
	do   func(ctx context.Context, r *restarter, m *kvm.Machinery, random *rand.Rand, name string) error
}{
	{"restore", restoring},
	{"restore", restoring},
	{"restore", restoring},
	{"start", func(ctx context.Context, _ *restarter, m *kvm.Machinery, _ *rand.Rand, name string) error {
		return machinery.Start(ctx, m, name)
	}},
	{"boot", func(ctx context.Context, _ *restarter, m *kvm.Machinery, _ *rand.Rand, name string) error {
		return m.NoRestoreStart(ctx, name)
	}},
	{"resume", func(ctx context.Context, _ *restarter, m *kvm.Machinery, _ *rand.Rand, name string) error {
		return m.HandlePaused(ctx, name)
	}},
	{"dump", dumping},
	{"dump", dumping},
	{"screenshot", func(ctx context.Context, _ *restarter, m *kvm.Machinery, _ *rand.Rand, name string) error {
		_, err := m.Screenshot(ctx, name)
		return err
	}},
	{"power button", func(ctx context.Context, _ *restarter, m *kvm.Machinery, _ *rand.Rand, name string) error {
		return m.ACPIStop(ctx, name)
	}},
	{"state", func(ctx context.Context, _ *restarter, m *kvm.Machinery, _ *rand.Rand, name string) error {
		_, err := m.State(ctx, name)
		return err
	}},
	{"states", func(ctx context.Context, _ *restarter, m *kvm.Machinery, _ *rand.Rand, _ string) error {
		_, err := m.States(ctx)
		return err
	}},
	{"account", func(ctx context.Context, _ *restarter, m *kvm.Machinery, _ *rand.Rand, _ string) error {
		_, err := m.Account(ctx)
		return err
	}},
	{"version", func(ctx context.Context, _ *restarter, m *kvm.Machinery, _ *rand.Rand, _ string) error {
		_, err := m.Version(ctx)
		return err
	}},
	{"stop", func(ctx context.Context, _ *restarter, m *kvm.Machinery, _ *rand.Rand, name string) error {
		return m.Stop(ctx, name)
	}},
	{"stop", func(ctx context.Context, _ *restarter, m *kvm.Machinery, _ *rand.Rand, name string) error {
		return m.Stop(ctx, name)
	}},
	{"interrupted start", func(ctx context.Context, _ *restarter, m *kvm.Machinery, random *rand.Rand, name string) error {
		ctx, cancel := context.WithTimeout(ctx, time.Duration(random.Int64N(int64(500*time.Millisecond))))
		defer cancel()
		return m.RestoreStart(ctx, name)
	}},
}

// restoring is a plain restore.
func restoring(ctx context.Context, _ *restarter, m *kvm.Machinery, _ *rand.Rand, name string) error {
	return m.RestoreStart(ctx, name)
}

// dumping writes the memory to a file of its own.
func dumping(ctx context.Context, r *restarter, m *kvm.Machinery, _ *rand.Rand, name string) error {
	r.mu.Lock()
	r.serial++
	path := filepath.Join(r.out, fmt.Sprintf("%s-%d", name, r.serial))
	r.mu.Unlock()
	return m.DumpMemory(ctx, name, path)
}

// work does one thing to a machine, whatever state that is in, and whether or not there is a daemon.
func (r *restarter) work(who string, m *kvm.Machinery, random *rand.Rand, name string) {
	op := kvmOperations[random.IntN(len(kvmOperations))]
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	began := time.Now()
	err := op.do(ctx, r, m, random, name)
	r.note(who+op.name, name, began, err)
	switch machinery.KindOf(err) {
	case nil, machinery.ErrStateReached, machinery.ErrUnexpectedState, machinery.ErrInterrupted, machinery.ErrBusy:
	case machinery.ErrConnection:
		time.Sleep(time.Duration(random.Int64N(int64(40 * time.Millisecond)))) // as anyone does who is to try again
	case machinery.ErrHypervisor:
		// Besides the daemon's end: a guest whose power button was pressed may switch itself off in the middle of any operation.
	default:
		r.t.Errorf("%s %s: %v", op.name, name, err)
	}
	if ctx.Err() != nil {
		r.t.Errorf("%s %s took %v: %v", op.name, name, time.Since(began), err)
	}
}

// note remembers what became of an operation.
func (r *restarter) note(what, name string, began time.Time, err error) {
	result := "done"
	if kind := machinery.KindOf(err); kind != nil {
		result = kind.Error()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results[what+": "+result]++
	r.did = append(r.did, fmt.Sprintf("%s %s %s, %v: %v", began.Format("05.000"), what, name, time.Since(began).Round(time.Millisecond), err))
}

// visit opens another driver in this program, which works a little and goes. What it has started runs on.
func (r *restarter) visit(random *rand.Rand) {
	began := time.Now()
	m, err := openKVM(r.bench)
	r.note("second driver: open", "", began, err)
	if err != nil {
		if machinery.KindOf(err) != machinery.ErrConnection {
			r.t.Errorf("opening a second driver: %v", err)
		}
		return
	}
	for range 1 + random.IntN(4) {
		r.work("second driver: ", m, random, r.machines[random.IntN(len(r.machines))].Name)
	}
	if err := m.Close(); err != nil {
		r.t.Errorf("closing the second driver: %v", err)
	}
}

// restart restarts the daemon while the drivers work, and looks at the machines when they have come to rest.
func (r *restarter) restart() {
	r.t.Helper()
	time.Sleep(time.Duration(r.random.Int64N(int64(between)))) // that the moments are random is the point
	name := r.machines[0].Name
	began := time.Now()
	how := "at once"
	var err error
	if r.random.IntN(2) == 0 {
		err = r.bench.Inject(within(r.t), name, conformance.Fault{Kind: conformance.FaultRestart})
	} else {
		away := time.Duration(r.random.Int64N(int64(downtime)))
		how = fmt.Sprintf("after %v", away)
		err = r.bench.Inject(within(r.t), name, conformance.Fault{Kind: conformance.FaultNoProgram})
		time.Sleep(away) // the fault itself
		err = errors.Join(err, r.bench.Heal(within(r.t), name))
	}
	r.note("the daemon is restarted "+strings.Fields(how)[0], "", began, err)
	if err != nil {
		r.t.Fatalf("the daemon was not restarted %s: %v", how, err)
	}
	time.Sleep(time.Duration(r.random.Int64N(int64(downtime)))) // what is done on the new daemon is part of it
	r.quiet.Lock()
	defer r.quiet.Unlock()
	r.look()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.t.Failed() {
		r.t.Logf("what was done since the last look, each with its beginning:\n%s", strings.Join(r.did, "\n"))
	}
	r.did = nil
}

// look sees what has become of the machines, with the driver that has been there from the beginning. Nobody works at them.
func (r *restarter) look() {
	t := r.t
	t.Helper()
	began := time.Now()
	r.until(settling, "after the restart", r.unsettled)
	r.slowest = max(r.slowest, time.Since(began))
	if t.Failed() {
		return
	}
	for _, spec := range r.machines {
		status, err := r.m.State(within(t), spec.Name)
		if err != nil {
			t.Errorf("State(%s): %v", spec.Name, err)
		}
		r.found[status.State]++
	}
	r.each("stopped", func(ctx context.Context, name string) error {
		if err := r.m.Stop(ctx, name); err != nil && !errors.Is(err, machinery.ErrStateReached) {
			return err
		}
		if power, err := r.bench.Power(ctx, name); err != nil || power.On {
			return fmt.Errorf("after Stop this runs: %s (%v)", power.Detail, err)
		}
		if status, err := r.m.State(ctx, name); err != nil || status.State != machinery.StatePoweroff {
			return fmt.Errorf("after Stop it is %s (%s), %v", status, status.Detail, err)
		}
		return nil
	})
	nothingLeft(t, r.bench, "after the machines were stopped")
	if t.Failed() {
		return
	}
	r.until(telling, "after the machines were stopped", r.untold)
	r.each("started", func(ctx context.Context, name string) error {
		if err := machinery.Start(ctx, r.m, name); err != nil {
			return err
		}
		g, err := r.bench.Guest(ctx, name)
		if err != nil {
			return err
		}
		if memory, err := g.Memory(ctx, 0); err != nil || memory != r.bench.Saved(name).Memory {
			return fmt.Errorf("its guest has the mark %#x in memory, and its snapshot %#x (%v)", memory, r.bench.Saved(name).Memory, err)
		}
		return nil
	})
	r.until(telling, "after the machines were started", r.untold)
}

// each does something to all machines at once.
func (r *restarter) each(done string, f func(ctx context.Context, name string) error) {
	r.t.Helper()
	var all sync.WaitGroup
	for _, spec := range r.machines {
		ctx := within(r.t)
		all.Go(func() {
			if err := f(ctx, spec.Name); err != nil {
				r.t.Errorf("%s cannot be %s after the restart: %v", spec.Name, done, err)
			}
		})
	}
	all.Wait()
}

// until waits until what is wrong is nothing.
func (r *restarter) until(limit time.Duration, when string, wrong func() string) {
	r.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		text := wrong()
		if text == "" {
			return
		}
		if time.Now().After(deadline) {
			r.t.Errorf("%v %s, %s", limit, when, text)
			return
		}
		time.Sleep(20 * time.Millisecond) // what is waited for has no event
	}
}

// unsettled is what the driver does not know of its machines, or has wrong; empty if that is nothing.
func (r *restarter) unsettled() string {
	ctx := within(r.t)
	on := make(map[string]bool)
	for _, spec := range r.machines {
		power, err := r.bench.Power(ctx, spec.Name)
		if err != nil {
			return err.Error()
		}
		status, err := r.m.State(ctx, spec.Name)
		if err != nil {
			return err.Error()
		}
		switch on[spec.Name] = power.On; {
		case !knownOfKVM(status):
			return fmt.Sprintf("%s is %s (%s), which it is not to be", spec.Name, status, status.Detail)
		case power.On != (status.State != machinery.StatePoweroff && status.State != machinery.StateError):
			return fmt.Sprintf("%s is said to be %s (%s), and in truth this runs: %q", spec.Name, status, status.Detail, power.Detail)
		}
	}
	runs, err := r.m.Account(ctx)
	if err != nil {
		return err.Error()
	}
	for _, run := range runs {
		if !on[run.Machine] || !run.Configured || run.Left != "" || run.Problem != "" {
			return fmt.Sprintf("this is accounted for that should not be: %+v", run)
		}
		delete(on, run.Machine)
	}
	for name, is := range on {
		if is {
			return fmt.Sprintf("%s runs and is not accounted for", name)
		}
	}
	return ""
}

// knownOfKVM is whether a machine at which nobody works may be in a state: nothing is wrong with it, unless a start failed, as it does when
// the daemon ends.
func knownOfKVM(s machinery.Status) bool {
	switch s.State {
	case machinery.StateRunning, machinery.StatePoweroff, machinery.StateSuspended:
		return true
	case machinery.StatePaused:
		return s.Reason == "from snapshot"
	case machinery.StateError:
		return s.Reason == "start failed"
	}
	return false
}

// untold is what watches have not told of the machines, or have wrong; empty if that is nothing.
func (r *restarter) untold() string {
	for _, spec := range r.machines {
		status, err := r.m.State(within(r.t), spec.Name)
		if err != nil {
			return err.Error()
		}
		r.mu.Lock()
		told := r.last[spec.Name]
		r.mu.Unlock()
		if told.Status.State != status.State || told.Status.Reason != status.Reason {
			return fmt.Sprintf("the last that the watch has told of %s is %s, and it is %s", spec.Name, told.Status, status)
		}
	}
	return ""
}

// wholeDumps fails the test if a memory dump is not whole, or anything else was left where they are.
func (r *restarter) wholeDumps() {
	r.t.Helper()
	entries, err := os.ReadDir(r.out)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range entries {
		if err := wholeDump(filepath.Join(r.out, e.Name())); err != nil {
			r.t.Errorf("%s is no whole memory dump: %v", e.Name(), err)
		}
		r.dumps++
	}
}
