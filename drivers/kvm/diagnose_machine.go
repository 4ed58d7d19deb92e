//go:build linux

package kvm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/internal/diagnosis"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/machinery"
)

// domains looks at the machines.
func (x *examination) domains(ctx context.Context) {
	for _, v := range x.d.frame.All() {
		if ctx.Err() != nil || v.conf.problem != nil {
			continue
		}
		one := &examination{d: x.d, kvm: x.kvm, user: x.user, networks: x.networks}
		one.machine(ctx, v)
		x.machines = append(x.machines, one.Found...)
		x.overlays = append(x.overlays, one.overlays...)
		x.memory = append(x.memory, one.memory...)
	}
}

// machine looks at a machine: its domain, what that is restored from, and what it does.
func (x *examination) machine(ctx context.Context, v *vm) {
	f := diagnosis.About(machinery.AreaMachines, v.machine.Name, "machines."+v.machine.Name)
	if v.bad != nil {
		problems := []error{v.bad}
		if several, is := v.bad.(fault.Several); is {
			problems = several
		}
		for _, problem := range problems {
			x.Failed(f, problem, "")
		}
		return
	}
	domain, err := x.definition(ctx, v)
	switch gone, is := errors.AsType[*noDomain](err); {
	case ctx.Err() != nil:
		return
	case is:
		x.Problem(f, "define it (virsh define FILE.xml), or correct the machine's label: "+x.d.knownDomains(ctx), "libvirt has no domain %q", gone.label)
		return
	case err != nil:
		x.Failed(f, err, "")
		return
	}
	if domain.Memory.Unit == "KiB" { // as libvirt writes it
		x.memory = append(x.memory, domain.Memory.Size<<10)
	}
	x.surroundings(f, domain)
	what := x.restoredFrom(ctx, f, v)
	status, err := v.state(ctx)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		x.Failed(f, err, "")
	case status.State == machinery.StateError && status.Reason != reasonConfig:
		x.Problem(f, "look at why, and end it with \"machinery vm stop\"", "it is in state %s: %s", status, status.Detail)
	case len(x.Found) == 0:
		x.OK(f, "%s; domain %s, %s", status, v.conf.Label, what)
	}
}

// definition is what the machine's domain is defined as.
func (x *examination) definition(ctx context.Context, v *vm) (domainXML, error) {
	var domain domainXML
	text, err := get(ctx, v, "reading the domain's definition", func(l *libvirt.Libvirt, dom libvirt.Domain) (string, error) {
		return l.DomainGetXMLDesc(dom, libvirt.DomainXMLInactive)
	})
	if err == nil {
		err = parseXML(text, &domain)
	}
	return domain, err
}

// knownDomains are the domains that libvirt has, for someone who looks for the right name.
func (d *Machinery) knownDomains(ctx context.Context) string {
	all, err := d.askAll(ctx, machinery.OpDiagnose)
	if err != nil || len(all) == 0 {
		return "libvirt has none at all"
	}
	names := slices.Sorted(maps.Keys(all))
	if len(names) > 10 {
		names = append(names[:10], "…")
	}
	return "libvirt has " + strings.Join(names, ", ")
}

// surroundings looks at what the domain needs of the host.
func (x *examination) surroundings(f machinery.Finding, domain domainXML) {
	if domain.Type == "kvm" && !x.kvm && x.d.hypervisor == hypervisorQEMU {
		x.Problem(f, "turn virtualisation on in the host's firmware (in a virtual machine: nested virtualisation), load kvm_intel or kvm_amd, and start libvirt's daemon again",
			"its domain is of type kvm, and libvirt says that it has no KVM")
	}
	if x.d.remote != "" {
		return
	}
	for _, d := range domain.Devices.Disks {
		if d.Type != "file" || d.Source.File == "" {
			continue
		}
		if _, err := os.Stat(d.Source.File); errors.Is(err, fs.ErrNotExist) {
			x.Problem(f, "put it back, or correct the domain with virsh edit", "the file of its disk %s is not there: %s", d.Target.Dev, d.Source.File)
			continue
		}
		if x.user == nil {
			continue
		}
		if dir := diagnosis.Barred(d.Source.File, x.user.uid, x.user.gid); dir != "" {
			who := userName(x.user.uid, x.user.gid, true)
			x.Warn(f, fmt.Sprintf("let that user enter it (chmod o+x %s), or move the disk, for instance below /var/lib/libvirt/images", dir),
				"libvirt runs it as the user %s, who may not enter %s, below which its disk %s is", who, dir, d.Target.Dev)
		}
	}
	for _, card := range domain.Devices.Interfaces {
		switch n, known := x.networks[card.Source.Network]; {
		case card.Type == "network" && x.networks != nil && !known:
			x.Problem(f, "define it (virsh net-define FILE.xml), or correct the domain with virsh edit", "its network card is on libvirt's network %q, which there is not", card.Source.Network)
		case card.Type == "network" && known && !n.active:
			x.Problem(f, x.d.startNetwork(card.Source.Network), "its network card is on libvirt's network %q, which is not active", card.Source.Network)
		case card.Type == "bridge":
			if _, err := net.InterfaceByName(card.Source.Bridge); err != nil {
				x.Problem(f, "make that bridge, or correct the domain with virsh edit", "its network card is on the bridge %s, which is not on this host", card.Source.Bridge)
			}
		}
	}
}

// restoredFrom looks at the snapshot or the memory image, and says in words what it is.
func (x *examination) restoredFrom(ctx context.Context, f machinery.Finding, v *vm) string {
	if v.conf.Memory == "" {
		saved, err := v.findSnapshot(ctx)
		if err != nil {
			x.unusable(ctx, f, v, err)
			return ""
		}
		how := "saved while it ran"
		if saved.paused {
			how = "saved paused"
		}
		return fmt.Sprintf("%s, %s", saved.words(), how)
	}
	definition, dom, as, err := v.openImage(ctx)
	if err != nil {
		x.unusable(ctx, f, v, err)
		return ""
	}
	if why, do := diagnosis.OpenToOthers(v.conf.Memory); why != "" {
		x.Warn(f, do, "%s, and who does so has the machine", why)
	}
	_, overlays, err := v.overlaid(definition, dom.UUID)
	if err != nil {
		x.unusable(ctx, f, v, err)
		return ""
	}
	for _, o := range overlays {
		dir := filepath.Dir(o.path)
		if v.d.config.DisposableDir == "" {
			g := f
			g.Subject = dir
			if x.Directory(g, "give the machine's disks another directory, or name one with disposable_copy_dir"); len(x.Found) > 0 {
				continue
			}
		}
		x.overlays = append(x.overlays, diagnosis.Overlay{Dir: dir, Most: o.base.VirtualSize})
	}
	size := ""
	if info, err := os.Stat(v.conf.Memory); err == nil {
		size = " of " + diagnosis.Bytes(info.Size())
	}
	return fmt.Sprintf("memory image%s (%s)", size, as)
}

// unusable says why a machine cannot be restored.
func (x *examination) unusable(ctx context.Context, f machinery.Finding, v *vm, err error) {
	if ctx.Err() == nil {
		x.Failed(f, v.whoMayNot(ctx, err), "")
	}
}
