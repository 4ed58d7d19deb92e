package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
)

// snapshotSaver is a driver that can save a machine as a new one.
type snapshotSaver interface {
	SaveSnapshot(ctx context.Context, name string, o qemu.SaveOptions) (qemu.Saved, error)
}

// vmSnapshotCommand is "machinery vm snapshot".
func vmSnapshotCommand(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:     "snapshot",
		Short:   "Makes what machines are restored from.",
		Long:    "Makes what machines are restored from: a disk and a memory snapshot that\nbelong together.",
		Example: "  machinery vm snapshot create -c qemu.yaml win10_1 --output win10_2\n  machinery vm snapshot seal -c qemu.yaml win10_1",
	}, snapshotCreateCommand(a), snapshotSealCommand(a))
}

// snapshotTimeout is long, because an installer may be what is waited for.
const snapshotTimeout = time.Hour

// snapshotOptions are the flags of "vm snapshot create".
type snapshotOptions struct {
	vmOptions
	save      qemu.SaveOptions
	waitReady bool
	wait      time.Duration
	running   bool
}

func snapshotCreateCommand(a *app) *cobra.Command {
	var o snapshotOptions
	cmd := &cobra.Command{
		Use:   "create -c FILE MACHINE --output DIRECTORY",
		Short: "Boots a machine and saves it to be restored from.",
		Long: `Boots a machine from its disk, waits until its guest is ready, and saves its
memory and its disk as a new machine. The machine need not have a snapshot yet;
its own files stay as they are, and it is off afterwards. The new directory gets

  disk.qcow2                     the disk as the guest has left it, in one file
  memory.snapshot                the memory, with .zst if it is compressed
  memory.snapshot.manifest.json  sums that tell whether the files fit together
  machineinfo.json               the arguments for QEMU

and is there when the machine has been restored from it once, as a trial; if
anything fails there is nothing but the reason. What to write in a qemu.yaml is
printed.

When the guest is ready is told by --wait-ready (its agent answers an HTTP
request), by --wait (a time is over), or by you: without these it asks for the
Enter key. With --running a machine is saved that runs already, or stands as it
was restored, as it is; it goes off then, too.

Exit status: 0 if the directory is there, 1 if not, 2 for wrong usage.`,
		Example: `  machinery vm snapshot create -c qemu.yaml win10_1 --output win10_2
  machinery vm snapshot create -c qemu.yaml win10_1 --output new --wait-ready
  machinery vm snapshot create -c qemu.yaml a --output b --running --paused`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(a, cmd); err != nil {
				return err
			}
			return o.with(a, cmd, func(ctx context.Context, m machinery.Machinery) error {
				name, err := oneMachine(cmd, m, args)
				if err != nil {
					return err
				}
				saved, err := o.create(ctx, a, m, name)
				if err != nil {
					return failed(err)
				}
				if o.json {
					return a.writeJSON(savedJSON{name, saved})
				}
				made := fmt.Sprintf("Made %s, which restores to %s. In the machines of a qemu.yaml it is:\n", oneLine(saved.Dir), saved.State)
				beside := fmt.Sprintf("It replaces %q, or is used beside it with an ip and mac_address of its own.\n", name)
				// What is to be copied is not folded.
				fmt.Fprintf(a.out, "%s\n%s\n%s", a.outTerm.fold(made), savedYAML(m, name, saved), a.outTerm.fold(beside))
				return nil
			})
		},
	}
	o.flags(cmd, snapshotTimeout)
	f := cmd.Flags()
	f.StringVarP(&o.save.Dir, "output", "o", "", "the `directory` to make")
	f.BoolVar(&o.waitReady, "wait-ready", false, "wait until the agent in the guest answers")
	f.DurationVar(&o.wait, "wait", 0, "wait for this `time`, such as 90s, after the boot began")
	f.BoolVar(&o.running, "running", false, "save a machine that runs already; it is off afterwards")
	f.BoolVar(&o.save.Paused, "paused", false, "save it to be paused after a restore")
	f.StringVar(&o.save.Compress, "compress", "none", "`how` to pack the memory: zstd or none")
	return cmd
}

// check refuses what cannot be meant, before anything is booted.
func (o *snapshotOptions) check(a *app, cmd *cobra.Command) error {
	ways := 0
	for _, flag := range []string{"wait-ready", "wait", "running"} {
		if cmd.Flags().Changed(flag) {
			ways++
		}
	}
	switch {
	case o.save.Dir == "":
		return usage(cmd, "name the directory to make, with --output")
	case ways > 1:
		return usage(cmd, "--wait-ready, --wait and --running exclude each other")
	case cmd.Flags().Changed("wait") && o.wait <= 0:
		return usage(cmd, "--wait must be more than 0; it is %v", o.wait)
	case o.save.Compress != "none" && o.save.Compress != "zstd":
		return usage(cmd, "memory cannot be packed by %q; there are none, zstd", o.save.Compress)
	case ways == 0 && !term.IsTerminal(int(a.in.Fd())):
		return usage(cmd, "there is no terminal to ask at when the guest is ready; say --wait-ready, --wait or --running")
	}
	if _, err := os.Lstat(o.save.Dir); err == nil {
		return failed(fmt.Errorf("no snapshot can be made in %s: there is something already", o.save.Dir))
	}
	parent := filepath.Dir(filepath.Clean(o.save.Dir))
	if info, err := os.Stat(parent); errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return failed(fmt.Errorf("no snapshot can be made in %s: there is no directory %s", o.save.Dir, parent))
	}
	return nil
}

