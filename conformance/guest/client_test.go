package guest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/machineries/machineries/fakes/guest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// far is the guest's side of a connection, played by the test.
type far struct {
	t    *testing.T
	conn net.Conn
}

func scripted(t *testing.T) (*Client, far) {
	ours, theirs := net.Pipe()
	c := NewClient(ours)
	t.Cleanup(func() { c.Close(); theirs.Close() })
	return c, far{t, theirs}
}

func (f far) request() guest.Request {
	f.t.Helper()
	var b [guest.FrameSize]byte
	if _, err := io.ReadFull(f.conn, b[:]); err != nil {
		f.t.Errorf("the guest reads a request: %v", err)
	}
	r, ok := guest.ParseRequest(b)
	if !ok {
		f.t.Errorf("the client sent % x", b)
	}
	return r
}

func (f far) say(r guest.Reply) {
	b := r.Encode()
	f.conn.Write(b[:])
}

func TestLateRepliesAreNotTakenForOthers(t *testing.T) {
	c, f := scripted(t)
	late := make(chan guest.Request, 1)
	go func() { late <- f.request() }()
	if _, err := c.Memory(within(t, 20*time.Millisecond), 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("no answer: %v", err)
	}
	first := <-late
	go func() {
		second := f.request()
		f.say(guest.Reply{Op: first.Op, Tag: first.Tag, Value: 1}) // late
		f.say(guest.Reply{Op: first.Op, Tag: first.Tag, Value: 1}) // and doubled
		f.say(guest.Reply{Op: second.Op, Tag: second.Tag, Value: 2})
	}()
	if v := get[uint32](t)(c.Memory(within(t, answerTime), 1)); v != 2 {
		t.Errorf("the answer is %d, want 2", v)
	}
}

func TestTagsOfUnansweredRequestsAreNotUsedAgain(t *testing.T) {
	c, f := scripted(t)
	seen := map[byte]bool{}
	first := byte(0)
	for i := range guest.EventTag {
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			r := f.request()
			if i == 0 {
				first = r.Tag
			}
			if seen[r.Tag] || r.Tag == guest.EventTag {
				t.Errorf("tag %d was used again", r.Tag)
			}
			seen[r.Tag] = true
			cancel()
		}()
		if _, err := c.Counter(ctx); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if _, err := c.Counter(within(t, answerTime)); err == nil || !strings.Contains(err.Error(), "255 earlier requests") {
		t.Errorf("a request without a free tag: %v", err)
	}
	f.say(guest.Reply{Op: guest.OpCounter, Tag: first}) // one tag is free again
	f.say(guest.Reply{Op: guest.OpBooted, Tag: guest.EventTag, Value: guest.Version})
	must(t, c.WaitBoot(within(t, answerTime)))
	go func() {
		r := f.request()
		f.say(guest.Reply{Op: r.Op, Tag: r.Tag, Value: 5})
	}()
	if v := get[uint32](t)(c.Counter(within(t, answerTime))); v != 5 {
		t.Errorf("the answer is %d, want 5", v)
	}
}

func TestManyCallersGetTheirOwnAnswers(t *testing.T) {
	c, f := scripted(t)
	go func() { // answers in twos, in the wrong order, with noise between
		for range 50 {
			a, b := f.request(), f.request()
			f.conn.Write([]byte("noise Z"))
			f.say(guest.Reply{Op: b.Op, Tag: b.Tag, Value: uint32(b.Slot)})
			f.say(guest.Reply{Op: guest.OpPower, Tag: guest.EventTag, Value: 1})
			f.say(guest.Reply{Op: a.Op, Tag: a.Tag, Value: uint32(a.Slot)})
		}
	}()
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			slot := i % guest.Slots
			if v, err := c.Memory(within(t, answerTime), slot); err != nil || v != uint32(slot) {
				t.Errorf("the answer to slot %d is %d, %v", slot, v, err)
			}
		})
	}
	wg.Wait()
	if n := len(c.Events()); n != 50 {
		t.Errorf("%d events, want 50", n)
	}
}

