package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/qemulab"
	"github.com/machineries/machineries/machinery"
)

// exampleOptions are the flags of "vm example".
type exampleOptions struct {
	emulator, accel string
	paused, network bool
}

// exampleCommand is "machinery vm example".
func exampleCommand(a *app) *cobra.Command {
	var o exampleOptions
	cmd := &cobra.Command{
		Use:   "example DIRECTORY",
		Short: "Makes a machine to try the other commands with.",
		Long: `Makes a machine for QEMU to try the other commands with: a disk of 1 MiB with
the guest of the conformance suite on it, its snapshot, its machineinfo.json,
and a qemu.yaml. It starts the host's QEMU for that, for a second. The
directory must be empty, or is made.`,
		Example: `  machinery vm example ~/try
  machinery vm restore -c ~/try/qemu.yaml example1
  machinery vm state -c ~/try/qemu.yaml
  machinery vm stop -c ~/try/qemu.yaml example1`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) != 1:
				return usage(cmd, "name one directory to make the machine in")
			case o.accel != "tcg" && o.accel != "kvm":
				return usage(cmd, "there is no accelerator %q; there are tcg, kvm", o.accel)
			}
			path, err := o.make(cmd.Context(), args[0])
			if err != nil {
				return failed(fmt.Errorf("the example was not made: %w", err))
			}
			fmt.Fprintf(a.out, "Made a machine %q. Next:\n", exampleName)
			commands := []string{"restore", "state", "stop"}
			if o.paused {
				commands = []string{"restore", "resume", "stop"}
			}
			for _, command := range commands {
				fmt.Fprintf(a.out, "  machinery vm %s -c %s %s\n", command, shellQuote(path), exampleName)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&o.emulator, "emulator", defaultEmulator, "the emulator's name or `path`")
	cmd.Flags().StringVar(&o.accel, "accel", "tcg", "`accelerator`: tcg or kvm")
	cmd.Flags().BoolVar(&o.paused, "paused", false, "save the machine paused, to try \"vm resume\" with")
	cmd.Flags().BoolVar(&o.network, "network", false, "give the machine a network card, to try \"vm capture\" with")
	return cmd
}

const exampleName = "example1"

// make makes the machine and returns the path of its configuration. It leaves
// nothing if it fails.
func (o *exampleOptions) make(ctx context.Context, dir string) (path string, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	emulator, err := exec.LookPath(o.emulator)
	if err == nil {
		emulator, err = filepath.Abs(emulator)
	}
	if err != nil {
		return "", fmt.Errorf("it needs QEMU: %w (on Debian and Ubuntu: apt-get install qemu-system-x86)", err)
	}
	img, err := exec.LookPath("qemu-img")
	if err != nil {
		return "", fmt.Errorf("a qemu.yaml names qemu-img: %w (on Debian and Ubuntu: apt-get install qemu-utils)", err)
	}
	entries, err := os.ReadDir(dir)
	fresh := errors.Is(err, fs.ErrNotExist)
	switch {
	case err != nil && !fresh:
		return "", err
	case len(entries) > 0:
		return "", fmt.Errorf("%s is not empty", dir)
	}
	machine := filepath.Join(dir, exampleName)
	if err := os.MkdirAll(machine, 0o700); err != nil {
		return "", err
	}
	path = filepath.Join(dir, "qemu.yaml")
	defer func() {
		if err != nil {
			os.RemoveAll(machine)
			os.Remove(path)
			if fresh {
				os.Remove(dir)
			}
		}
	}()
	if err := o.save(ctx, emulator, machine); err != nil {
		return "", err
	}
	if err := os.WriteFile(path, []byte(exampleConfig(emulator, img, machine)), 0o600); err != nil {
		return "", err
	}
	return path, seal(ctx, path)
}

// seal writes the manifest of the machine's files.
func seal(ctx context.Context, path string) (err error) {
	dir, err := os.MkdirTemp("/tmp", "mmx-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	m, err := machinery.DefaultRegistry.OpenAs(ctx, "qemu", path, machinery.Options{RuntimeDir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	_, err = m.(snapshotSealer).SealSnapshot(ctx, exampleName)
	return err
}

// save makes the machine's files. The lab of the suite can make machines, and
// makes this one too.
func (o *exampleOptions) save(ctx context.Context, emulator, machine string) (err error) {
	lab, err := qemulab.New(ctx, qemulab.Options{Emulator: emulator, Accel: o.accel})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	// The lab's sockets need a short path, which the user's may not be.
	dir, err := os.MkdirTemp("/tmp", "mmx-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bench, err := lab.NewBench(ctx, dir, []conformance.MachineSpec{{Name: exampleName, SavedPaused: o.paused, Network: o.network}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bench.Close(context.WithoutCancel(ctx))) }()
	files := bench.Saved(exampleName).Files
	for _, what := range []string{"disk", "snapshot"} {
		data, err := os.ReadFile(files[what])
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(machine, exampleFiles[what]), data, 0o600); err != nil {
			return err
		}
	}
	info, err := exampleInfo(files["machineinfo"])
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(machine, exampleFiles["machineinfo"]), info, 0o600)
}

// exampleFiles are the names of the machine's files, those of VMCloak.
var exampleFiles = map[string]string{"disk": "disk.qcow2", "snapshot": "memory.snapshot", "machineinfo": "machineinfo.json"}

// exampleInfo is the machineinfo.json of the lab's machine without the lab:
// nobody listens at its serial port, and its network card is on QEMU's own
// network, shut off from the host's.
func exampleInfo(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var info struct {
		Machinery string `json:"machinery"`
		Machine   struct {
			Name      string   `json:"name"`
			StartArgs []string `json:"start_args"`
		} `json:"machine"`
	}
	if err := json.Unmarshal(data, &info); err != nil {
		return nil, err
	}
	var args []string
	for i := 0; i < len(info.Machine.StartArgs); i++ {
		switch arg := info.Machine.StartArgs[i]; arg {
		case "-chardev":
			i++
		case "-serial":
			i++
			args = append(args, "-serial", "null")
		case "-netdev":
			i++
			args = append(args, "-netdev", "user,id=net,restrict=on")
		default:
			args = append(args, arg)
		}
	}
	info.Machine.StartArgs = args
	data, err = json.MarshalIndent(info, "", "  ")
	return append(data, '\n'), err
}

// exampleConfig is the qemu.yaml of the machine.
func exampleConfig(emulator, img, machine string) string {
	quote := func(s string) string {
		text, _ := json.Marshal(s)
		return string(text)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `# A machine to try machinery with. "machinery vm restore -c qemu.yaml %s"
# starts it. The keys are those of Cuckoo3's qemu.yaml.
interface: lo
disposable_copy_dir:
binaries:
  qemu_img: %s
  qemu_system_x86_64: %s
machines:
  %s:
`, exampleName, quote(img), quote(emulator), exampleName)
	for _, key := range [][2]string{{"qcow2_path", "disk"}, {"snapshot_path", "snapshot"}, {"machineinfo_path", "machineinfo"}} {
		fmt.Fprintf(&b, "    %s: %s\n", key[0], quote(filepath.Join(machine, exampleFiles[key[1]])))
	}
	b.WriteString(`    ip: 192.0.2.1
    platform: none
    os_version: "1"
    architecture: amd64
    tags: [example]
`)
	return b.String()
}
