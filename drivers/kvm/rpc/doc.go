// Package rpc makes calls to a libvirt daemon that end when they should.
//
// The calls themselves are those of github.com/digitalocean/go-libvirt, but for [Client.State]. That library has no contexts, trusts
// every byte that the daemon sends, and waits without end on a daemon that has fallen silent. A [Client]
// stands around it:
//
//	c, err := rpc.New(rpc.Options{URI: "qemu:///system"})
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//	var state, reason int32
//	err = c.Do(ctx, "ask for the state of win10", func(l *libvirt.Libvirt) (err error) {
//		state, reason, err = l.DomainGetState(domain, 0)
//		return err
//	})
//	switch {
//	case rpc.IsCode(err, libvirt.ErrNoDomain): // libvirt answered, and refused
//	case errors.Is(err, rpc.ErrDisconnected), errors.Is(err, rpc.ErrTimeout): // it did not answer
//	}
//
// # What a caller can rely on
//
//   - Every wait ends with its context; a context without a deadline gets [Options.CallTimeout]. When Do or
//     DoLong returns, the function has returned too, so what it assigned may be read.
//   - An overdue call is abandoned: its answer is dropped when it comes, and the function can call nothing
//     more. The connection and the calls of others on it live on, unless the daemon does not answer a probe
//     (the call for the driver's type) on that connection either.
//   - What does not fit the protocol ends the connection with an error that matches [ErrProtocol] and says
//     what came: a length out of range, a program, version, type or status that is not the protocol's, an
//     answer to no call, a second answer, a payload that is not what the procedure returns. None of it reaches the
//     library, which would panic, allocate without bound, deadlock, or return zeros for some of these.
//   - A daemon that restarted is connected to again by the next call. A call that had sent nothing yet, or
//     only procedures that change nothing, is made again within Do itself; another one is not,
//     because it may have been carried out: its error matches [ErrDisconnected]. What could not be written to a
//     connection was not sent: a daemon that was restarted before a call costs no call.
//   - After [Client.Close] no goroutine and no descriptor is left, also where the daemon is silent.
//
// # Connections
//
// libvirtd carries out five requests of one connection at a time (max_client_requests in libvirtd.conf) and
// stops reading from it meanwhile. So a connection here has four calls under way at most, short calls
// ([Client.Do]), long ones ([Client.DoLong]) and events ([Client.Watch]) have connections of their own,
// made when first needed, and calls that are abandoned count until the daemon has answered them.
//
// # What reaches which daemon
//
// See [Options.URI]. Used against libvirt 9.0.0: unix sockets. Passed through to the library's own
// dialers and not tried here: tls and ssh, and virtqemud's socket.
package rpc
