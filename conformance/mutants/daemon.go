//go:build linux

package mutants

import (
	"context"
	"net/url"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/machineries/machineries/drivers/kvm"
	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// daemonMutants are the reference KVM driver with a mistake each: what a daemon
// does to its drivers cannot be seen with a hypervisor that has none.
func daemonMutants() []Mutant {
	return []Mutant{
		rewireKVM("gives its daemon up for good when that is restarted", nil, func(inner *kvm.Machinery, d *restarts) machinery.Machinery {
			return &brokenKVM{Machinery: inner, state: func(ctx context.Context, name string) (machinery.Status, error) {
				if d.any() {
					return machinery.Status{}, fail(machinery.OpState, name, machinery.ErrConnection)
				}
				return inner.State(ctx, name)
			}}
		}, "MM-DAEMON-001"),
		rewireKVM("watches until its daemon is restarted", nil, func(inner *kvm.Machinery, d *restarts) machinery.Machinery {
			return &brokenKVM{Machinery: inner, watch: func(ctx context.Context, name string) (<-chan machinery.Event, error) {
				events, err := inner.Watch(ctx, name)
				if err != nil {
					return nil, err
				}
				some := make(chan machinery.Event)
				go func() {
					defer close(some)
					for e := range events {
						if d.any() {
							continue
						}
						select {
						case some <- e:
						case <-ctx.Done():
						}
					}
				}()
				return some, nil
			}}
		}, "MM-DAEMON-002"),
		rewireKVM("waits for a start that its daemon has forgotten", nil, func(inner *kvm.Machinery, d *restarts) machinery.Machinery {
			return &brokenKVM{Machinery: inner, restoreStart: func(ctx context.Context, name string) error {
				err := inner.RestoreStart(ctx, name)
				if d.any() {
					<-ctx.Done()
				}
				return err
			}}
		}, "MM-DAEMON-003"),
		rewireKVM("takes a machine that was removed for one that is off", nil, func(inner *kvm.Machinery, _ *restarts) machinery.Machinery {
			return &brokenKVM{Machinery: inner, state: func(ctx context.Context, name string) (machinery.Status, error) {
				s, err := inner.State(ctx, name)
				if err != nil || s.State == machinery.StateError {
					return machinery.Status{State: machinery.StatePoweroff}, nil
				}
				return s, nil
			}}
		}, "MM-DAEMON-004"),
		rewireKVM("gives up at once when someone else works on a machine", func(c *kvm.Config) { c.LoadTimeout = 100 * time.Millisecond }, nil, "MM-DAEMON-005"),
		rewireKVM("asks for states in the queue of its dumps", nil, func(inner *kvm.Machinery, _ *restarts) machinery.Machinery {
			places := make(chan struct{}, 5)
			return &brokenKVM{Machinery: inner,
				dumpMemory: func(ctx context.Context, name, path string) error {
					places <- struct{}{}
					defer func() { <-places }()
					return inner.DumpMemory(ctx, name, path)
				},
				state: func(ctx context.Context, name string) (machinery.Status, error) {
					places <- struct{}{}
					defer func() { <-places }()
					return inner.State(ctx, name)
				}}
		}, "MM-DAEMON-006"),
		rewireKVM("keeps what there is of a dump whose daemon was restarted", nil, func(inner *kvm.Machinery, d *restarts) machinery.Machinery {
			return &brokenKVM{Machinery: inner, dumpMemory: func(ctx context.Context, name, path string) error {
				err := inner.DumpMemory(ctx, name, path)
				if err != nil && d.any() {
					_ = os.WriteFile(path, []byte("a part"), 0o600)
				}
				return err
			}}
		}, "MM-DAEMON-007"),
	}
}

// rewireKVM is a mutant of the KVM driver that changes its configuration, its
// operations, or both.
func rewireKVM(name string, change func(c *kvm.Config), wrap func(inner *kvm.Machinery, d *restarts) machinery.Machinery, breaks ...string) Mutant {
	d := kvm.Driver()
	d.Open = func(ctx context.Context, doc *config.Document, o machinery.Options) (machinery.Machinery, error) {
		c := kvm.FromDocument(doc)
		if change != nil {
			change(&c)
		}
		inner, err := kvm.New(ctx, c, o)
		if err != nil || wrap == nil {
			return inner, err
		}
		return wrap(inner, newRestarts(c.URI)), nil
	}
	return Mutant{Name: name, Breaks: breaks, Driver: d, Daemon: true}
}

// restarts knows whether a daemon was restarted: its socket is another then.
type restarts struct {
	path  string
	first uint64
	seen  atomic.Bool
}

func newRestarts(uri string) *restarts {
	d := &restarts{}
	if u, err := url.Parse(uri); err == nil {
		d.path = u.Query().Get("socket")
	}
	d.first = d.inode()
	return d
}

func (d *restarts) inode() uint64 {
	info, err := os.Stat(d.path)
	if err != nil {
		return 0
	}
	s, _ := info.Sys().(*syscall.Stat_t)
	return s.Ino ^ uint64(s.Ctim.Nano())
}

// any reports whether there was any since the driver was opened.
func (d *restarts) any() bool {
	if d.inode() != d.first {
		d.seen.Store(true)
	}
	return d.seen.Load()
}

// brokenKVM is the reference KVM driver with some operations replaced. A nil
// function leaves the operation as it is.
type brokenKVM struct {
	*kvm.Machinery
	restoreStart func(ctx context.Context, name string) error
	state        func(ctx context.Context, name string) (machinery.Status, error)
	dumpMemory   func(ctx context.Context, name, path string) error
	watch        func(ctx context.Context, name string) (<-chan machinery.Event, error)
}

func (b *brokenKVM) RestoreStart(ctx context.Context, name string) error {
	if b.restoreStart != nil {
		return b.restoreStart(ctx, name)
	}
	return b.Machinery.RestoreStart(ctx, name)
}

func (b *brokenKVM) State(ctx context.Context, name string) (machinery.Status, error) {
	if b.state != nil {
		return b.state(ctx, name)
	}
	return b.Machinery.State(ctx, name)
}

func (b *brokenKVM) DumpMemory(ctx context.Context, name, path string) error {
	if b.dumpMemory != nil {
		return b.dumpMemory(ctx, name, path)
	}
	return b.Machinery.DumpMemory(ctx, name, path)
}

func (b *brokenKVM) Watch(ctx context.Context, name string) (<-chan machinery.Event, error) {
	if b.watch != nil {
		return b.watch(ctx, name)
	}
	return b.Machinery.Watch(ctx, name)
}