// create boots the machine, unless it is to run already, and saves it. A
// machine that was booted for it is off afterwards, whatever happened.
func (o *snapshotOptions) create(ctx context.Context, a *app, m machinery.Machinery, name string) (saved qemu.Saved, err error) {
	s, is := m.(snapshotSaver)
	if !is {
		return saved, machinery.Unsupported(qemu.OpSaveSnapshot, name)
	}
	line := a.liveLine()
	defer line.erase()
	defer func() {
		if err == nil {
			return
		}
		look, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
		defer cancel()
		if isOff(look, m, name) {
			err = also(err, "nothing was made; the machine is off")
		} else if status, stateErr := m.State(look, name); stateErr == nil {
			err = also(err, "nothing was made; the machine is %s", status)
		}
	}()
	if !o.running {
		if err := machinery.NoRestoreStart(ctx, m, name); err != nil {
			if errors.Is(err, machinery.ErrUnexpectedState) {
				err = fmt.Errorf("%w (--running saves it as it is)", err)
			}
			return saved, err
		}
		defer func() {
			if err == nil {
				return
			}
			cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), forceTimeout)
			defer cancel()
			if stopErr := m.Stop(cleanup, name); stopErr != nil && !errors.Is(stopErr, machinery.ErrStateReached) && !errors.Is(stopErr, machinery.ErrConfig) {
				err = errors.Join(err, stopErr)
			}
		}()
		if err := o.await(ctx, a, m, name); err != nil {
			return saved, err
		}
	}
	save := o.save
	save.Progress = func(p qemu.SaveProgress) {
		text := fmt.Sprintf("%s: %s", oneLine(name), p.Step)
		switch {
		case p.Step == "memory":
			text += " " + share(p.Done, p.Total)
		case p.Total > 0:
			text += fmt.Sprintf(" %d%%", p.Done*100/p.Total)
		}
		line.show(text)
	}
	return s.SaveSnapshot(ctx, name, save)
}

// await waits until the guest is ready to be saved.
func (o *snapshotOptions) await(ctx context.Context, a *app, m machinery.Machinery, name string) error {
	if o.waitReady {
		return machinery.WaitReady(ctx, m, name)
	}
	interrupted := func(err error) error {
		return &machinery.Error{Op: machinery.OpWait, Machine: name, Kind: machinery.ErrInterrupted, Reason: "waiting for the guest was interrupted", Err: err}
	}
	waiting, over := context.WithCancelCause(ctx)
	defer over(nil)
	if o.wait > 0 {
		timer := time.AfterFunc(o.wait, func() { over(errGuestReady) })
		defer timer.Stop()
	} else {
		a.say("", oneLine(name)+" boots. Press Enter when its guest is ready to be saved, or Ctrl-C to give up.")
		go func() { // if it is not waited for it stays with its read: the program ends then
			_, err := bufio.NewReader(a.in).ReadString('\n')
			if err == nil {
				err = errGuestReady
			} else if errors.Is(err, io.EOF) {
				err = errors.New("the terminal was closed before Enter was pressed")
			}
			over(err)
		}()
	}
	err := whileRunning(waiting, m, name)
	switch cause := context.Cause(waiting); {
	case waiting.Err() == nil:
		return err
	case ctx.Err() != nil:
		return interrupted(ctx.Err())
	case cause != errGuestReady:
		return interrupted(cause)
	}
	return nil
}

// errGuestReady is why the wait for the guest ends when all is well.
var errGuestReady = errors.New("the guest is ready")

// whileRunning waits until ctx ends, or the machine does, which is an error.
func whileRunning(ctx context.Context, m machinery.Machinery, name string) error {
	status, err := machinery.WaitState(ctx, m, name, machinery.StatePoweroff)
	if err == nil {
		err = &machinery.Error{Op: machinery.OpWait, Machine: name, Kind: machinery.ErrUnexpectedState, Status: status,
			Reason: fmt.Sprintf("the machine went off before it could be saved: it is %s", status)}
	}
	return err
}

// savedJSON is what was made, for programs.
type savedJSON struct {
	Machine string     `json:"machine"`
	Saved   qemu.Saved `json:"saved"`
}

// savedYAML is the entry of a qemu.yaml for what was made. All that is not said
// there is as with the machine that was saved.
func savedYAML(m machinery.Machinery, name string, saved qemu.Saved) string {
	var from machinery.Machine
	for _, machine := range m.Machines() {
		if machine.Name == name {
			from = machine
		}
	}
	quote := func(v any) string {
		text, _ := json.Marshal(v) // cannot fail for strings; a YAML reader takes them as they are
		return string(text)
	}
	tags := from.Tags
	if tags == nil {
		tags = []string{}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "  %s:\n", quote(filepath.Base(saved.Dir)))
	for _, f := range []struct {
		key   string
		value any
	}{
		{"qcow2_path", saved.Disk}, {"snapshot_path", saved.Snapshot}, {"machineinfo_path", saved.Info},
		{"ip", from.IP}, {"mac_address", from.MACAddress}, {"platform", from.Platform}, {"os_version", from.OSVersion},
		{"architecture", from.Architecture}, {"agent_port", from.AgentPort}, {"tags", tags}, {"allow_arguments", saved.AllowArguments},
	} {
		if f.key == "mac_address" && f.value == "" || f.key == "allow_arguments" && len(saved.AllowArguments) == 0 {
			continue
		}
		comment := ""
		if f.key == "ip" || f.key == "mac_address" {
			comment = fmt.Sprintf(" # of %s; one of its own if both are used", quote(name))
		}
		fmt.Fprintf(&b, "    %s: %s%s\n", f.key, quote(f.value), comment)
	}
	return b.String()
}
