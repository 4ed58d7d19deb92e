// Package monitor speaks QMP, the QEMU Machine Protocol, with one running QEMU.
//
// A [Monitor] is one connection. [Dial] or [New] reads the greeting and negotiates, [Monitor.Execute]
// runs a command, [Monitor.Events] delivers events, and [Monitor.Done] and [Monitor.Err] tell that the
// connection has ended and why:
//
//	m, err := monitor.Dial(ctx, "/run/machines/win10/qmp.sock")
//	if err != nil {
//		return err
//	}
//	defer m.Close()
//	events := m.Events(ctx)
//	var status struct{ Status string }
//	if err := m.Execute(ctx, "query-status", nil, &status); err != nil {
//		return err
//	}
//
// # What a caller can rely on
//
//   - Every wait ends with its context. A QEMU that is stopped accepts connections and commands and says
//     nothing (seen on QEMU 7.2.22 under SIGSTOP), so nothing but a deadline helps; callers should give one.
//   - An answer belongs to its command. Each command has an id that is unique on its connection. The
//     answer to a command whose context ended is dropped when it comes, and later commands are not affected.
//   - One goroutine reads, from the first byte to the last, and waits for nobody: not for a subscriber
//     that stopped reading, not for a caller that went away.
//   - What does not fit the protocol ends the connection with an error that matches [ErrProtocol] and
//     shows the message: text that is not JSON, an answer to no command, a second answer to one command,
//     an error without an id, a message over the size limit. After any of these the meaning of what
//     follows would be a guess.
//   - After [Monitor.Close] returns, no goroutine of the connection is left.
//
// # Order
//
// QEMU sends the events that a command causes before the command's answer (RESUME before the answer to
// cont; seen on QEMU 7.2.22), and the queue of a subscriber holds them before Execute returns. A command
// that changes nothing (cont of a running machine) is answered without an event, so waiting for the event
// alone can be waiting for ever.
//
// # Descriptors
//
// [Monitor.ExecuteFile] sends a command together with an open file (SCM_RIGHTS). QEMU 7.2.22 takes it
// without its out-of-band capability, which this package does not enable, and reads no further until it has
// carried the command out, so several such commands may be on their way at once.
//
// The typed commands of github.com/digitalocean/go-qemu/qmp/raw work on [Monitor.WithContext].
package monitor
