package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// The defaults of Options.
const (
	DefaultMessageLimit = 16 << 20 // query-qmp-schema, the longest usual answer, is 207 KB on QEMU 7.2.22
	DefaultEventQueue   = 1024
	DefaultTraceLength  = 64
)

// maxSocketPath is the longest path of a unix socket in bytes; the kernel's buffer is one more for the NUL.
const maxSocketPath = 107

// maxPending is how many commands may be without an answer. QEMU itself reads only a few ahead, so more
// than this means that it reads and does not answer.
const maxPending = 1024

// drainTime is how long the reader may go on after a write has failed. What QEMU said before it went away
// is in the socket buffer already, so this is ample.
const drainTime = time.Second

// Options changes how a connection works. The zero value means the defaults.
type Options struct {
	// MessageLimit is the length in bytes of the longest message that is accepted from QEMU; a longer one
	// ends the connection. Default DefaultMessageLimit.
	MessageLimit int

	// EventQueue is how many events wait for one subscriber before the oldest are dropped. Together they
	// never take more than MessageLimit bytes. Default DefaultEventQueue.
	EventQueue int

	// TraceLength is how many messages Trace remembers. Default DefaultTraceLength.
	TraceLength int
}

func (o Options) withDefaults() Options {
	if o.MessageLimit <= 0 {
		o.MessageLimit = DefaultMessageLimit
	}
	if o.EventQueue <= 0 {
		o.EventQueue = DefaultEventQueue
	}
	if o.TraceLength <= 0 {
		o.TraceLength = DefaultTraceLength
	}
	return o
}

// Version is the version that QEMU gives of itself in its greeting.
type Version struct {
	Major, Minor, Micro int
	Package             string // the packager's name for the build, often empty
}

// String is the version as QEMU writes it, such as "7.2.22".
func (v Version) String() string {
	return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Micro)
}

// Monitor is one negotiated QMP connection. Its methods may be called by several goroutines at once.
type Monitor struct {
	conn  net.Conn
	opts  Options
	trace trace

	greeted  chan struct{} // closed when the greeting has been read
	greeting greeting      // written before greeted is closed, then constant

	closing chan struct{} // closed when Close begins
	done    chan struct{} // closed when the connection has ended and err is set
	err     error         // written before done is closed
	workers sync.WaitGroup

	writing chan struct{} // holds a token while someone writes
	unsent  []byte        // rest of a command whose writer gave up; belongs to the holder of writing

	mu       sync.Mutex
	lastID   uint64
	pending  map[uint64]*call // sent and not answered; nil once the connection has ended
	quits    int              // quit commands sent
	writeErr error            // the first failed write
	closed   bool             // Close was called

	eventMu sync.Mutex
	queues  []*eventQueue
	backlog *eventQueue // what came before the first subscriber; nil once it has been handed over
}

// Dial connects to the unix socket path, on which a QEMU listens, and negotiates as New does.
//
// QEMU serves one client at a time: a second one is accepted and hears nothing until the first has gone
// (seen on 7.2.22), so an error that matches context.DeadlineExceeded can mean that somebody else is
// connected.
func Dial(ctx context.Context, path string) (*Monitor, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("cannot connect to the QEMU monitor: the socket path %q has %d bytes and may have %d", path, len(path), maxSocketPath)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		if errors.Is(err, syscall.EAGAIN) {
			err = fmt.Errorf("%w (too many clients wait for it already)", err)
		}
		return nil, fmt.Errorf("cannot connect to the QEMU monitor: %w", err)
	}
	return New(ctx, conn, Options{})
}

