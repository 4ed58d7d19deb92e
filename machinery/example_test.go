package machinery_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// This file is a complete driver, to be copied. Its machines exist in the memory of this program alone, so there is no
// hypervisor to ask or to fail, and nothing that another process could hold or take over. All else that the package
// documentation promises, it keeps.

// toyDriver is what makes the driver loadable. A driver's package exports it, for programs to register.
var toyDriver = machinery.Driver{
	Name: "toy",
	Doc:  "machines that exist in this program's memory alone",
	Schema: &config.Schema{Name: "toy", Doc: "Machines of the toy driver.", Fields: []config.Field{
		{Key: "load_time", Doc: "How long a restore takes.", Type: config.Duration{}, Optional: true, Default: 5 * time.Millisecond},
		{Key: "machines", Doc: "The machines, by name.", Type: config.Machines{Example: "example1", Unique: []string{"ip"}, Fields: []config.Field{
			{Key: "ip", Doc: "The address at which the guest answers.", Type: config.IPAddress{}, Example: "192.168.30.101"},
			{Key: "snapshot", Doc: "What the snapshot was saved as: running or paused.", Type: config.String{ToLower: true}, Example: "running"},
			{Key: "tags", Doc: "Words for what the machine offers.", Type: config.List{}, Optional: true, AllowEmpty: true},
		}}},
	}},
	Template: `# How long a restore takes.
load_time: {{ load_time }}
# The machines, each below a name of its own.
machines:
  {% for name, machine in machines.items() %}
  {{ name }}:
    # The address at which the guest answers.
    ip: {{ machine.ip }}
    # What the snapshot was saved as: running or paused.
    snapshot: {{ machine.snapshot }}
    # Words for what the machine offers.
    tags:
      {% for tag in machine.tags %}
      - {{ tag }}
      {% endfor %}
  {% endfor %}
`,
	Open: openToy,
}

// toy is the driver at work.
type toy struct {
	machines []*toyMachine
	life     context.Context // ends when the driver is closed
	die      context.CancelCauseFunc
	once     sync.Once
}

// toyMachine is one machine.
type toyMachine struct {
	info  machinery.Machine
	bad   error // why it cannot be used; nil for one that can
	saved machinery.State
	load  time.Duration
	turn  chan struct{} // full while an operation is at work; nothing else changes the status

	mu     sync.Mutex // guards what follows, and is never held while anything takes time: State needs it
	status machinery.Status
	stops  int                     // how many Stops wait for the turn
	cancel context.CancelCauseFunc // ends the operation that is at work
}

var (
	errStopped = errors.New("the machine was stopped meanwhile")
	errClosed  = errors.New("the driver was closed meanwhile")
)

// openToy makes the driver. A machine that is configured wrongly is listed too, so that its user finds the reason.
func openToy(_ context.Context, doc *config.Document, _ machinery.Options) (machinery.Machinery, error) {
	d := &toy{}
	d.life, d.die = context.WithCancelCause(context.Background())
	for _, e := range doc.Machines() {
		m := &toyMachine{
			info:   machinery.Machine{Name: e.Name, IP: e.String("ip"), Tags: e.Strings("tags")},
			bad:    e.Err(),
			saved:  machinery.State(e.String("snapshot")),
			load:   doc.Duration("load_time"),
			turn:   make(chan struct{}, 1),
			status: machinery.Status{State: machinery.StatePoweroff},
			cancel: func(error) {},
		}
		if m.bad == nil && m.saved != machinery.StateRunning && m.saved != machinery.StatePaused {
			m.bad = e.Problem("is neither running nor paused", "snapshot")
		}
		if m.bad != nil {
			m.status = machinery.Status{State: machinery.StateError, Reason: "wrong configuration", Detail: m.bad.Error()}
		}
		d.machines = append(d.machines, m)
	}
	return d, nil
}

// Machines returns copies, down to the tags.
func (d *toy) Machines() []machinery.Machine {
	list := make([]machinery.Machine, len(d.machines))
	for i, m := range d.machines {
		list[i] = m.info
		list[i].Tags = slices.Clone(m.info.Tags)
	}
	return list
}

// State waits for no operation.
func (d *toy) State(ctx context.Context, name string) (machinery.Status, error) {
	m, err := d.find(ctx, machinery.OpState, name)
	if err != nil {
		return machinery.Status{}, err
	}
	return m.now(), nil
}

