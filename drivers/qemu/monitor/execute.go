package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// call is a command that was sent and has no answer yet. Its fields are guarded by Monitor.mu.
type call struct {
	answer    chan reply // has room for the one answer, so that the reader never waits
	abandoned bool       // nobody waits any more
}

// Execute runs a command and waits for its answer, no longer than ctx allows.
//
// args becomes the command's arguments: nil for none, else anything that encoding/json turns into an
// object. The answer is decoded into result as by json.Unmarshal; nil throws it away, *json.RawMessage
// takes it as it is.
//
// Errors: a *CommandError is QEMU's refusal. An error that matches ctx.Err or the connection's end
// (see Err) leaves open whether QEMU carries the command out, unless it matches ErrNotSent too. If both an answer
// and the end of ctx are there, the answer wins.
func (m *Monitor) Execute(ctx context.Context, command string, args, result any) error {
	answer, err := m.roundTrip(ctx, command, args, nil)
	if err != nil {
		return err
	}
	return decodeAnswer(command, answer, result)
}

// ExecuteFile is Execute with a descriptor of file sent beside the command, for "getfd" and "add-fd". The
// connection must be a unix socket. QEMU gets a duplicate; file stays the caller's.
func (m *Monitor) ExecuteFile(ctx context.Context, command string, args any, file *os.File, result any) error {
	if file == nil {
		return fmt.Errorf("%s: there is no file to send: %w", command, ErrNotSent)
	}
	answer, err := m.roundTrip(ctx, command, args, file)
	if err != nil {
		return err
	}
	return decodeAnswer(command, answer, result)
}

// Quit tells QEMU to exit and waits until it has closed the connection. That is when nil is returned; the
// process ends a few milliseconds later. A connection that QEMU had closed already is success too.
func (m *Monitor) Quit(ctx context.Context) error {
	if err := m.Execute(ctx, "quit", nil, nil); err != nil && !errors.Is(err, ErrDisconnected) {
		return err
	}
	select {
	case <-m.done:
	case <-ctx.Done():
		return fmt.Errorf("QEMU took the quit and did not close the monitor connection: %w", contextError(ctx))
	}
	if !errors.Is(m.err, ErrDisconnected) {
		return fmt.Errorf("quit: %w", m.err)
	}
	return nil
}

func decodeAnswer(command string, answer json.RawMessage, result any) error {
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(answer, result); err != nil {
		return fmt.Errorf("QEMU's answer to %s cannot be read: %w: %s", command, err, excerpt(answer))
	}
	return nil
}

// roundTrip sends a command and returns the value of "return" in its answer.
func (m *Monitor) roundTrip(ctx context.Context, command string, args any, file *os.File) (json.RawMessage, error) {
	started := time.Now()
	buf, err := encodeCommand(command, args)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	c := &call{answer: make(chan reply, 1)}
	if err := m.transmit(ctx, command, buf, c, file); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", command, ErrNotSent, err)
	}

	select {
	case r := <-c.answer:
		return r.result(command)
	case <-m.done:
	case <-ctx.Done():
	}
	if r, ok := m.abandon(c); ok {
		return r.result(command)
	}
	if err := m.Err(); err != nil {
		return nil, fmt.Errorf("no answer to %s: %w", command, err)
	}
	return nil, fmt.Errorf("no answer to %s from QEMU in %v: %w",
		command, time.Since(started).Round(time.Millisecond), contextError(ctx))
}

// transmit waits for its turn, gives the command an id and sends it. An error means that nothing
// of it was sent. Where only a part went out there is no error: the rest goes before the next command,
// and the answer may come.
func (m *Monitor) transmit(ctx context.Context, command string, buf []byte, c *call, file *os.File) error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	if err := m.acquire(ctx, m.writing); err != nil {
		return err
	}
	id, err := m.register(c, command)
	if err != nil {
		<-m.writing
		return err
	}
	sent, err := m.send(ctx, appendID(buf, id), file)
	<-m.writing
	if sent {
		return nil
	}
	m.forget(id, command)
	if ctx.Err() == nil && !errors.Is(err, errNoFile) {
		// The write failed, so the reader is about to find out how the connection ended.
		select {
		case <-m.done:
			err = m.err
		case <-ctx.Done():
		}
	}
	return err
}

// acquire takes the token that a channel of capacity 1 stands for.
func (m *Monitor) acquire(ctx context.Context, token chan struct{}) error {
	select {
	case token <- struct{}{}:
		return nil
	case <-ctx.Done():
		return contextError(ctx)
	case <-m.done:
		return m.err
	}
}

// register gives c an id under which its answer is expected.
func (m *Monitor) register(c *call, command string) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pending == nil {
		return 0, m.err
	}
	if len(m.pending) >= maxPending {
		return 0, fmt.Errorf("%w: %d commands have no answer", ErrStalled, len(m.pending))
	}
	m.lastID++
	m.pending[m.lastID] = c
	if command == "quit" {
		m.quits++
	}
	return m.lastID, nil
}

// forget undoes register for a command that was not sent.
func (m *Monitor) forget(id uint64, command string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pending, id)
	if command == "quit" {
		m.quits--
	}
}

// abandon gives up waiting for c, unless its answer is there, which is returned then. The id stays known,
// so that a late answer can be told from one that was never asked for.
func (m *Monitor) abandon(c *call) (reply, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case r := <-c.answer:
		return r, true
	default:
		c.abandoned = true
		return reply{}, false
	}
}

// answer hands a reply to the command that it answers. An error means that it answers none.
func (m *Monitor) answer(msg message) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.pending[msg.id]
	switch {
	case !msg.hasID && msg.reply.refusal != nil:
		return fmt.Errorf("an error that belongs to no command (%s)", msg.reply.refusal.Desc)
	case !msg.hasID:
		return errors.New("an answer without an id")
	case !ok:
		return errors.New("an answer to no command that waits for one")
	}
	delete(m.pending, msg.id)
	if !c.abandoned {
		c.answer <- msg.reply
	}
	return nil
}
