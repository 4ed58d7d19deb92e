//go:build linux

package kvm

import (
	"context"
	"errors"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/kvm/rpc"
	"github.com/machineries/machineries/machinery"
)

// States returns the status of every machine by its name, from one question to libvirt however many there are. It is State but for this: libvirt
// is believed, so that a machine whose hypervisor hangs is told to be running; and machines that are off are not told to be in error for a
// snapshot that was not looked at before. A machine of whose state nothing can be said has the zero Status.
//
// Errors: ErrConnection if libvirt does not answer.
func (d *Machinery) States(ctx context.Context) (map[string]machinery.Status, error) {
	const op = machinery.OpState
	if err := d.frame.Begin(ctx, op); err != nil {
		return nil, err
	}
	seen, err := d.askAll(ctx, op)
	if err != nil {
		return nil, err
	}
	all := make(map[string]machinery.Status, len(d.frame.All()))
	for _, v := range d.frame.All() {
		dom, there := seen[v.conf.Label]
		all[v.machine.Name] = v.statusFrom(dom, there)
	}
	return all, nil
}

// statusFrom is the status of a machine of whose domain libvirt says this, if it is there.
func (v *vm) statusFrom(dom seen, there bool) machinery.Status {
	if status, does := v.whatItDoes(); does {
		return status
	}
	if !there {
		return v.offAs(statusGone(&noDomain{label: v.conf.Label}), nil, nil)
	}
	status, err := statusOf(dom.state, dom.reason)
	if err != nil {
		return machinery.Status{}
	}
	if status.State != machinery.StatePoweroff {
		return status
	}
	v.mu.Lock()
	failed := v.failed
	v.mu.Unlock()
	v.snapshotMu.Lock()
	unsaved := v.unsaved
	v.snapshotMu.Unlock()
	return v.offAs(status, failed, unsaved)
}

// seen is what libvirt says of a domain when it is asked about all.
type seen struct {
	uuid          libvirt.UUID
	state, reason int32
}

// askAll is allStates for an operation, with its error.
func (d *Machinery) askAll(ctx context.Context, op machinery.Op) (map[string]seen, error) {
	all, err := d.allStates(ctx)
	switch {
	case errors.Is(err, rpc.ErrClosed):
		return nil, &machinery.Error{Op: op, Kind: machinery.ErrClosed}
	case err != nil && ctx.Err() != nil:
		return nil, fault.Interrupted(op, "", ctx, "asking libvirt for the states of all machines")
	case err != nil && unheard(err):
		return nil, fault.Fail(op, "", machinery.ErrConnection, err, "libvirt was not heard of while it was asked for the states of all machines")
	case err != nil:
		return nil, fault.Fail(op, "", machinery.ErrHypervisor, err, "libvirt does not tell the states of all machines")
	}
	return all, nil
}

// allStates asks libvirt for the state of every domain and the reason for it, by the domains' names.
func (d *Machinery) allStates(ctx context.Context) (map[string]seen, error) {
	found := new([]libvirt.DomainStatsRecord)
	err := d.client.Do(ctx, "asking for the states of all domains", func(l *libvirt.Libvirt) (err error) {
		*found, err = l.ConnectGetAllDomainStats(nil, uint32(libvirt.DomainStatsState), 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	all := make(map[string]seen, len(*found))
	for _, record := range *found {
		dom := seen{uuid: record.Dom.UUID}
		for _, p := range record.Params {
			switch value, is := p.Value.I.(int32); {
			case !is:
			case p.Field == "state.state":
				dom.state = value
			case p.Field == "state.reason":
				dom.reason = value
			}
		}
		all[record.Dom.Name] = dom
	}
	return all, nil
}
