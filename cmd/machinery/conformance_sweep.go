package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/conformance"
)

// sweepCommand is "machinery conformance sweep".
func sweepCommand(a *app) *cobra.Command {
	yes := false
	cmd := &cobra.Command{
		Use:   "sweep",
		Short: "Clears up after a run that died.",
		Long: `Ends the processes and removes the files of conformance runs that died, as by
kill -9. It shows them first and asks. A run that lives is left alone.`,
		Example: "  machinery conformance sweep\n  machinery conformance sweep --yes",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			left := conformance.Leftovers()
			if len(left) == 0 {
				fmt.Fprintln(a.out, "Nothing is left of any run.")
				return nil
			}
			for _, dir := range left {
				fmt.Fprintf(a.out, "remove %s\n", oneLine(dir))
				for _, p := range processesOf(dir) {
					fmt.Fprintf(a.out, "end    process %s\n", p)
				}
			}
			if err := a.confirm(cmd, yes); err != nil {
				return err
			}
			lab, err := platformSweeper(cmd.Context())
			if err != nil {
				return broken(err)
			}
			defer lab.Close()
			swept, err := conformance.Sweep(cmd.Context(), lab)
			fmt.Fprintf(a.out, "Cleared away: %d of %d.\n", len(swept), len(left))
			return failed(err)
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// processesOf describes the processes that have to do with a directory: those
// with a path below it on their command line. It shows what the lab will find.
func processesOf(dir string) []string {
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	var found []string
	for _, path := range paths {
		line, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(line), dir+string(filepath.Separator)) {
			continue
		}
		pid := filepath.Base(filepath.Dir(path))
		if pid == strconv.Itoa(os.Getpid()) {
			continue
		}
		args := strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
		found = append(found, fmt.Sprintf("%s: %.60s", pid, oneLine(args)))
	}
	return found
}
