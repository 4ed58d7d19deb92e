package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/machinery"
)

// vmStateCommand is "machinery vm state".
func vmStateCommand(a *app) *cobra.Command {
	o := vmOptions{degraded: true}
	cmd := &cobra.Command{
		Use:   "state -c FILE [MACHINE...]",
		Short: "Tells what machines do.",
		Long: `Tells the state of the named machines, or of all: starting, running, paused,
stopping, poweroff, suspended or error, with the reason where there is one, and
the file to which its network traffic is being recorded, if it is.
It changes nothing, and works beside another program that drives the machines.

Exit status: 0 if every state is known, whatever it is, 1 if not, 2 for wrong
usage, such as a machine that there is not.`,
		Example: "  machinery vm state -c qemu.yaml\n  machinery vm state -c qemu.yaml --json win10_1",
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.with(a, cmd, func(ctx context.Context, m machinery.Machinery) error {
				names, err := chosenMachines(cmd, m, args, len(args) == 0)
				if err != nil {
					return err
				}
				return a.report(names, o.json, func(name string) vmResult {
					status, err := m.State(ctx, name)
					r := newVMResult(machinery.OpState, name, status, err)
					if err == nil {
						r.Recording = recording(ctx, m, name)
					}
					return r
				})
			})
		},
	}
	o.flags(cmd, lookTimeout)
	return cmd
}

// vmResult is what became of an operation on one machine.
type vmResult struct {
	Machine   string       `json:"machine"`
	Operation machinery.Op `json:"operation"`
	// OK is set if the machine is where the operation leads, Already if it was
	// there before.
	OK      bool              `json:"ok"`
	Already bool              `json:"already,omitempty"`
	Status  *machinery.Status `json:"status,omitempty"`
	Error   *vmError          `json:"error,omitempty"`
	// Forced is set if the machine had to be stopped because its guest did not
	// obey.
	Forced bool `json:"forced,omitempty"`
	// Path is what was written.
	Path string `json:"path,omitempty"`
	// Recording is the file to which the machine's traffic is being recorded.
	Recording string `json:"recording,omitempty"`

	err error
	// already, if not empty, is what is said instead of the status.
	already string
}

// vmError is an error for programs.
type vmError struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
}

// kindNames are the words for the kinds of error in JSON.
var kindNames = map[error]string{
	machinery.ErrNotFound:        "not_found",
	machinery.ErrUnexpectedState: "unexpected_state",
	machinery.ErrStateReached:    "state_reached",
	machinery.ErrUnhandledState:  "unhandled_state",
	machinery.ErrBusy:            "busy",
	machinery.ErrConnection:      "connection",
	machinery.ErrDependency:      "dependency",
	machinery.ErrConfig:          "configuration",
	machinery.ErrCapture:         "capture",
	machinery.ErrHypervisor:      "hypervisor",
	machinery.ErrInterrupted:     "interrupted",
	machinery.ErrClosed:          "closed",
	machinery.ErrUnsupported:     "unsupported",
}

func newVMResult(op machinery.Op, name string, status machinery.Status, err error) vmResult {
	r := vmResult{Machine: name, Operation: op, OK: err == nil, err: err}
	if status.State != "" {
		r.Status = &status
	}
	if err != nil {
		kind := kindNames[machinery.KindOf(err)]
		if kind == "" {
			kind = "other"
		}
		r.Error = &vmError{kind, err.Error()}
	}
	return r
}

// text is a result for people: a line, and the detail of the status below it.
func (r vmResult) text() string {
	if r.already != "" {
		return fmt.Sprintf("%s: %s\n", oneLine(r.Machine), r.already)
	}
	if r.Status == nil {
		return fmt.Sprintf("%s: done\n", oneLine(r.Machine))
	}
	text := fmt.Sprintf("%s: %s\n", oneLine(r.Machine), oneLine(r.Status.String()))
	for line := range strings.Lines(printable(strings.TrimSpace(r.Status.Detail))) {
		text += "  " + strings.TrimRight(line, "\n") + "\n"
	}
	if r.Recording != "" {
		text += "  its traffic is recorded to " + oneLine(r.Recording) + "\n"
	}
	return text
}

// report does something to each machine at once and tells what became of it, in
// the order of the names: on stdout what went well, or all as JSON; on stderr
// what did not.
func (a *app) report(names []string, asJSON bool, do func(name string) vmResult) error {
	results := make([]vmResult, len(names))
	finished := make(chan int)
	for i, name := range names {
		go func() {
			results[i] = do(name)
			finished <- i
		}()
	}
	failures, told := 0, 0
	done := make([]bool, len(names))
	for range names {
		done[<-finished] = true
		// In the order of the names, each as soon as those before it are known.
		for ; told < len(names) && done[told]; told++ {
			switch r := results[told]; {
			case r.err != nil:
				failures++
				a.complain(r.err)
			case !asJSON:
				fmt.Fprint(a.out, a.outTerm.fold(r.text()))
			}
		}
	}
	if asJSON {
		if err := a.writeJSON(results); err != nil {
			return err
		}
	}
	if failures > 0 {
		return &failure{status: exitFailed}
	}
	return nil
}
