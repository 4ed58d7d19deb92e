//go:build linux

package qemulab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/guest"
	"github.com/machineries/machineries/conformance/internal/labkit"
	fakeqemu "github.com/machineries/machineries/fakes/qemu"
)

// bench is one set of machines in a directory:
//
//	qemu.yaml        the configuration
//	bin/             the emulator that it names
//	run/             the driver's runtime directory
//	overlays/        disposable_copy_dir
//	N.g              the socket that guest N answers on
//	N.n              the socket that the network card of machine N is connected to
//	N/               the files of machine N
type bench struct {
	lab      *Lab
	dir      string
	install  *fakeqemu.Installation
	machines map[string]*machine
}

// machine is one machine of a bench.
type machine struct {
	spec     conformance.MachineSpec
	socket   string
	listener *guest.Listener
	network  *network // nil for a machine without
	saved    *saved
	files    map[string]string
}

var _ conformance.Bench = (*bench)(nil)

// NewBench implements conformance.Lab.
func (l *Lab) NewBench(ctx context.Context, dir string, specs []conformance.MachineSpec) (_ conformance.Bench, err error) {
	b := &bench{lab: l, dir: dir, machines: make(map[string]*machine)}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Close(ctx))
		}
	}()
	for _, sub := range []string{b.binDir(), b.overlays()} {
		if err := os.Mkdir(sub, 0o700); err != nil {
			return nil, err
		}
	}
	if b.install, err = fakeqemu.Install(b.binDir(), fakeqemu.Options{Real: l.emulator}); err != nil {
		return nil, err
	}
	var config strings.Builder
	fmt.Fprintf(&config, "interface: lo\ndisposable_copy_dir: %s\nbinaries:\n  qemu_img: %s\n  qemu_system_x86_64: %s\nmachines:\n",
		quote(b.overlays()), quote(b.install.Img), quote(b.install.Emulator))
	for i, spec := range specs {
		m, err := b.machine(ctx, i, spec)
		if err != nil {
			return nil, fmt.Errorf("machine %s: %w", spec, err)
		}
		b.machines[spec.Name] = m
		fmt.Fprintf(&config, "  %s:\n    qcow2_path: %s\n    snapshot_path: %s\n    machineinfo_path: %s\n", quote(spec.Name),
			quote(m.files["disk"]), quote(m.files["snapshot"]), quote(m.files["machineinfo"]))
		fmt.Fprintf(&config, "    ip: 192.0.2.%d\n    mac_address: 52:54:00:00:00:%02x\n    platform: windows\n    os_version: \"10\"\n    architecture: amd64\n    tags: [suite, machine%d]\n    allow_arguments: [\"-chardev socket\", \"-netdev stream\"]\n",
			i+1, i+1, i)
	}
	if err := os.WriteFile(b.ConfigPath(), []byte(config.String()), 0o600); err != nil {
		return nil, err
	}
	return b, nil
}

// quote makes a YAML string: JSON's strings are some.
func quote(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}

func (b *bench) binDir() string   { return filepath.Join(b.dir, "bin") }
func (b *bench) overlays() string { return filepath.Join(b.dir, "overlays") }

// ConfigPath implements conformance.Bench.
func (b *bench) ConfigPath() string { return filepath.Join(b.dir, "qemu.yaml") }

// RuntimeDir implements conformance.Bench.
func (b *bench) RuntimeDir() string { return filepath.Join(b.dir, "run") }

