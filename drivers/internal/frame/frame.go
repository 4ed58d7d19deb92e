// Package frame is what every driver does in the same way around its operations: it finds the machine, refuses what cannot begin, gives each machine
// to one operation at a time, logs what was done, lets others watch, and at the end lets go of all machines at once. What an operation does is the
// driver's.
//
//	func (d *Machinery) RestoreStart(ctx context.Context, name string) error {
//		return d.frame.Operate(ctx, machinery.OpRestoreStart, name, (*vm).restore)
//	}
package frame

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/oplog"
	"github.com/machineries/machineries/drivers/internal/turns"
	"github.com/machineries/machineries/drivers/internal/watching"
	"github.com/machineries/machineries/machinery"
)

// Machine is what a frame has to know of one of a driver's machines.
type Machine interface {
	// Describe is what callers are told of it.
	Describe() machinery.Machine
	// Refuse is the error for an operation that the machine cannot be used for, such as for a mistake in its configuration; nil if it can.
	Refuse(machinery.Op) error
	// Turns are its operations' line.
	Turns() *turns.Turns
	// Watches are those who watch it.
	Watches() *watching.Hub
	// Patience is how long an operation on it may take to end that was told to.
	Patience() time.Duration
	// Log is for what is done to it.
	Log() *slog.Logger
}

// Frame has the machines of one driver. It is made by New; Add is called before anything else and by one goroutine, and the rest by any number.
type Frame[M Machine] struct {
	machines []M
	byName   map[string]M

	closed  chan struct{}      // closed when Close or Shutdown has begun
	closing sync.Mutex         // held by the Close or Shutdown that does the work
	ending  sync.Mutex         // held while closed is closed, and by who adds to aside without having a turn
	aside   sync.WaitGroup     // what works beside the operations
	life    context.Context    // ends when all machines were let go of
	die     context.CancelFunc // ends it
}

// New makes a frame without machines.
func New[M Machine]() *Frame[M] {
	f := &Frame[M]{byName: map[string]M{}, closed: make(chan struct{})}
	f.life, f.die = context.WithCancel(context.Background())
	return f
}

// Add adds a machine to the end of the list. The error is ErrConfig for one without a name, or with that of another.
func (f *Frame[M]) Add(m M) error {
	name := m.Describe().Name
	if name == "" {
		return fault.Fail(machinery.OpOpen, "", machinery.ErrConfig, nil, "a machine (number %d) has no name", len(f.machines)+1)
	}
	if _, there := f.byName[name]; there {
		return fault.Fail(machinery.OpOpen, "", machinery.ErrConfig, nil, "two machines are named %q", name)
	}
	f.machines = append(f.machines, m)
	f.byName[name] = m
	return nil
}

// All are the machines in the order in which they were added. Nobody may change the slice.
func (f *Frame[M]) All() []M { return f.machines }

// Named is the machine of that name; the zero M if there is none.
func (f *Frame[M]) Named(name string) M { return f.byName[name] }

// Machines is machinery.Machinery's.
func (f *Frame[M]) Machines() []machinery.Machine {
	list := make([]machinery.Machine, len(f.machines))
	for i, m := range f.machines {
		list[i] = m.Describe()
		list[i].Tags = slices.Clone(list[i].Tags)
	}
	return list
}

// Described is a machine's description with its own tags, and its MAC address as Go writes it, where it is one.
func Described(m machinery.Machine) machinery.Machine {
	m.Tags = slices.Clone(m.Tags)
	if hw, err := net.ParseMAC(m.MACAddress); err == nil {
		m.MACAddress = hw.String()
	}
	return m
}

// Begin is nil if an operation that is not about one machine may begin: the driver is not closed, and ctx has not ended.
func (f *Frame[M]) Begin(ctx context.Context, op machinery.Op) error {
	switch {
	case f.IsClosed():
		return &machinery.Error{Op: op, Kind: machinery.ErrClosed}
	case ctx.Err() != nil:
		return fault.Fail(op, "", machinery.ErrInterrupted, ctx.Err(), "not begun")
	}
	return nil
}

// Lookup finds a machine, and refuses what cannot begin at all.
func (f *Frame[M]) Lookup(ctx context.Context, op machinery.Op, name string) (M, error) {
	var none M
	m, there := f.byName[name]
	switch {
	case f.IsClosed():
		return none, &machinery.Error{Op: op, Machine: name, Kind: machinery.ErrClosed}
	case !there:
		return none, machinery.NotFound(op, name, f.Machines())
	case ctx.Err() != nil:
		return none, fault.Fail(op, name, machinery.ErrInterrupted, ctx.Err(), "not begun")
	}
	return m, nil
}

// Operate runs an operation as the only one on its machine. Its context ends with ctx, and when Stop or Close want the machine.
func (f *Frame[M]) Operate(ctx context.Context, op machinery.Op, name string, do func(M, context.Context) error) error {
	m, err := f.Lookup(ctx, op, name)
	if err != nil {
		return err
	}
	if err := m.Refuse(op); err != nil {
		return err
	}
	began := time.Now()
	t, err := m.Turns().Take(ctx, op)
	if err != nil {
		return fault.NotMyTurn(op, name, ctx, err)
	}
	defer t.Done()
	waited := time.Since(began)
	err = do(m, t.Context())
	oplog.Done(ctx, m.Log(), op, began, waited, err)
	return err
}

// Stop is Operate for Stop: it does not wait for the operation that has the machine, but ends it, and takes a machine that Refuse would refuse.
// cancelled is whether a start was ended for it: then the machine was not off.
func (f *Frame[M]) Stop(ctx context.Context, name string, do func(m M, ctx context.Context, cancelled bool) error) error {
	const op = machinery.OpStop
	m, err := f.Lookup(ctx, op, name)
	if err != nil {
		return err
	}
	began := time.Now()
	t, ended, err := m.Turns().Overtake(ctx, op, m.Patience())
	if err != nil {
		return fault.NotMyTurn(op, name, ctx, err)
	}
	defer t.Done()
	waited := time.Since(began)
	err = do(m, t.Context(), ended == machinery.OpRestoreStart || ended == machinery.OpNoRestoreStart)
	oplog.Done(ctx, m.Log(), op, began, waited, err)
	return err
}

// Watch is machinery.Watcher's, from what source says of the machine; its Closed is set here.
func (f *Frame[M]) Watch(ctx context.Context, name string, source func(M) watching.Source) (<-chan machinery.Event, error) {
	m, err := f.Lookup(ctx, machinery.OpWatch, name)
	if err != nil {
		return nil, err
	}
	f.ending.Lock()
	defer f.ending.Unlock()
	if f.IsClosed() {
		return nil, &machinery.Error{Op: machinery.OpWatch, Machine: name, Kind: machinery.ErrClosed}
	}
	s := source(m)
	s.Closed = f.closed
	w := m.Watches().Watch(s)
	f.aside.Go(func() { w.Run(ctx) })
	return w.Events(), nil
}