// RestoreStart undoes what it did if it is interrupted.
func (d *toy) RestoreStart(ctx context.Context, name string) error {
	const op = machinery.OpRestoreStart
	m, turn, done, err := d.begin(ctx, op, name)
	if err != nil {
		return err
	}
	defer done()
	switch s := m.now(); {
	case m.bad != nil:
		return m.fail(op, machinery.ErrConfig, "the machine cannot be used", m.bad)
	case s.State != machinery.StatePoweroff:
		return m.fail(op, machinery.ErrUnexpectedState, fmt.Sprintf("the machine is %s; stop it first", s), nil)
	}
	m.set(machinery.StateStarting)
	select {
	case <-time.After(m.load):
		m.set(m.saved)
		return nil
	case <-turn.Done():
		m.set(machinery.StatePoweroff)
		return m.fail(op, machinery.ErrInterrupted, "the start was undone", cmp.Or(ctx.Err(), context.Cause(turn)))
	}
}

// HandlePaused makes the driver a [machinery.PausedHandler].
func (d *toy) HandlePaused(ctx context.Context, name string) error {
	const op = machinery.OpHandlePaused
	m, _, done, err := d.begin(ctx, op, name)
	if err != nil {
		return err
	}
	defer done()
	switch s := m.now(); s.State {
	case machinery.StatePaused:
		m.set(machinery.StateRunning)
		return nil
	case machinery.StateRunning:
		return m.fail(op, machinery.ErrStateReached, "the machine runs already", nil)
	default:
		return m.fail(op, machinery.ErrUnexpectedState, fmt.Sprintf("the machine is %s, not paused", s), nil)
	}
}

// Stop ends the operation at work, and then, before any that waits, the machine. Once it has begun it does not give up
// when ctx ends; what it waits for is on its way out.
func (d *toy) Stop(ctx context.Context, name string) error {
	const op = machinery.OpStop
	m, err := d.find(ctx, op, name)
	if err != nil {
		return err
	}
	m.mu.Lock()
	was := m.status.State
	m.stops++
	m.cancel(errStopped)
	m.mu.Unlock()
	select {
	case m.turn <- struct{}{}:
	case <-d.life.Done():
		return m.fail(op, machinery.ErrClosed, "", nil)
	}
	off := m.bad != nil || was == machinery.StatePoweroff && m.now().State == machinery.StatePoweroff
	if !off {
		m.set(machinery.StatePoweroff)
	}
	m.mu.Lock()
	m.stops--
	m.mu.Unlock()
	<-m.turn
	if off {
		return m.fail(op, machinery.ErrStateReached, "the machine is off", nil)
	}
	return nil
}

// Shutdown stops all machines and closes the driver. Once it has begun it does not give up when ctx ends.
func (d *toy) Shutdown(ctx context.Context) error {
	if err := d.refused(ctx, machinery.OpShutdown, ""); err != nil {
		return err
	}
	d.end(func(m *toyMachine) { m.set(machinery.StatePoweroff) })
	return nil
}

// Close closes the driver.
func (d *toy) Close() error {
	d.end(func(*toyMachine) {})
	return nil
}

// end interrupts the operations at work and lets no other begin: it takes every machine's turn and never gives it back.
func (d *toy) end(last func(*toyMachine)) {
	d.once.Do(func() {
		d.die(errClosed)
		for _, m := range d.machines {
			m.turn <- struct{}{}
			last(m)
		}
	})
}

// refused says why an operation cannot even begin, or nil.
func (d *toy) refused(ctx context.Context, op machinery.Op, name string) error {
	if d.life.Err() != nil {
		return &machinery.Error{Op: op, Machine: name, Kind: machinery.ErrClosed}
	}
	if err := ctx.Err(); err != nil {
		return &machinery.Error{Op: op, Machine: name, Kind: machinery.ErrInterrupted, Reason: "not begun", Err: err}
	}
	return nil
}

// find returns the machine of that name.
func (d *toy) find(ctx context.Context, op machinery.Op, name string) (*toyMachine, error) {
	if err := d.refused(ctx, op, name); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(d.machines, func(m *toyMachine) bool { return m.info.Name == name })
	if i < 0 {
		return nil, machinery.NotFound(op, name, d.Machines())
	}
	return d.machines[i], nil
}

