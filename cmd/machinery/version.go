package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/report"
)

// versionCommand is "machinery version".
func versionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Tells the version of this program and of its suite.",
		Example: "  machinery version",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.out, versionText())
			return err
		},
	}
}

// versionText is what "machinery version" and "machinery --version" say.
func versionText() string {
	return fmt.Sprintf("machinery %s, %s %s/%s\n%d requirements, report format %d", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH,
		len(conformance.Requirements()), report.Version)
}

// buildVersion is what the Go command noted about the source.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(unknown version)"
	}
	return info.Main.Version
}
