package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/machinery"
)

// vmWatchCommand is "machinery vm watch".
func vmWatchCommand(a *app) *cobra.Command {
	o := vmOptions{degraded: true}
	atMost := time.Duration(0)
	cmd := &cobra.Command{
		Use:   "watch -c FILE [MACHINE...]",
		Short: "Tells what machines do, and every change.",
		Long: `Tells the state of the named machines, or of all, and then every change, a line
each, until Ctrl-C, or for as long as --for says. It changes nothing, and works
beside another program that drives the machines. With --json each line is a
document of its own. Changes that come faster than they can be told are merged.

Exit status: 0, also after Ctrl-C; 1 if a machine cannot be watched.`,
		Example: "  machinery vm watch -c qemu.yaml\n  machinery vm watch -c qemu.yaml win10_1 --json --for 5m",
		RunE: func(cmd *cobra.Command, args []string) error {
			if atMost < 0 || atMost == 0 && cmd.Flags().Changed("for") {
				return usage(cmd, "--for must be more than 0; it is %v", atMost)
			}
			return o.with(a, cmd, func(ctx context.Context, m machinery.Machinery) error {
				names, err := chosenMachines(cmd, m, args, len(args) == 0)
				if err != nil {
					return err
				}
				if atMost > 0 {
					timed, cancel := context.WithTimeout(ctx, atMost)
					defer cancel()
					ctx = timed
				}
				return a.watch(ctx, m, names, o.json)
			})
		},
	}
	o.flags(cmd, 0)
	cmd.Flags().DurationVar(&atMost, "for", 0, "end after this `time`, such as 90s or 5m (default never)")
	return cmd
}

// watchLine is a change, for programs.
type watchLine struct {
	Machine string `json:"machine"`
	machinery.Event
}

// watch tells the changes of machines until ctx ends.
func (a *app) watch(ctx context.Context, m machinery.Machinery, names []string, asJSON bool) error {
	ctx, cancel := context.WithCancel(ctx)
	lines := make(chan watchLine)
	ended := make(chan struct{})
	begun := 0
	defer func() {
		cancel()
		for range begun {
			<-ended
		}
	}()
	for _, name := range names {
		events, err := machinery.Watch(ctx, m, name)
		if err != nil {
			if ctx.Err() != nil {
				return nil // Ctrl-C at once
			}
			return failed(err)
		}
		begun++
		go func() {
			defer func() { ended <- struct{}{} }()
			for e := range events {
				select {
				case lines <- watchLine{name, e}:
				case <-ctx.Done():
				}
			}
		}()
	}
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	for begun > 0 && a.unwritten() == nil {
		select {
		case line := <-lines:
			if asJSON {
				if err := e.Encode(line); err != nil {
					return broken(err)
				}
				continue
			}
			fmt.Fprint(a.out, line.text())
		case <-ended:
			begun-- // the driver has nothing more to tell
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// text is a change for people.
func (l watchLine) text() string {
	gap := ""
	if l.Gap {
		gap = "; changes before may be missing"
	}
	return fmt.Sprintf("%s %s: %s%s\n", l.Time.Format("2006-01-02T15:04:05.000Z07:00"), oneLine(l.Machine), oneLine(l.Status.String()), gap)
}