// begin waits until the operation may work on the machine. The turn that it returns ends with ctx, and when Stop or Close
// want the machine; done gives it back.
func (d *toy) begin(ctx context.Context, op machinery.Op, name string) (m *toyMachine, turn context.Context, done func(), err error) {
	if m, err = d.find(ctx, op, name); err != nil {
		return nil, nil, nil, err
	}
	turn, cancel := context.WithCancelCause(ctx)
	closing := context.AfterFunc(d.life, func() { cancel(errClosed) })
	for {
		select {
		case m.turn <- struct{}{}:
		case <-turn.Done():
			closing()
			if ctx.Err() == nil {
				return nil, nil, nil, m.fail(op, machinery.ErrClosed, "", nil)
			}
			return nil, nil, nil, m.fail(op, machinery.ErrInterrupted, "gave up waiting for its turn", ctx.Err())
		}
		m.mu.Lock()
		first := m.stops == 0
		if first {
			m.cancel = cancel
		}
		m.mu.Unlock()
		if first {
			return m, turn, func() { closing(); cancel(nil); <-m.turn }, nil
		}
		<-m.turn // for the Stop that waits; then it is in line again
	}
}

func (m *toyMachine) now() machinery.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status
}

func (m *toyMachine) set(s machinery.State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status = machinery.Status{State: s}
}

func (m *toyMachine) fail(op machinery.Op, kind error, reason string, cause error) error {
	return &machinery.Error{Op: op, Machine: m.info.Name, Kind: kind, Status: m.now(), Reason: reason, Err: cause}
}

// A configuration file is opened by the driver that has its name, and a machine is started, used and stopped.
func Example() {
	dir, err := os.MkdirTemp("", "toy")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "toy.yaml")
	if err := os.WriteFile(path, []byte(`
machines:
  win10_1: {ip: 192.168.30.101, snapshot: running, tags: [office]}
  win10_2: {ip: 192.168.30.102, snapshot: paused}
  win10_3: {ip: 192.168.30.103, snapshot: pausd}
`), 0o600); err != nil {
		panic(err)
	}

	// Programs register their drivers with machinery.MustRegister, and open files with machinery.Open.
	var drivers machinery.Registry
	if err := drivers.Register(toyDriver); err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	m, err := drivers.Open(ctx, path, machinery.Options{})
	if err != nil {
		panic(err)
	}
	for _, info := range m.Machines() {
		status, err := m.State(ctx, info.Name)
		fmt.Println(info.Name, info.IP, info.Tags, status, err)
	}

	// RestoreStart leaves a machine paused whose snapshot was saved so; Start resumes it.
	fmt.Println(m.RestoreStart(ctx, "win10_2"))
	fmt.Println(m.State(ctx, "win10_2"))
	fmt.Println(m.Stop(ctx, "win10_2"))
	fmt.Println(machinery.Start(ctx, m, "win10_2"))
	fmt.Println(m.State(ctx, "win10_2"))

	// Errors say what happened, and their kind tells a program what to do.
	err = m.RestoreStart(ctx, "win10_2")
	fmt.Println(err)
	fmt.Println(errors.Is(err, machinery.ErrUnexpectedState))
	fmt.Println(m.Stop(ctx, "win10_1"))
	fmt.Println(m.Stop(ctx, "win10"))
	fmt.Println(machinery.DumpMemory(ctx, m, "win10_2", filepath.Join(dir, "memory.dump")))
	var failed *machinery.Error
	if errors.As(m.RestoreStart(ctx, "win10_3"), &failed) {
		fmt.Println(failed.Kind, "-", failed.Reason)
	}

	fmt.Println(m.Shutdown(ctx))
	fmt.Println(m.Stop(ctx, "win10_2"))

	// Output:
	// win10_1 192.168.30.101 [office] poweroff <nil>
	// win10_2 192.168.30.102 [] poweroff <nil>
	// win10_3 192.168.30.103 [] error (wrong configuration) <nil>
	// <nil>
	// paused <nil>
	// <nil>
	// <nil>
	// running <nil>
	// restore_start "win10_2": the machine is running; stop it first
	// true
	// stop "win10_1": the machine is off
	// stop "win10": there is no machine of this name; the configuration has "win10_1", "win10_2", "win10_3"
	// dump_memory "win10_2": this driver does not support the operation
	// wrong configuration - the machine cannot be used
	// <nil>
	// stop "win10_2": the driver is closed
}
