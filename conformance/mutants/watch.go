//go:build linux

package mutants

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
)

// follows is a mutant with another Watch.
func follows(name string, watch func(inner *qemu.Machinery, ctx context.Context, name string) (<-chan machinery.Event, error), breaks ...string) Mutant {
	return wrap(name, func(inner *qemu.Machinery) machinery.Machinery {
		return &broken{Machinery: inner, watch: func(ctx context.Context, name string) (<-chan machinery.Event, error) { return watch(inner, ctx, name) }}
	}, breaks...)
}

// filtered passes on those events of a right watch that pass says. If open is set
// the channel is never closed.
func filtered(inner *qemu.Machinery, ctx context.Context, name string, open bool, pass func(number int, e machinery.Event) bool) (<-chan machinery.Event, error) {
	from, err := inner.Watch(ctx, name)
	if err != nil {
		return nil, err
	}
	to := make(chan machinery.Event)
	go func() {
		if !open {
			defer close(to)
		}
		number := 0
		for e := range from {
			number++
			if !pass(number, e) {
				continue
			}
			select {
			case to <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return to, nil
}

func all(int, machinery.Event) bool { return true }

func watchMutants() []Mutant {
	return []Mutant{
		follows("tells of changes alone", func(inner *qemu.Machinery, ctx context.Context, name string) (<-chan machinery.Event, error) {
			return filtered(inner, ctx, name, false, func(number int, _ machinery.Event) bool { return number > 1 })
		}, "MM-WATCH-001", "MM-WATCH-003", "MM-WATCH-006"),
		follows("tells of a machine once", func(inner *qemu.Machinery, ctx context.Context, name string) (<-chan machinery.Event, error) {
			return filtered(inner, ctx, name, false, func(number int, _ machinery.Event) bool { return number == 1 })
		}, "MM-WATCH-002", "MM-WATCH-003", "MM-WATCH-006"),
		follows("does not tell that a machine went off", func(inner *qemu.Machinery, ctx context.Context, name string) (<-chan machinery.Event, error) {
			return filtered(inner, ctx, name, false, func(number int, e machinery.Event) bool {
				return number == 1 || e.Status.State != machinery.StatePoweroff
			})
		}, "MM-WATCH-002", "MM-WATCH-003", "MM-WATCH-006"),
		dropsForSlowReaders(),
		startsWaitForReaders(),
		follows("leaves the channel of a watch open", func(inner *qemu.Machinery, ctx context.Context, name string) (<-chan machinery.Event, error) {
			return filtered(inner, ctx, name, true, all)
		}, "MM-WATCH-005"),
		ownMachinesOnly(),
		follows("watches machines that do not exist", func(inner *qemu.Machinery, ctx context.Context, name string) (<-chan machinery.Event, error) {
			events, err := inner.Watch(ctx, name)
			if errors.Is(err, machinery.ErrNotFound) {
				return make(chan machinery.Event), nil
			}
			return events, err
		}, "MM-WATCH-007"),
	}
}

// dropsForSlowReaders tells nothing more to a reader that has not taken the first event when the machine is started.
func dropsForSlowReaders() Mutant {
	return wrap("drops the latest status if the reader is slow", func(inner *qemu.Machinery) machinery.Machinery {
		var to chan machinery.Event
		var lost atomic.Bool
		return &broken{Machinery: inner,
			watch: func(ctx context.Context, name string) (<-chan machinery.Event, error) {
				from, err := inner.Watch(ctx, name)
				if err != nil {
					return nil, err
				}
				to = make(chan machinery.Event, 1)
				to <- <-from
				go func() {
					defer close(to)
					for e := range from {
						if lost.Load() {
							continue
						}
						select {
						case to <- e:
						case <-ctx.Done():
							return
						}
					}
				}()
				return to, nil
			},
			restoreStart: func(ctx context.Context, name string) error {
				if len(to) > 0 {
					lost.Store(true)
				}
				return inner.RestoreStart(ctx, name)
			},
		}
	}, "MM-WATCH-004")
}

// startsWaitForReaders hands each change to every reader before it goes on.
func startsWaitForReaders() Mutant {
	return wrap("lets operations wait for who watches", func(inner *qemu.Machinery) machinery.Machinery {
		var readers []chan machinery.Event
		tell := func(ctx context.Context, state machinery.State) error {
			for _, r := range readers {
				select {
				case r <- machinery.Event{Status: machinery.Status{State: state}, Time: time.Now()}:
				case <-ctx.Done():
					return fail(machinery.OpWatch, "", machinery.ErrInterrupted)
				}
			}
			return nil
		}
		return &broken{Machinery: inner,
			watch: func(ctx context.Context, name string) (<-chan machinery.Event, error) {
				s, err := inner.State(ctx, name)
				if err != nil {
					return nil, err
				}
				r := make(chan machinery.Event, 1)
				r <- machinery.Event{Status: s, Time: time.Now()}
				readers = append(readers, r)
				return r, nil
			},
			restoreStart: func(ctx context.Context, name string) error {
				if err := inner.RestoreStart(ctx, name); err != nil {
					return err
				}
				// For as long as a right driver would take, so that the check sees it late.
				waiting, cancel := context.WithTimeout(ctx, time.Minute)
				defer cancel()
				return tell(waiting, machinery.StateRunning)
			}}
	}, "MM-WATCH-004")
}

// ownMachinesOnly tells of changes only while this driver holds the machine.
func ownMachinesOnly() Mutant {
	return follows("watches only the machines that it holds", func(inner *qemu.Machinery, ctx context.Context, name string) (<-chan machinery.Event, error) {
		return filtered(inner, ctx, name, false, func(number int, _ machinery.Event) bool {
			_, err := inner.Monitor(ctx, name)
			return number == 1 || err == nil
		})
	}, "MM-WATCH-006")
}
