//go:build linux

package kvm

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/internal/diagnosis"
	"github.com/machineries/machineries/drivers/internal/rundir"
	"github.com/machineries/machineries/drivers/kvm/rpc"
	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// noRuntimeDir is where there can be no directory: what belongs to running machines is not looked for in one that others may write to.
const noRuntimeDir = "/proc/machineries"

// Diagnose looks at an installation: whether libvirt can be reached and is new enough, whether it has KVM if a machine's domain wants it, whom
// it runs machines as, its networks, directories and the room in them, the host's network interfaces, the right to record traffic, each machine's domain and
// what that is restored from, and what is left of runs that are over. It starts no machine, makes no runtime directory and takes no lock. Without a document it
// looks at what the driver's defaults need. There is nothing that o.Deep adds.
func Diagnose(ctx context.Context, doc *config.Document, o machinery.DiagnoseOptions) []machinery.Finding {
	if doc == nil {
		return diagnose(ctx, Config{}, o)
	}
	return diagnose(ctx, FromDocument(doc), o)
}

// diagnose is Diagnose for a Config.
func diagnose(ctx context.Context, c Config, o machinery.DiagnoseOptions) []machinery.Finding {
	x := &examination{}
	runtimeDir := x.RuntimeDir(cmp.Or(o.RuntimeDir, c.RuntimeDir, rundir.Default()), "")
	directories := x.Found
	x.Found = nil
	d, err := newIn(cmp.Or(runtimeDir, noRuntimeDir), c, o.Options)
	if err != nil {
		x.Failed(diagnosis.About(machinery.AreaConfiguration, "machines", ""), err, "")
		return x.Found
	}
	x.d = d
	connected := x.connects(ctx)
	if connected {
		defer d.Close()
		x.libvirt(ctx)
		x.domains(ctx)
	}
	x.Found = append(x.Found, directories...)
	if dirs := d.overlayDirs(); len(dirs) > 0 {
		x.Directory(diagnosis.About(machinery.AreaDirectories, dirs[0], "disposable_copy_dir"), "make it, or name another directory; empty means beside each machine's disks")
	}
	x.Overlays("disposable_copy_dir", x.overlays)
	if o.DumpDir != "" && d.remote == "" {
		x.Dumps(o.DumpDir, x.memory)
	}
	x.network(ctx)
	if !connected {
		return x.Found
	}
	x.Found = append(x.Found, x.machines...)
	if runtimeDir != "" && ctx.Err() == nil {
		runs, err := d.Account(ctx)
		if err == nil {
			x.Found = append(x.Found, machinery.LeftoverFindings(runs)...)
		} else if ctx.Err() == nil {
			x.Failed(diagnosis.About(machinery.AreaLeftovers, "runs", ""), err, "")
		}
	}
	return x.Found
}

// examination is a diagnosis under way.
type examination struct {
	diagnosis.List
	d *Machinery
	// kvm is whether libvirt says that it can run machines with KVM.
	kvm bool
	// user is whom libvirt runs machines as; nil if that is not known.
	user *owner
	// networks are libvirt's, by name; nil if it has not told.
	networks map[string]network
	// machines are the findings about machines, and overlays their disposable disks: they are looked at first and told last.
	machines []machinery.Finding
	overlays []diagnosis.Overlay
	// memory is how much each has, in bytes.
	memory []int64
}

// owner is a user and a group.
type owner struct{ uid, gid int }

// network is one of libvirt's.
type network struct {
	bridge string
	active bool
}

// connects connects to libvirt, and says why it cannot.
func (x *examination) connects(ctx context.Context) bool {
	f := diagnosis.About(machinery.AreaHypervisor, x.d.config.URI, "dsn")
	err := x.d.connect(ctx)
	if err == nil {
		return true
	}
	if e, is := errors.AsType[*machinery.Error](err); is && e.Err != nil {
		err = e.Err
	}
	if said, is := errors.AsType[*rpc.Error](err); is && said.Code == 0 {
		err = said.Err // what was being asked first is of no interest
	}
	do := ""
	switch socket, at := errors.AsType[*net.OpError](err); {
	case ctx.Err() != nil:
		x.Warn(f, "see whether its daemon is stopped or has too much to do", "it had not answered when this came to an end; no machine was looked at")
		return false
	case at && errors.Is(err, fs.ErrPermission) && socket.Addr != nil:
		var why string
		if why, do = diagnosis.Denied(socket.Addr.String()); why != "" {
			err = fmt.Errorf("%w (%s)", err, why)
		}
	case errors.Is(err, fs.ErrNotExist):
		do = "on Debian and Ubuntu: apt-get install libvirt-daemon-system, and systemctl start libvirtd"
	}
	x.Problem(f, do, "%v; no machine was looked at", err)
	return false
}

