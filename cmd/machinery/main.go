// Command machinery tests drivers of virtual machines and drives the machines
// of one.
//
//	machinery conformance run --driver qemu --lab fake
//	machinery vm start -c qemu.yaml win10_1
//
// "machinery help" tells all commands. It exits with 0 if all went well, 1 if
// an operation failed or a driver is not conformant, and 2 if it was used
// wrongly or could not do its work at all.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/machinery"
)

func main() {
	// The fake programs are this one under other names. It has to come first:
	// what follows would read their arguments as its own.
	platformMain()
	for _, d := range platformDrivers() {
		machinery.MustRegister(d)
	}
	os.Exit(run(os.Args[1:]))
}

// run is the program, from its arguments to its exit status.
func run(args []string) int {
	ctx, release := interruptible()
	defer release()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a := newApp(release, func(err error) { cancel(err) })
	root := newRoot(a)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	status := a.exitStatus(err)
	unwritten := a.unwritten()
	if unwritten == nil {
		return status
	}
	a.complain(unwritten)
	switch {
	case status != 0:
		return status
	case belongsTo(cmd, "conformance"):
		return exitUsage // 1 is a verdict there
	}
	return exitFailed
}

// belongsTo is whether cmd is the command of that name, or one below it.
func belongsTo(cmd *cobra.Command, name string) bool {
	for ; cmd != nil; cmd = cmd.Parent() {
		if cmd.Name() == name {
			return true
		}
	}
	return false
}

// interruptible returns a context that ends when the user or the system wants
// the program to end. The operation that runs then clears up. release gives
// the signals their usual effect back; that happens after the first one by
// itself, so the second ends the program at once.
func interruptible() (ctx context.Context, release func()) {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		// Under nohup it is ignored, and has to stay so.
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, release = signal.NotifyContext(context.Background(), signals...)
	context.AfterFunc(ctx, release)
	return ctx, release
}

// errOutputGone is why a context ended whose program has no reader any more.
var errOutputGone = errors.New("nobody reads the output any more")
