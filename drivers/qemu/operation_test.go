//go:build linux

package qemu

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/machineries/machineries/machinery"
)

// waiting is how many operations wait.
func (q *turns) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.line)
}

func mustTake(t *testing.T, q *turns) *turn {
	t.Helper()
	turn, err := q.take(limit(t), machinery.OpRestoreStart)
	if err != nil {
		t.Fatal(err)
	}
	return turn
}

func TestOperationsHaveTheirTurnInTheOrderInWhichTheyCame(t *testing.T) {
	q := &turns{}
	first := mustTake(t, q)
	var mu sync.Mutex
	var order []int
	var all sync.WaitGroup
	for i := range 5 {
		all.Go(func() {
			turn, err := q.take(context.Background(), machinery.OpRestoreStart)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			turn.done()
		})
		waitFor(t, "the operation waits", func() bool { return q.waiting() == i+1 })
	}
	first.done()
	all.Wait()
	if !slices.IsSorted(order) || len(order) != 5 {
		t.Errorf("the order was %v", order)
	}
}

func TestStopGoesFirstAndEndsWhatRunsAndNothingElse(t *testing.T) {
	q := &turns{}
	running := mustTake(t, q)
	waits := make(chan *turn, 1)
	go func() {
		turn, _ := q.take(context.Background(), machinery.OpHandlePaused)
		waits <- turn
	}()
	waitFor(t, "the operation waits", func() bool { return q.waiting() == 1 })
	stopped := make(chan *turn, 1)
	go func() {
		turn, cancelled, err := q.overtake(context.Background(), machinery.OpStop, time.Minute)
		if err != nil || cancelled != machinery.OpRestoreStart {
			t.Errorf("cancelled %q, %v", cancelled, err)
		}
		stopped <- turn
	}()
	<-running.ctx.Done()
	if cause := context.Cause(running.ctx); cause != errStopped {
		t.Errorf("the cause is %v", cause)
	}
	running.done()
	stop := <-stopped
	select {
	case <-waits:
		t.Error("the operation that waited had its turn beside Stop")
	default:
	}
	// A second Stop waits for the first and does not end it.
	second := make(chan machinery.Op, 1)
	go func() {
		turn, cancelled, err := q.overtake(context.Background(), machinery.OpStop, time.Minute)
		if err == nil {
			turn.done()
		}
		second <- cancelled
	}()
	waitFor(t, "the second Stop waits", func() bool { return q.waiting() == 2 })
	if stop.ctx.Err() != nil {
		t.Error("the second Stop ended the first")
	}
	stop.done()
	if cancelled := <-second; cancelled != "" {
		t.Errorf("the second Stop cancelled %q", cancelled)
	}
	turn := <-waits
	if turn.ctx.Err() != nil {
		t.Error("the operation that waited is cancelled")
	}
	turn.done()
}

func TestAnOperationThatDoesNotEndIsGivenUp(t *testing.T) {
	q := &turns{}
	stuck := mustTake(t, q)
	if _, _, err := q.overtake(context.Background(), machinery.OpStop, 10*time.Millisecond); err != errStuck {
		t.Errorf("Stop: %v", err)
	}
	dead, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := q.overtake(dead, machinery.OpStop, 10*time.Millisecond); err != errStuck {
		t.Errorf("Stop without time: %v", err)
	}
	q.close()
	if _, err := q.takeClosed(machinery.OpClose, 10*time.Millisecond); err != errStuck {
		t.Errorf("Close: %v", err)
	}
	stuck.done()
	turn, err := q.takeClosed(machinery.OpClose, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	turn.done()
	if _, err := q.take(context.Background(), machinery.OpRestoreStart); err != errClosing {
		t.Errorf("after close: %v", err)
	}
}

func TestNoTurnIsLostOrHadTwice(t *testing.T) {
	q := &turns{}
	var mu sync.Mutex
	busy := false
	use := func(turn *turn) error {
		mu.Lock()
		defer mu.Unlock()
		if busy {
			return errors.New("two have the turn")
		}
		busy = true
		mu.Unlock()
		time.Sleep(time.Duration(len(turn.op)) * 5 * time.Microsecond) // gives another the chance to come in between
		mu.Lock()
		busy = false
		turn.done()
		return nil
	}
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for k := range 60 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration((i*7+k*13)%900)*time.Microsecond)
				var turn *turn
				var err error
				if (i+k)%4 == 0 {
					turn, _, err = q.overtake(ctx, machinery.OpStop, time.Minute)
				} else {
					turn, err = q.take(ctx, machinery.OpRestoreStart)
				}
				if err == nil {
					err = use(turn)
				}
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(fmt.Errorf("%d/%d: %w", i, k, err))
				}
				cancel()
			}
		})
	}
	all.Wait()
	mustTake(t, q).done()
}
