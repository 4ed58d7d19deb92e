package frame

import (
	"context"
	"errors"
	"sync"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/machinery"
)

// Closed is closed when Close or Shutdown has begun.
func (f *Frame[M]) Closed() <-chan struct{} { return f.closed }

// IsClosed is whether Close or Shutdown has begun.
func (f *Frame[M]) IsClosed() bool {
	select {
	case <-f.closed:
		return true
	default:
		return false
	}
}

// Life ends in Close and Shutdown, when all machines have been let go of.
func (f *Frame[M]) Life() context.Context { return f.life }

// Go has something work beside the operations, which Close and Shutdown wait for: it has to end with Closed, or with Life. Who calls it has a
// machine's turn, or was called by Go, or makes the driver.
func (f *Frame[M]) Go(work func()) { f.aside.Go(work) }

// Close is machinery.Machinery's: it ends every operation, does last on each machine, which has to let go of it, and then rest, once nothing works any
// more. It is nothing on a frame that is closed.
func (f *Frame[M]) Close(last func(M) error, rest func() error) error {
	f.closing.Lock()
	defer f.closing.Unlock()
	if f.IsClosed() {
		return nil
	}
	return f.end(last, rest)
}

// Shutdown is Close for machinery.Machinery's Shutdown, which is refused if ctx has ended or the frame is closed.
func (f *Frame[M]) Shutdown(ctx context.Context, last func(M) error, rest func() error) error {
	const op = machinery.OpShutdown
	if ctx.Err() != nil {
		return fault.Interrupted(op, "", ctx, "not begun")
	}
	f.closing.Lock()
	defer f.closing.Unlock()
	if f.IsClosed() {
		return &machinery.Error{Op: op, Kind: machinery.ErrClosed}
	}
	return f.end(last, rest)
}

func (f *Frame[M]) end(last func(M) error, rest func() error) error {
	f.ending.Lock()
	close(f.closed)
	f.ending.Unlock()
	failed := make([]error, len(f.machines))
	var all sync.WaitGroup
	for i, m := range f.machines {
		m.Turns().Close()
		all.Go(func() {
			t, err := m.Turns().TakeClosed(machinery.OpClose, m.Patience())
			if err != nil {
				failed[i] = fault.NotMyTurn(machinery.OpClose, m.Describe().Name, context.Background(), err)
				return
			}
			defer t.Done()
			failed[i] = last(m)
		})
	}
	all.Wait()
	f.die()
	f.aside.Wait()
	return errors.Join(append(failed, rest())...)
}