// New negotiates QMP on conn, which it owns from then on: it is closed by Close, when the connection ends,
// and when New fails. Greeting and negotiation take as long as ctx allows; once New has returned ctx means
// nothing to the Monitor.
//
// A greeting is not yet a QEMU that answers: QEMU 7.2.22 greets about 15 ms before it has set up its machine.
func New(ctx context.Context, conn net.Conn, opts Options) (*Monitor, error) {
	opts = opts.withDefaults()
	m := &Monitor{
		conn:    conn,
		opts:    opts,
		trace:   newTrace(opts.TraceLength),
		greeted: make(chan struct{}),
		closing: make(chan struct{}),
		done:    make(chan struct{}),
		writing: make(chan struct{}, 1),
		pending: map[uint64]*call{},
		backlog: newEventQueue(opts),
	}
	m.workers.Go(m.read)
	if err := m.negotiate(ctx); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// negotiate waits for the greeting and leaves QEMU's negotiation mode, in which it knows no other command.
func (m *Monitor) negotiate(ctx context.Context) error {
	started := time.Now()
	select {
	case <-m.greeted:
	case <-m.done:
		select {
		case <-m.greeted: // and the end right behind it, which Execute reports
		default:
			return fmt.Errorf("no QMP greeting: %w", m.err)
		}
	case <-ctx.Done():
		return fmt.Errorf("no QMP greeting from QEMU in %v (it is not up yet, hangs, or serves another client): %w",
			time.Since(started).Round(time.Millisecond), contextError(ctx))
	}
	if err := m.Execute(ctx, "qmp_capabilities", nil, nil); err != nil {
		return fmt.Errorf("QMP negotiation failed: %w", err)
	}
	return nil
}

// Version is QEMU's version, from its greeting.
func (m *Monitor) Version() Version { return m.greeting.version }

// Capabilities are the protocol capabilities that QEMU offered in its greeting, such as "oob". None of
// them is enabled.
func (m *Monitor) Capabilities() []string { return slices.Clone(m.greeting.capabilities) }

// Done is closed when the connection has ended, by whichever side and for whatever reason.
func (m *Monitor) Done() <-chan struct{} { return m.done }

// Err is nil while the connection lives and says afterwards how it ended, with an error that matches
// ErrClosed, ErrDisconnected (ErrQuit where a quit had been sent) or ErrProtocol.
func (m *Monitor) Err() error {
	select {
	case <-m.done:
		return m.err
	default:
		return nil
	}
}

// Trace returns the last messages sent and received, oldest first, each cut to TraceTextLimit bytes.
func (m *Monitor) Trace() []TraceEntry { return m.trace.entries() }

// Close ends the connection and waits until every goroutine of it has ended, which takes no longer than
// it takes them to notice. Commands without an answer fail, event channels are closed, events not yet
// read are dropped. QEMU itself is not told to do anything. Closing again does nothing and is no error.
func (m *Monitor) Close() error {
	m.mu.Lock()
	if !m.closed {
		m.closed = true
		close(m.closing)
	}
	m.mu.Unlock()
	m.conn.Close() // wakes the reader, which closes it too; a second close is harmless
	m.workers.Wait()
	return nil
}

// read is the one reader. It runs from before the greeting until the connection ends.
func (m *Monitor) read() {
	r := newReader(m.conn, m.opts.MessageLimit)
	for {
		raw, err := r.next()
		if err != nil {
			m.end(m.endOf(err))
			return
		}
		m.trace.add(false, raw)
		if err := m.dispatch(raw); err != nil {
			m.end(fmt.Errorf("%w: %w: %s", ErrProtocol, err, excerpt(raw)))
			return
		}
	}
}

// dispatch takes one message to where it belongs. An error means that the protocol was broken.
func (m *Monitor) dispatch(raw []byte) error {
	msg, err := parseMessage(raw)
	if err != nil {
		return err
	}
	switch msg.kind {
	case kindGreeting:
		select {
		case <-m.greeted:
			return errors.New("a second greeting")
		default:
		}
		m.greeting = msg.greeting
		close(m.greeted)
		return nil
	case kindEvent:
		m.publish(msg.event)
		return nil
	default:
		return m.answer(msg)
	}
}

// endOf turns the reader's error into what Err says.
func (m *Monitor) endOf(err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return ErrClosed
	case errors.Is(err, ErrProtocol):
		return err
	case m.writeErr != nil && errors.Is(err, os.ErrDeadlineExceeded):
		err = m.writeErr // the failed write began the end, see failWrite
	}
	reason := ErrDisconnected
	if m.quits > 0 {
		reason = ErrQuit
	}
	if err == io.EOF || errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return reason
	}
	return fmt.Errorf("%w: %w", reason, err)
}

// end marks the connection as ended. Only the reader calls it, as the last thing it does.
func (m *Monitor) end(err error) {
	m.conn.Close()
	m.mu.Lock()
	m.pending = nil
	m.err = err
	m.mu.Unlock()
	close(m.done)
}
