package libvirt

import (
	golibvirt "github.com/digitalocean/go-libvirt"
)

// look makes the entry of a procedure that looks at a domain.
func look[A, R any](number int32, name string, ref func(*A) golibvirt.Domain, see func(*Domain, *A) (R, error)) procedure {
	return remote(number, name, func(c *call, a *A) (R, error) {
		d, err := c.find(ref(a))
		if err != nil {
			var r R
			return r, err
		}
		return see(d, a)
	})
}

// domArgs is what a procedure takes that has a domain and no more; domFlags has
// flags too.
type domArgs struct{ Dom golibvirt.Domain }

type domFlags struct {
	Dom   golibvirt.Domain
	Flags uint32
}

func (a *domArgs) dom() golibvirt.Domain  { return a.Dom }
func (a *domFlags) dom() golibvirt.Domain { return a.Dom }

func oneIf(b bool) int32 {
	if b {
		return 1
	}
	return 0
}

var lookProcedures = []procedure{
	look(150, "DomainIsActive", (*domArgs).dom, func(d *Domain, _ *domArgs) (int32, error) { return oneIf(d.active()), nil }),
	look(151, "DomainIsPersistent", (*domArgs).dom, func(d *Domain, _ *domArgs) (int32, error) { return oneIf(d.persistent), nil }),
	look(202, "DomainIsUpdated", (*domArgs).dom, func(*Domain, *domArgs) (int32, error) { return 0, nil }),
	look(15, "DomainGetAutostart", (*domArgs).dom, func(d *Domain, _ *domArgs) (int32, error) { return d.autostart, nil }),
	look(29, "DomainSetAutostart", func(a *golibvirt.DomainSetAutostartArgs) golibvirt.Domain { return a.Dom }, func(d *Domain, a *golibvirt.DomainSetAutostartArgs) (none, error) {
		d.autostart = oneIf(a.Autostart != 0)
		return none{}, nil
	}),
	look(17, "DomainGetMaxMemory", (*domArgs).dom, func(d *Domain, _ *domArgs) (uint64, error) { return uint64(d.memory()), nil }),
	look(18, "DomainGetMaxVcpus", (*domArgs).dom, func(*Domain, *domArgs) (int32, error) { return 1, nil }),
	look(200, "DomainGetVcpusFlags", (*domFlags).dom, func(*Domain, *domFlags) (int32, error) { return 1, nil }),
	look(19, "DomainGetOsType", (*domArgs).dom, func(d *Domain, _ *domArgs) (string, error) {
		return d.now().child("os", "type").content(), nil
	}),
	look(121, "DomainGetSecurityLabel", (*domArgs).dom, func(*Domain, *domArgs) (golibvirt.DomainGetSecurityLabelRet, error) {
		return golibvirt.DomainGetSecurityLabelRet{Label: chars("")}, nil
	}),
	look(426, "DomainGetMessages", (*domFlags).dom, func(*Domain, *domFlags) (golibvirt.DomainGetMessagesRet, error) {
		return golibvirt.DomainGetMessagesRet{}, nil
	}),
	look(229, "DomainGetControlInfo", (*domFlags).dom, func(d *Domain, _ *domFlags) (ret golibvirt.DomainGetControlInfoRet, err error) {
		const controlJob, controlOccupied = 1, 2
		switch {
		case !d.active():
			return ret, errNotRunning(fromDomain)
		case d.wedged != nil:
			ret.State = controlOccupied
		case d.holder != "":
			ret.State = controlJob
		}
		return ret, nil
	}),
	remote(263, "DomainGetDiskErrors", askDisks),
	remote(211, "DomainScreenshot", screenshot),
	remote(344, "ConnectGetAllDomainStats", domainStats),
	qemuOnly(remote(1, "QEMUDomainMonitorCommand", monitorCommand)),
}

// askDisks asks the machine's hypervisor, as libvirt does (seen on 9.0.0, with a QEMU that was stopped: the call waits), and needs no turn.
func askDisks(c *call, a *golibvirt.DomainGetDiskErrorsArgs) (ret diskErrors, err error) {
	d, err := c.find(a.Dom)
	if err != nil {
		return ret, err
	}
	if !d.active() {
		return ret, errNotRunning(fromDomain)
	}
	if err := d.unwedged(c.ctx, d.gone); err != nil {
		return ret, err
	}
	if d.diskError != 0 {
		ret.N = 1
		if a.Maxerrors > 0 {
			ret.Errors = []diskError{{diskElements(d.live)[0].child("target").attr("dev"), d.diskError}}
		}
	}
	return ret, nil
}

type diskError struct {
	Disk  string
	Error int32
}

type diskErrors struct {
	Errors []diskError
	N      int32
}

// What a disk can suffer (VIR_DOMAIN_DISK_ERROR_).
const (
	diskFailed = 1
	diskFull   = 2
)

// FailDisk has the machine's first disk fail, as when the host's is full or broken:
// the guest stands still, and libvirt says why. It does nothing to a machine that
// does not run.
func (d *Domain) FailDisk(full bool) {
	s := d.server
	s.mu.Lock()
	defer s.mu.Unlock()
	disks := diskElements(d.now())
	if d.state != stateRunning || len(disks) == 0 {
		return
	}
	reason := "eio"
	d.diskError = diskFailed
	if full {
		reason = "enospc"
		d.diskError = diskFull
	}
	d.model.Pause()
	d.set(statePaused, pausedIOError)
	s.ioError(d, disks[0].child("source").attr("file"), "ide0-0-0", reason)
	s.lifecycle(d, eventSuspended, suspendedIOError)
}

// statsRecord is remote_domain_stats_record.
type statsRecord struct {
	Dom    golibvirt.Domain
	Params []typedParam
}

type statsRet struct{ Records []statsRecord }

// statsState is VIR_DOMAIN_STATS_STATE, the only group that the fake has; of others that are asked
// for nothing is told, as of a driver that does not know them.
const statsState = 1

// statsFilters are the flags of ConnectListAllDomains that it takes too.
const statsFilters = listActive | listInactive | listPersistent | listTransient | listRunning | listPaused | listShutoff | listOther

func domainStats(c *call, a *golibvirt.ConnectGetAllDomainStatsArgs) (ret statsRet, err error) {
	domains := c.domains
	if len(a.Doms) > 0 {
		domains = nil
		for _, ref := range a.Doms {
			// One that is not there any more is left out, as libvirt does.
			if d, err := c.find(ref); err == nil {
				domains = append(domains, d)
			}
		}
	}
	for _, d := range domains {
		if !d.listed(a.Flags & statsFilters) {
			continue
		}
		r := statsRecord{Dom: d.ref()}
		if a.Stats == 0 || a.Stats&statsState != 0 {
			r.Params = []typedParam{{"state.state", d.state}, {"state.reason", d.reason}}
		}
		ret.Records = append(ret.Records, r)
	}
	return ret, nil
}
