package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/machinery"
)

// vmCaptureCommand is "machinery vm capture".
func vmCaptureCommand(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "capture",
		Short: "Records the network traffic of a running machine.",
		Long: `Records the network traffic of a machine that runs to a pcap file. The file is
there when the capture has ended: with "vm capture stop", or when the machine is
off. To record from the first packet on, start the machine with --capture.`,
		Example: `  machinery vm capture start -c qemu.yaml win10_1 --write run.pcap
  machinery vm capture stop -c qemu.yaml win10_1
  machinery vm start -c qemu.yaml win10_1 --capture run.pcap`,
	}, vmCaptureStartCommand(a), vmCaptureStopCommand(a))
}

// captureFlags say what to record.
type captureFlags struct {
	path    string
	exclude []string
	max     string
}

// given makes a capture of the flags. exclude and max are what they are called here.
func (f *captureFlags) given(cmd *cobra.Command, exclude, max string) (machinery.Capture, error) {
	c := machinery.Capture{Path: f.path}
	for _, text := range f.exclude {
		pair, err := netip.ParseAddrPort(text)
		if err != nil || pair.Port() == 0 {
			return c, usage(cmd, "%s is an address and a port, such as 192.168.30.1:2042 or [fd00::1]:2042; it is %q", exclude, text)
		}
		c.Exclude = append(c.Exclude, machinery.Endpoint{Host: pair.Addr().String(), Port: int(pair.Port())})
	}
	if f.max == "" {
		return c, nil
	}
	var ok bool
	if c.MaxBytes, ok = parseBytes(f.max); !ok {
		return c, usage(cmd, "%s is a number of bytes above 0, such as 500000, 100M or 2G; it is %q", max, f.max)
	}
	return c, nil
}

// parseBytes reads a number of bytes, with K, M, G or T for the powers of 1024.
func parseBytes(text string) (int64, bool) {
	number, shift := text, 0
	if i := strings.IndexAny(text, "kKmMgGtT"); i >= 0 && i == len(text)-1 {
		number, shift = text[:i], 10*(1+strings.IndexByte("kmgt", text[i]|0x20))
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n<<shift>>shift != n {
		return 0, false
	}
	return n << shift, true
}

func vmCaptureStartCommand(a *app) *cobra.Command {
	var o vmOptions
	var f captureFlags
	cmd := &cobra.Command{
		Use:   "start -c FILE MACHINE --write FILE",
		Short: "Begins to record the traffic of a machine that runs.",
		Long: `Begins to record the network traffic of a machine that runs or is paused. The
file, at which there must be nothing, is there when the capture has ended, and
until then what is recorded is in hidden files beside it. "vm state" and
"vm list" tell that it goes on.

What goes to or comes from an address and port of --exclude is left out.

Exit status: 0 if the traffic is recorded, 1 if not, 2 for wrong usage.`,
		Example: "  machinery vm capture start -c qemu.yaml win10_1 --write run.pcap\n" +
			"  machinery vm capture start -c qemu.yaml win10_1 --write run.pcap \\\n" +
			"      --exclude 192.168.30.1:2042 --max-bytes 100M",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := cmp.Or(o.wants(cmd, args, f.path, "the pcap file to write, with --write"), noStdout(cmd, "--write", f.path)); err != nil {
				return err
			}
			c, err := f.given(cmd, "--exclude", "--max-bytes")
			if err != nil {
				return err
			}
			return o.onOne(a, cmd, args, func(ctx context.Context, m machinery.Machinery, name string) vmResult {
				status, err := m.State(ctx, name)
				if err == nil && status.State == machinery.StatePoweroff && machinery.Supports(m, machinery.CapNetworkCapture) {
					// A driver would arm it, and forget that when this command ends.
					err = &machinery.Error{Op: machinery.OpStartCapture, Machine: name, Kind: machinery.ErrUnexpectedState, Status: status,
						Reason: "the machine is off; to record it from its first packet on, start it with --capture " + f.path}
				}
				if err == nil {
					err = machinery.StartCapture(ctx, m, name, c)
				}
				r := newVMResult(machinery.OpStartCapture, name, status, err)
				if r.OK {
					r.Path, r.already = f.path, fmt.Sprintf("%s, and recording to %s", oneLine(status.String()), oneLine(f.path))
				}
				return r
			})
		},
	}
	o.flags(cmd, captureTimeout)
	cmd.Flags().StringVarP(&f.path, "write", "w", "", "the pcap `file` to write")
	cmd.Flags().StringArrayVar(&f.exclude, "exclude", nil, "leave out what goes to or comes from this `address:port`; may be given several times")
	cmd.Flags().StringVar(&f.max, "max-bytes", "", "the most that the file may have, such as 100M (`bytes`; default the driver's bound)")
	return cmd
}

