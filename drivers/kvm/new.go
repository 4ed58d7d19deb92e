//go:build linux

package kvm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/frame"
	"github.com/machineries/machineries/drivers/internal/rundir"
	"github.com/machineries/machineries/drivers/kvm/rpc"
	"github.com/machineries/machineries/machinery"
)

// questioners is how many connections there are for asking machines' QEMU whether they answer, each for four at once. One that does not answer keeps its
// question, and a worker of libvirtd with it, of which that has 20 for all its clients (max_workers): some have to be left to start machines with.
const questioners = 4

// New connects to libvirt and makes the driver for a configuration. It takes a handful of questions, however many machines there
// are. A machine that cannot be used does not stop the others: it is listed, its state is error with the reason while it is off,
// and it cannot be started; one whose domain or snapshot is made later can be used then. New itself fails where nothing could work: libvirt cannot be
// reached (ErrConnection), machines have no name or the same (ErrConfig).
//
// New starts nothing and takes no lock. The caller has to Close what it returns.
func New(ctx context.Context, c Config, o machinery.Options) (*Machinery, error) {
	if ctx.Err() != nil {
		return nil, fault.Interrupted(machinery.OpOpen, "", ctx, "not begun")
	}
	c.RuntimeDir = cmp.Or(o.RuntimeDir, c.RuntimeDir, rundir.Default())
	runtimeDir, err := rundir.Make(c.RuntimeDir, "")
	if err != nil {
		return nil, fault.Fail(machinery.OpOpen, "", machinery.ErrConfig, err, "the runtime directory %s cannot be used", c.RuntimeDir)
	}
	d, err := newIn(runtimeDir, c, o)
	if err == nil {
		err = d.connect(ctx)
	}
	if err != nil {
		return nil, err
	}
	for _, v := range d.frame.All() {
		if v.bad != nil {
			v.log.Warn("the machine cannot be used", "error", v.bad)
		} else if v.dom.Load() == nil {
			v.log.Warn("the machine cannot be used", "error", &noDomain{label: v.conf.Label})
		}
	}
	d.frame.Go(d.follow)
	d.frame.Go(d.patrol)
	return d, nil
}

// newIn makes the driver with a runtime directory that need not be there yet, and without a connection. It makes nothing.
func newIn(runtimeDir string, c Config, o machinery.Options) (*Machinery, error) {
	c = c.withDefaults()
	d := &Machinery{runtimeDir: runtimeDir, endMachines: o.EndMachines, log: o.Logger, frame: frame.New[*vm]()}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if u, err := url.Parse(c.URI); err == nil {
		d.remote = u.Hostname()
	}
	c.DisposableDir = absolute(c.DisposableDir)
	d.config = c
	d.byLabel, d.lookNow, d.heard = map[string]*vm{}, make(chan struct{}, 1), make(chan struct{})
	for _, m := range c.Machines {
		v := d.newVM(m)
		if err := d.frame.Add(v); err != nil {
			return nil, err
		}
		if first := d.byLabel[m.Label]; first != nil {
			v.worse(sharing(first))
			first.worse(sharing(v))
		} else if m.Label != "" {
			d.byLabel[m.Label] = v
		}
	}
	return d, nil
}

// connect connects to libvirt and asks it what it has. If it fails nothing of it is left.
func (d *Machinery) connect(ctx context.Context) error {
	refuse := func(kind, err error) error {
		return fault.Fail(machinery.OpOpen, "", kind, err, "libvirt cannot be reached by %q", d.config.URI)
	}
	var err error
	if d.client, err = rpc.New(rpc.Options{URI: d.config.URI, CallTimeout: d.config.CallTimeout, Log: d.log}); err != nil {
		return refuse(machinery.ErrConfig, err)
	}
	if d.probes, err = rpc.New(rpc.Options{URI: d.config.URI, CallTimeout: d.config.CallTimeout, Pool: questioners, Log: d.log}); err != nil {
		return refuse(machinery.ErrConfig, err)
	}
	if err := d.survey(ctx); err != nil {
		d.client.Close()
		d.probes.Close()
		if ctx.Err() != nil {
			return fault.Interrupted(machinery.OpOpen, "", ctx, fmt.Sprintf("waiting for libvirt (%s) to tell its domains", d.config.URI))
		}
		return refuse(machinery.ErrConnection, err)
	}
	return nil
}

// newVM checks a machine, as far as that goes without libvirt.
func (d *Machinery) newVM(m MachineConfig) *vm {
	if m.Interface == "" {
		m.Interface = d.config.Interface
	}
	if m.AgentPort == 0 {
		m.AgentPort = DefaultAgentPort
	}
	m.Memory = absolute(m.Memory)
	v := &vm{d: d, conf: m, bad: m.problem, log: d.log.With("machine", m.Name)}
	v.machine = frame.Described(machinery.Machine{
		Name: m.Name, Label: m.Label, IP: m.IP, MACAddress: m.MACAddress, Platform: m.Platform, OSVersion: m.OSVersion, Architecture: m.Architecture,
		Interface: m.Interface, AgentPort: m.AgentPort, Tags: m.Tags,
	})
	switch {
	case m.problem != nil:
	case m.Label == "":
		v.worse(errors.New("no domain is named (label)"))
	case m.Snapshot != "" && m.Memory != "":
		v.worse(errors.New("both a snapshot and a memory image are named; leave one away"))
	}
	if how := d.config.Capture; how != CaptureTcpdump && how != CaptureFilterDump {
		v.worse(fmt.Errorf("capture is %q; %s and %s are known", how, CaptureTcpdump, CaptureFilterDump))
	}
	return v
}

// survey asks libvirt what it is, and for all domains at once.
func (d *Machinery) survey(ctx context.Context) error {
	type about struct {
		hypervisor string
		version    uint64
		domains    []libvirt.Domain
	}
	found := new(about)
	err := d.client.Do(ctx, "asking for the domains", func(l *libvirt.Libvirt) (err error) {
		if found.hypervisor, err = l.ConnectGetType(); err != nil {
			return err
		}
		if found.version, err = l.ConnectGetLibVersion(); err != nil {
			return err
		}
		found.domains, _, err = l.ConnectListAllDomains(1, 0)
		return err
	})
	if err != nil {
		return err
	}
	d.hypervisor, d.libVersion = found.hypervisor, found.version
	for _, dom := range found.domains {
		if v := d.byLabel[dom.Name]; v != nil {
			v.found(dom)
		}
	}
	return nil
}

// worse adds a problem to those of a machine.
func (v *vm) worse(problem error) {
	v.bad = fault.Add(v.bad, problem)
}

func sharing(other *vm) error {
	place := ""
	if other.conf.place != "" {
		place = " (" + other.conf.place + ")"
	}
	return fmt.Errorf("its domain %q is also that of machine %q%s; give each machine its own", other.conf.Label, other.machine.Name, place)
}
