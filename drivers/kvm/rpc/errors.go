package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	libvirt "github.com/digitalocean/go-libvirt"
)

// The kinds of failure that are not an answer of libvirt's. Test for them with [errors.Is].
var (
	// ErrDisconnected: there is no connection to the daemon, or it ended before the answer came. Whether a
	// call was carried out is then not known, unless [Error.Sent] is false.
	ErrDisconnected = errors.New("no connection to libvirt")
	// ErrTimeout: the deadline passed before the answer came. The error matches
	// [context.DeadlineExceeded] as well.
	ErrTimeout = errors.New("libvirt did not answer in time")
	// ErrProtocol: the daemon sent what the protocol does not allow. Such an error matches
	// [ErrDisconnected] as well, because the connection is given up.
	ErrProtocol = errors.New("not libvirt's protocol")
	// ErrUnauthorised: the daemon does not let this user in, or asks for a way of authentication that this
	// package does not have (SASL). Such an error matches [ErrDisconnected] as well.
	ErrUnauthorised = errors.New("libvirt does not let this user in")
	// ErrClosed: the client is closed.
	ErrClosed = errors.New("the libvirt client is closed")
)

// Error is the failure of a call.
type Error struct {
	// What is what the caller said was being done, such as "revert win10 to clean".
	What string
	// Procedure is the procedure that failed, such as "DomainGetState"; empty if none had been called.
	Procedure string
	// Sent tells whether any call left for the daemon; where it is false nothing can have been changed.
	Sent bool

	// Code is libvirt's error number (virErrorNumber); 0 if the failure is not an answer of libvirt's.
	Code libvirt.ErrorNumber
	// Domain is the part of libvirt that the error is from (virErrorDomain): 10 is the QEMU driver, 12 the
	// test driver, 20 a domain as such, 7 RPC.
	Domain int32
	// Level is 1 for a warning, 2 for an error (virErrorLevel).
	Level int32
	// Message is libvirt's own text.
	Message string

	// Err is the cause: one of the kinds of this package, a context's error, an error of the network, or
	// what the function returned.
	Err error
}

// Error is one sentence: what was being done, and libvirt's own words or what happened.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.What)
	if e.Code == 0 {
		fmt.Fprintf(&b, ": %v", e.Err)
		return b.String()
	}
	fmt.Fprintf(&b, ": libvirt: %s (error %d of domain %d)", e.Message, e.Code, e.Domain)
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// IsCode tells whether err is an answer of libvirt's with one of these numbers.
func IsCode(err error, codes ...libvirt.ErrorNumber) bool {
	var e *Error
	if !errors.As(err, &e) || e.Code == 0 {
		return false
	}
	for _, c := range codes {
		if e.Code == c {
			return true
		}
	}
	return false
}

// remoteError is the error that a packet carries, whole.
type remoteError struct {
	code, domain, level int32
	message             string
}

func (e *remoteError) Error() string {
	return fmt.Sprintf("libvirt: %s (error %d of domain %d)", e.message, e.code, e.domain)
}

// broken is the end of a connection: it matches ErrDisconnected whatever the cause.
type broken struct{ cause error }

func (b *broken) Error() string   { return b.cause.Error() }
func (b *broken) Unwrap() []error { return []error{ErrDisconnected, b.cause} }

// overdue is the end of a context, as an error: a deadline matches ErrTimeout as well.
func overdue(ctx context.Context, doing string) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, err) {
		err = errors.Join(err, cause)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &late{doing: doing, err: err}
	}
	return fmt.Errorf("given up while %s: %w", doing, err)
}

type late struct {
	doing string
	err   error
}

func (l *late) Error() string {
	return fmt.Sprintf("no answer in time, while %s (%v); is the daemon stopped, or the host very busy?", l.doing, l.err)
}
func (l *late) Unwrap() []error { return []error{ErrTimeout, l.err} }