// captureTimeout is enough to begin a capture, or to write a large one.
const captureTimeout = 2 * time.Minute

func vmCaptureStopCommand(a *app) *cobra.Command {
	o := vmOptions{degraded: true}
	cmd := &cobra.Command{
		Use:   "stop -c FILE MACHINE",
		Short: "Ends the recording of a machine's traffic.",
		Long: `Ends the recording of a machine's traffic. The file is there when the command
ends. It is a success for a machine whose traffic is not recorded.

Exit status: 0 if nothing is recorded any more, 1 if not, 2 for wrong usage.`,
		Example: "  machinery vm capture stop -c qemu.yaml win10_1",
		RunE: func(cmd *cobra.Command, args []string) error {
			op := vmOperation{op: machinery.OpStopCapture, do: machinery.StopCapture, already: "was not recorded"}
			return o.onOne(a, cmd, args, func(ctx context.Context, m machinery.Machinery, name string) vmResult {
				path := recording(ctx, m, name)
				r := op.on(ctx, m, name, false)
				if info, err := os.Stat(path); r.OK && !r.Already && err == nil {
					r.Path, r.already = path, fmt.Sprintf("%s, and recorded to %s, %d bytes", oneLine(r.Status.String()), oneLine(path), info.Size())
				}
				return r
			})
		},
	}
	o.flags(cmd, captureTimeout)
	return cmd
}

// recorder is a driver that can tell to which file a machine's traffic is being
// recorded.
type recorder interface {
	Recording(ctx context.Context, name string) (path string, err error)
}

// recording is that file, or empty if there is none or the driver cannot tell.
func recording(ctx context.Context, m machinery.Machinery, name string) string {
	d, is := m.(recorder)
	if !is {
		return ""
	}
	path, _ := d.Recording(ctx, name) // what fails here fails in the operation beside it too
	return path
}

// onOne does something to the one machine that the arguments name.
func (o *vmOptions) onOne(a *app, cmd *cobra.Command, args []string, do func(ctx context.Context, m machinery.Machinery, name string) vmResult) error {
	return o.with(a, cmd, func(ctx context.Context, m machinery.Machinery) error {
		name, err := oneMachine(cmd, m, args)
		if err != nil {
			return err
		}
		return a.report([]string{name}, o.json, func(name string) vmResult { return do(ctx, m, name) })
	})
}

// startFlags adds the flags with which a command that starts a machine records it.
func (f *captureFlags) startFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.path, "capture", "", "record the machine's traffic from its first packet on to this `file`, which is there when the machine is off")
	cmd.Flags().StringArrayVar(&f.exclude, "capture-exclude", nil, "leave out of that what goes to or comes from this `address:port`; may be given several times")
	cmd.Flags().StringVar(&f.max, "capture-max-bytes", "", "the most that the file may have, such as 100M (`bytes`; default the driver's bound)")
}

// around makes an operation one that records the machine it starts.
func (f *captureFlags) around(cmd *cobra.Command, names []string, do func(context.Context, machinery.Machinery, string) error) (func(context.Context, machinery.Machinery, string) error, error) {
	switch {
	case f.path == "" && (len(f.exclude) > 0 || f.max != ""):
		return nil, usage(cmd, "--capture-exclude and --capture-max-bytes are of no use without --capture")
	case f.path == "":
		return do, nil
	case len(names) > 1:
		return nil, usage(cmd, "--capture %s is for one machine; there are %d", filepath.Base(f.path), len(names))
	}
	if err := noStdout(cmd, "--capture", f.path); err != nil {
		return nil, err
	}
	c, err := f.given(cmd, "--capture-exclude", "--capture-max-bytes")
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, m machinery.Machinery, name string) error {
		// A machine that is up would be recorded from now on, and the start fail.
		if status, err := m.State(ctx, name); err == nil && status.State != machinery.StatePoweroff && status.State != machinery.StateError {
			return fmt.Errorf("%w", &machinery.Error{Op: machinery.OpStartCapture, Machine: name, Kind: machinery.ErrUnexpectedState, Status: status,
				Reason: fmt.Sprintf("the machine has to be off to be recorded from its first packet on, but it is %s; stop it first", status)})
		}
		if err := machinery.StartCapture(ctx, m, name, c); err != nil {
			return also(err, "the machine was not started")
		}
		return do(ctx, m, name)
	}, nil
}