// machine makes the files of one machine and plans its faults.
func (b *bench) machine(ctx context.Context, number int, spec conformance.MachineSpec) (*machine, error) {
	s, err := b.lab.saved(ctx, template{paused: spec.SavedPaused, variant: number, headless: spec.Headless, network: spec.Network, second: spec.SecondDisk})
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(b.dir, fmt.Sprint(number))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	m := &machine{spec: spec, saved: s, socket: filepath.Join(b.dir, fmt.Sprintf("%d.g", number)), files: map[string]string{
		"disk": filepath.Join(dir, "disk.qcow2"), "snapshot": filepath.Join(dir, "memory.snapshot"), "machineinfo": filepath.Join(dir, "machineinfo.json"),
	}}
	if m.listener, err = guest.Listen(m.socket); err != nil {
		return nil, err
	}
	net := ""
	if spec.Network {
		net = b.networkPath(number)
		if m.network, err = listenNetwork(net, number); err != nil {
			return nil, errors.Join(err, m.listener.Close())
		}
	}
	args := append(b.lab.deviceArgs(m.socket, net, s.template), driveArg("%DISPOSABLE_DISK_PATH%")...)
	if spec.SecondDisk {
		m.files["second disk"] = filepath.Join(dir, "second.raw")
		args = append(args, secondArg(m.files["second disk"])...)
	}
	if spec.Damage == conformance.Dangerous {
		args = append(args, dangerousOption, filepath.Join(dir, "qemu.log"))
	}
	info, err := json.Marshal(map[string]any{"machinery": "qemu", "machine": map[string]any{"name": spec.Name, "start_args": args}})
	if err == nil {
		err = os.WriteFile(m.files["machineinfo"], info, 0o600)
	}
	if err == nil {
		err = b.fill(ctx, m)
	}
	if err == nil {
		err = b.install.Plan(m.socket, labkit.Planned(spec.Faults)...)
	}
	if err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

// dangerousOption makes QEMU write to any file of the host. In front of its
// value it is all that a machine needs to be dangerous.
const dangerousOption = "-D"

// close lets go of what the machine is connected to.
func (m *machine) close() error {
	err := m.listener.Close()
	if m.network != nil {
		err = errors.Join(err, m.network.close())
	}
	return err
}

// fill puts the machine's disk and snapshot in place, damaged as asked for.
func (b *bench) fill(ctx context.Context, m *machine) error {
	if err := labkit.CopyFile(m.files["disk"], m.saved.disk); err != nil {
		return err
	}
	if second := m.files["second disk"]; second != "" {
		if err := labkit.CopyFile(second, m.saved.second); err != nil {
			return err
		}
	}
	from := m.saved
	if m.spec.Damage == conformance.SnapshotForeign {
		other, err := b.lab.saved(ctx, template{paused: m.spec.SavedPaused, headless: m.spec.Headless, network: m.spec.Network, foreign: true})
		if err != nil {
			return err
		}
		from = other
	}
	path, err := b.lab.kind(from, m.spec.Kind)
	if err != nil {
		return err
	}
	if err := labkit.CopyFile(m.files["snapshot"], path); err != nil {
		return err
	}
	return damage(m.files, m.spec.Damage)
}

// Saved implements conformance.Bench.
func (b *bench) Saved(name string) conformance.Saved {
	m := b.machines[name]
	files := map[string]string{}
	for what, path := range m.files {
		files[what] = path
	}
	files["program"] = b.install.Emulator
	if m.spec.Damage == conformance.Dangerous {
		files["danger"] = dangerousOption
	}
	if m.spec.Damage == conformance.SnapshotForeign {
		// QEMU's words for a snapshot with another size of memory, seen on
		// 7.2.22: "Size mismatch: pc.ram: 0x2000000 != 0x1000000".
		files["hypervisor says"] = "Size mismatch"
	}
	return m.saved.marks.Saved(files)
}

// Guest implements conformance.Bench.
func (b *bench) Guest(ctx context.Context, name string) (conformance.Guest, error) {
	client, err := b.machines[name].listener.Client(ctx)
	if err != nil {
		return nil, err
	}
	return labkit.View{Client: client}, nil
}

// Originals implements conformance.Bench.
func (b *bench) Originals(_ context.Context, name string) (map[string]string, error) {
	sums := make(map[string]string)
	for what, path := range b.machines[name].files {
		file, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			sums[what] = "missing"
			continue
		}
		if err != nil {
			return nil, err
		}
		sum := sha256.New()
		_, err = io.Copy(sum, file)
		file.Close()
		if err != nil {
			return nil, err
		}
		sums[what] = hex.EncodeToString(sum.Sum(nil))
	}
	return sums, nil
}

// Close implements conformance.Bench.
func (b *bench) Close(ctx context.Context) error {
	err := labkit.EndAll(ctx, b.dir)
	for _, m := range b.machines {
		err = errors.Join(err, m.close())
	}
	if b.install != nil {
		err = errors.Join(err, b.install.Close())
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}