// libvirt looks at libvirt itself.
func (x *examination) libvirt(ctx context.Context) {
	f := diagnosis.About(machinery.AreaHypervisor, x.d.config.URI, "dsn")
	version, err := x.d.Version(ctx)
	switch own := x.d.libVersion; {
	case ctx.Err() != nil:
		return
	case own < oldestLibvirt:
		x.Problem(f, "install a newer one", "it is of version %s, and %s or later is needed", versionText(own), versionText(oldestLibvirt))
	case err != nil:
		x.Problem(f, "install one (on Debian and Ubuntu: apt-get install qemu-system-x86), and start libvirt's daemon again", "libvirt %s answers, and has no hypervisor to run machines with: %v", versionText(own), err)
	default:
		x.OK(f, "libvirt %s, %s %s", versionText(own), x.d.hypervisor, version)
	}
	if x.d.hypervisor != hypervisorQEMU {
		return
	}
	if who := x.d.machinesUser(ctx); who != "" {
		x.OK(diagnosis.About(machinery.AreaHypervisor, "machines' user", ""), "libvirt runs machines as %s, who has to be let at their disks", who)
	}
	if text, err := x.d.capabilities(ctx); err == nil {
		x.kvm = canKVM(text)
		if uid, gid, is := dacUser(text); is {
			x.user = &owner{uid, gid}
		}
	}
	x.networks = x.d.networksOf(ctx)
}

// canKVM is whether libvirt's capabilities have the domain type kvm for any guest: it has looked at /dev/kvm.
func canKVM(capabilities string) bool {
	var host struct {
		Domains []struct {
			Type string `xml:"type,attr"`
		} `xml:"guest>arch>domain"`
	}
	return xml.Unmarshal([]byte(capabilities), &host) == nil && slices.ContainsFunc(host.Domains, func(d struct {
		Type string `xml:"type,attr"`
	}) bool {
		return d.Type == "kvm"
	})
}

// networksOf are libvirt's networks; nil if it has none to tell, as where the daemon for them does not run.
func (d *Machinery) networksOf(ctx context.Context) map[string]network {
	ctx, cancel := context.WithTimeout(ctx, stateTime)
	defer cancel()
	found := new(map[string]network)
	err := d.client.Do(ctx, "asking for the networks", func(l *libvirt.Libvirt) error {
		all, _, err := l.ConnectListAllNetworks(1, 0)
		if err != nil {
			return err
		}
		networks := make(map[string]network, len(all))
		for _, n := range all {
			active, err := l.NetworkIsActive(n)
			if err != nil {
				return err
			}
			bridge, _ := l.NetworkGetBridgeName(n) // not every network has one
			networks[n.Name] = network{bridge, active != 0}
		}
		*found = networks
		return nil
	})
	if err != nil {
		return nil
	}
	return *found
}

// startNetwork is how to start a network of libvirt's.
func (d *Machinery) startNetwork(name string) string {
	virsh := "virsh -c '" + d.config.URI + "' "
	return fmt.Sprintf("start it with: %snet-start %s (at each boot: %snet-autostart %s)", virsh, name, virsh, name)
}

// network looks at the host's interfaces, and at whether traffic can be recorded.
func (x *examination) network(ctx context.Context) {
	machines := x.d.Machines()
	usable := x.Interfaces(machines, func(iface string) string {
		if iface == x.d.config.Interface {
			return "interface"
		}
		i := slices.IndexFunc(machines, func(m machinery.Machine) bool { return m.Interface == iface })
		return "machines." + machines[i].Name + ".interface"
	}, func(iface string) string {
		for name, n := range x.networks {
			if n.bridge == iface && !n.active {
				return fmt.Sprintf("it is the bridge of libvirt's network %q, which is not active; %s", name, x.d.startNetwork(name))
			}
		}
		return ""
	})
	f := diagnosis.About(machinery.AreaCapture, x.d.config.Tcpdump, "tcpdump")
	switch {
	case x.d.remote != "":
		f.Subject = x.d.config.Capture
		x.Warn(f, "", "libvirt is on %s, and traffic can be recorded only where it runs on this host", x.d.remote)
	case x.d.config.Capture == CaptureTcpdump:
		x.Tcpdump(ctx, f, usable)
	default:
		f.Subject, f.Key = x.d.config.Capture, "capture"
		x.OK(f, "QEMU records itself, which needs no rights but to write where the file is to be")
	}
}
