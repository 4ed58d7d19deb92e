package main

import "github.com/spf13/cobra"

// conformanceCommand is "machinery conformance".
func conformanceCommand(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "conformance",
		Short: "Shows whether a driver keeps the contract.",
		Long: `Shows, requirement by requirement, whether a driver keeps the contract.

A requirement has an id, such as MM-RESTORE-003. A lab is what the driver is
tested on: a fake hypervisor, or the host's own.`,
		Example: `  machinery conformance run --driver qemu --lab fake
  machinery conformance explain MM-RESTORE-003`,
	}, runCommand(a), listCommand(a), explainCommand(a), sweepCommand(a))
}