func TestWhatTheGuestSaidLastIsStillHeard(t *testing.T) {
	c, f := scripted(t)
	go func() {
		r := f.request()
		f.say(guest.Reply{Op: r.Op, Tag: r.Tag})
		f.say(guest.Reply{Op: guest.OpPower, Tag: guest.EventTag, Value: 3})
		f.conn.Close()
	}()
	must(t, c.PowerOff(within(t, answerTime)))
	<-c.Gone()
	if e, err := c.WaitEvent(within(t, answerTime), guest.OpPower, 0); err != nil || e.Value != 3 {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := c.WaitEvent(within(t, answerTime), guest.OpPower, 1); !errors.Is(err, ErrGone) {
		t.Errorf("a wait for what cannot come: %v", err)
	}
}

func TestCallsEndWithTheConnection(t *testing.T) {
	c, f := scripted(t)
	go func() {
		f.request()
		f.conn.Close()
	}()
	if err := c.Identify(context.Background()); !errors.Is(err, ErrGone) {
		t.Errorf("a request under way: %v, want ErrGone", err)
	}
	if err := c.Identify(context.Background()); !errors.Is(err, ErrGone) {
		t.Errorf("a request afterwards: %v, want ErrGone", err)
	}
	if err := c.WaitBoot(context.Background()); !errors.Is(err, ErrGone) {
		t.Errorf("a wait for the boot: %v, want ErrGone", err)
	}
}

func TestADeadContextSendsNothing(t *testing.T) {
	c, f := scripted(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	cause := errors.New("the user has gone home")
	cancel(cause)
	if err := c.SetMemory(ctx, 0, 1); !errors.Is(err, cause) {
		t.Errorf("a dead context: %v", err)
	}
	go c.Identify(within(t, answerTime))
	if r := f.request(); r.Op != guest.OpIdentify {
		t.Errorf("the guest got %+v", r)
	}
}

func TestAnotherVersionIsRefused(t *testing.T) {
	c, f := scripted(t)
	go func() {
		f.say(guest.Reply{Op: guest.OpBooted, Tag: guest.EventTag, Value: guest.Version + 1})
		r := f.request()
		f.say(guest.Reply{Op: r.Op, Tag: r.Tag, Value: guest.Version + 1})
	}()
	for name, err := range map[string]error{"WaitBoot": c.WaitBoot(within(t, answerTime)), "Identify": c.Identify(within(t, answerTime))} {
		if err == nil || !strings.Contains(err.Error(), "another version") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSlotsOutOfRangeAreNotSent(t *testing.T) {
	c, _ := scripted(t) // nobody reads: a request would hang
	for _, slot := range []int{-1, 16, 256} {
		if _, err := c.Memory(within(t, answerTime), slot); err == nil || !strings.Contains(err.Error(), "slots are 0 to 15") {
			t.Errorf("slot %d: %v", slot, err)
		}
	}
}

func TestAWriteThatIsNotTakenEndsWithTheContext(t *testing.T) {
	c, _ := scripted(t)
	if err := c.Identify(within(t, 20*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a deadline: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := c.Identify(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled context: %v", err)
	}
}

func TestOldEventsAreForgotten(t *testing.T) {
	c, f := scripted(t)
	const n = maxEvents + 10
	go func() {
		for i := range n {
			f.say(guest.Reply{Op: guest.OpPower, Tag: guest.EventTag, Value: uint32(i)})
		}
	}()
	if _, err := c.WaitEvent(within(t, answerTime), guest.OpPower, n-1); err != nil {
		t.Fatal(err)
	}
	if e := c.Events(); len(e) != maxEvents || e[0].Seq != n-maxEvents+1 || e[maxEvents-1].Seq != n {
		t.Errorf("%d events from %+v", len(e), e[0])
	}
}

func dial(t *testing.T, l *Listener) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", l.l.Addr().String())
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestARestartedMachineReplacesTheOneBefore(t *testing.T) {
	l := listen(t, socketDir(t))
	dial(t, l)
	first := get[*Client](t)(l.Client(within(t, answerTime)))
	if again := get[*Client](t)(l.Client(within(t, answerTime))); again != first {
		t.Error("the same connection has two clients")
	}
	if c, err := l.Next(within(t, 20*time.Millisecond), first); err == nil {
		t.Errorf("a second machine: %v", c)
	}
	dial(t, l)
	second := get[*Client](t)(l.Next(within(t, answerTime), first))
	select {
	case <-first.Gone():
	case <-time.After(answerTime):
		t.Error("the first connection is still open")
	}
	if second.PID() != os.Getpid() {
		t.Errorf("PID() = %d, want %d", second.PID(), os.Getpid())
	}
}

func TestAMachineThatHasGoneIsNotReturned(t *testing.T) {
	l := listen(t, socketDir(t))
	conn := dial(t, l)
	c := get[*Client](t)(l.Client(within(t, answerTime)))
	conn.Close()
	<-c.Gone()
	if c, err := l.Client(within(t, 20*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, %v", c, err)
	}
}

func TestListenerLeavesNothing(t *testing.T) {
	dir := socketDir(t)
	l := listen(t, dir)
	dial(t, l)
	c := get[*Client](t)(l.Client(within(t, answerTime)))
	failed := make(chan error, 1)
	go func() {
		_, err := l.Next(context.Background(), c)
		failed <- err
	}()
	must(t, l.Close())
	must(t, l.Close())
	if err := <-failed; !errors.Is(err, ErrClosed) {
		t.Errorf("a wait under way: %v, want ErrClosed", err)
	}
	<-c.Gone()
	if left := get[[]os.DirEntry](t)(os.ReadDir(dir)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestListenSaysWhatIsWrongWithThePath(t *testing.T) {
	dir := socketDir(t)
	long := filepath.Join(dir, strings.Repeat("x", 108-len(dir)-1))
	if _, err := Listen(long); err == nil || !strings.Contains(err.Error(), "has 108 bytes, and the system allows 107") {
		t.Errorf("a path of 108 bytes: %v", err)
	}
	l, err := Listen(long[:107])
	must(t, err)
	defer l.Close()
	if _, err := Listen(long[:107]); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("a path in use: %v", err)
	}
}
