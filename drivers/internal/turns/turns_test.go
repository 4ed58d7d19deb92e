package turns

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

// waitFor waits until something is so.
func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(2 * time.Millisecond) { // between two looks at what has no event
		if time.Now().After(deadline) {
			t.Fatalf("after 10 s it is still not so that %s", what)
		}
	}
}

func mustTake(t *testing.T, q *Turns) *Turn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	turn, err := q.Take(ctx, machinery.OpRestoreStart)
	if err != nil {
		t.Fatal(err)
	}
	return turn
}

func TestOperationsHaveTheirTurnInTheOrderInWhichTheyCame(t *testing.T) {
	q := &Turns{}
	first := mustTake(t, q)
	var mu sync.Mutex
	var order []int
	var all sync.WaitGroup
	for i := range 5 {
		all.Go(func() {
			turn, err := q.Take(context.Background(), machinery.OpRestoreStart)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			turn.Done()
		})
		waitFor(t, "the operation waits", func() bool { return q.Waiting() == i+1 })
	}
	first.Done()
	all.Wait()
	if !slices.IsSorted(order) || len(order) != 5 {
		t.Errorf("the order was %v", order)
	}
}

func TestStopGoesFirstAndEndsWhatRunsAndNothingElse(t *testing.T) {
	q := &Turns{}
	running := mustTake(t, q)
	waits := make(chan *Turn, 1)
	go func() {
		turn, _ := q.Take(context.Background(), machinery.OpHandlePaused)
		waits <- turn
	}()
	waitFor(t, "the operation waits", func() bool { return q.Waiting() == 1 })
	stopped := make(chan *Turn, 1)
	go func() {
		turn, cancelled, err := q.Overtake(context.Background(), machinery.OpStop, time.Minute)
		if err != nil || cancelled != machinery.OpRestoreStart {
			t.Errorf("cancelled %q, %v", cancelled, err)
		}
		stopped <- turn
	}()
	<-running.Context().Done()
	if cause := context.Cause(running.Context()); cause != ErrStopped {
		t.Errorf("the cause is %v", cause)
	}
	running.Done()
	stop := <-stopped
	select {
	case <-waits:
		t.Error("the operation that waited had its turn beside Stop")
	default:
	}
	// A second Stop waits for the first and does not end it.
	second := make(chan machinery.Op, 1)
	go func() {
		turn, cancelled, err := q.Overtake(context.Background(), machinery.OpStop, time.Minute)
		if err == nil {
			turn.Done()
		}
		second <- cancelled
	}()
	waitFor(t, "the second Stop waits", func() bool { return q.Waiting() == 2 })
	if stop.Context().Err() != nil {
		t.Error("the second Stop ended the first")
	}
	stop.Done()
	if cancelled := <-second; cancelled != "" {
		t.Errorf("the second Stop cancelled %q", cancelled)
	}
	turn := <-waits
	if turn.Context().Err() != nil {
		t.Error("the operation that waited is cancelled")
	}
	turn.Done()
}

func TestAnOperationThatDoesNotEndIsGivenUp(t *testing.T) {
	q := &Turns{}
	stuck := mustTake(t, q)
	if _, _, err := q.Overtake(context.Background(), machinery.OpStop, 10*time.Millisecond); err != ErrStuck {
		t.Errorf("Stop: %v", err)
	}
	dead, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := q.Overtake(dead, machinery.OpStop, 10*time.Millisecond); err != ErrStuck {
		t.Errorf("Stop without time: %v", err)
	}
	q.Close()
	if _, err := q.TakeClosed(machinery.OpClose, 10*time.Millisecond); err != ErrStuck {
		t.Errorf("Close: %v", err)
	}
	stuck.Done()
	turn, err := q.TakeClosed(machinery.OpClose, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	turn.Done()
	if _, err := q.Take(context.Background(), machinery.OpRestoreStart); err != ErrClosing {
		t.Errorf("after close: %v", err)
	}
}

func TestNoTurnIsLostOrHadTwice(t *testing.T) {
	q := &Turns{}
	var mu sync.Mutex
	busy := false
	use := func(turn *Turn) error {
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
		turn.Done()
		return nil
	}
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for k := range 60 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration((i*7+k*13)%900)*time.Microsecond)
				var turn *Turn
				var err error
				if (i+k)%4 == 0 {
					turn, _, err = q.Overtake(ctx, machinery.OpStop, time.Minute)
				} else {
					turn, err = q.Take(ctx, machinery.OpRestoreStart)
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
	mustTake(t, q).Done()
}
