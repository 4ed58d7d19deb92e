package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// fakeProgram is a fake that can be run alone.
type fakeProgram struct {
	name, doc, example string
	// run runs it with these arguments and returns its exit status.
	run func(args []string) int
}

// fakeCommand is "machinery fake".
func fakeCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fake",
		Short: "Runs a fake hypervisor alone.",
		Long: `Runs a fake hypervisor alone, for whoever develops against one that is not
there. It takes the command line of the real one, up to its exit status.`,
		Example: "  machinery fake qemu -M q35 -display none -qmp unix:/tmp/q.sock,server,nowait",
	}
	var children []*cobra.Command
	for _, f := range platformFakes() {
		children = append(children, &cobra.Command{
			Use:     f.name + " [--] ARGUMENT...",
			Short:   f.doc,
			Long:    f.doc + fmt.Sprintf("\n\nAll arguments are those of the fake program, also --help.\nThis text is shown by \"machinery help fake %s\".", f.name),
			Example: f.example,
			// Its flags are not ours.
			DisableFlagParsing: true,
			RunE: func(_ *cobra.Command, args []string) error {
				if len(args) > 0 && args[0] == "--" {
					args = args[1:]
				}
				// A fake answers signals as the real program does.
				a.release()
				if status := f.run(args); status != 0 {
					return &failure{status: status}
				}
				return nil
			},
		})
	}
	return group(cmd, children...)
}
