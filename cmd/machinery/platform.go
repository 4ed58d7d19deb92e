package main

import (
	"context"

	"github.com/machineries/machineries/conformance"
)

// Drivers, labs and fakes run on Linux alone; platform_linux.go has them, and
// platform_other.go has none. The rest of the program runs everywhere.

// labKind is one lab that a driver can be tested on.
type labKind struct {
	name, doc string
	// real is set if it runs a hypervisor of the host, which --emulator and
	// --accel are about.
	real bool
	// open makes the lab; nil for the one that is none. It is called in every
	// worker process and has to be quick.
	open func(ctx context.Context, o labOptions) (conformance.Lab, error)
	// check tries whether the lab works here, once before a run; it may be
	// nil.
	check func(ctx context.Context, lab conformance.Lab) error
}

// labOptions are the choices of a user for a lab.
type labOptions struct {
	// emulator is the hypervisor's program; empty means the usual one.
	emulator string
	// accel is the accelerator; empty means the lab's default.
	accel string
}
