//go:build linux

package kvm

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/hostfile"
	"github.com/machineries/machineries/drivers/internal/rundir"
	"github.com/machineries/machineries/machinery"
)

var _ machinery.Accountant = (*Machinery)(nil)

// Account tells of the driver's own machines that run, whoever started them, and of every runtime directory of a domain below this
// driver's, also of machines that are not in its configuration (any more). Domains that nobody drives are not listed. It takes one question to
// libvirt, however many machines there are.
func (d *Machinery) Account(ctx context.Context) ([]machinery.Run, error) {
	const op = machinery.OpAccount
	if err := d.frame.Begin(ctx, op); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(d.runtimeDir)
	if err != nil {
		return nil, fault.Fail(op, "", machinery.ErrHypervisor, err, "the runtime directory cannot be read")
	}
	domains, err := d.askAll(ctx, op)
	if err != nil {
		return nil, err
	}
	var runs []machinery.Run
	own := map[string]bool{} // the directories of machines in the configuration
	for _, v := range d.frame.All() {
		dom, is := domains[v.conf.Label]
		if !is {
			continue
		}
		own[filepath.Base(d.dirOf(dom.uuid))] = true
		run, there := v.account(dom, true)
		if run.Configured = true; there {
			runs = append(runs, run)
		}
	}
	byUUID := make(map[libvirt.UUID]seen, len(domains))
	for _, dom := range domains {
		byUUID[dom.uuid] = dom
	}
	for _, entry := range entries {
		uuid, is := uuidOfDir(entry.Name())
		if !is || own[entry.Name()] {
			continue
		}
		dom, is := byUUID[uuid]
		dom.uuid = uuid
		if run, there := d.foundVM(uuid).account(dom, is); there {
			runs = append(runs, run)
		}
	}
	return runs, nil
}

// uuidOfDir is the UUID of the domain that a runtime directory of this driver is of.
func uuidOfDir(name string) (uuid libvirt.UUID, is bool) {
	text, is := strings.CutPrefix(name, dirPrefix)
	data, err := hex.DecodeString(text)
	if !is || err != nil || len(data) != len(uuid) {
		return uuid, false
	}
	copy(uuid[:], data)
	return uuid, true
}

// foundVM is the machine of a runtime directory that none in the configuration has.
func (d *Machinery) foundVM(uuid libvirt.UUID) *vm {
	v := &vm{d: d, only: true, log: d.log.With("run", filepath.Base(d.dirOf(uuid)))}
	if l, err := readLedger(d.dirOf(uuid)); err == nil && l != nil {
		v.machine.Name, v.conf.Label = l.Machine, l.Label
	}
	v.dom.Store(&libvirt.Domain{Name: v.conf.Label, UUID: uuid, ID: -1})
	return v
}

// account is what there is of a machine of whose domain libvirt says this, if it has the domain; false if there is nothing.
func (v *vm) account(dom seen, defined bool) (run machinery.Run, there bool) {
	dir := v.d.dirOf(dom.uuid)
	run = machinery.Run{ID: filepath.Base(dir), Machine: v.machine.Name}
	if !defined {
		run.Status = machinery.Status{State: machinery.StatePoweroff, Reason: reasonNoDomain}
	} else {
		var err error
		if run.Status, err = statusOf(dom.state, dom.reason); err != nil {
			run.Status = machinery.Status{State: machinery.StateError, Reason: "not known", Detail: err.Error()}
		}
	}
	isOff := run.Status.State == machinery.StatePoweroff
	info, err := os.Lstat(dir)
	if err != nil {
		return run, !isOff
	}
	run.Since = info.ModTime()
	run.Owner, run.Held = rundir.Held(dir)
	l, err := readLedger(dir)
	switch {
	case err != nil:
		run.Problem = err.Error()
	case l != nil:
		run.Files = present(l.files())
		if !run.Held {
			run.Owner = l.Owner
		}
	}
	run.Files = append(run.Files, dir)
	if isOff && !run.Held {
		run.Left = "its machine is off"
		if !defined {
			run.Left = "libvirt has no such domain any more"
		}
	}
	return run, true
}

// present are those of the paths at which there is something.
func present(paths []string) []string {
	return slices.DeleteFunc(slices.Clone(paths), func(path string) bool {
		_, err := os.Lstat(path)
		return err != nil
	})
}

// Sweep removes what is left of a run that Account has listed: disposable disks and recordings that were not ended. Everything is looked at again
// with the machine's lock held, so that what a driver has taken since is ErrBusy and stays as it is. With end a machine that
// runs and that nobody holds is ended as by Stop.
func (d *Machinery) Sweep(ctx context.Context, id string, end bool) error {
	const op = machinery.OpSweep
	if err := d.frame.Begin(ctx, op); err != nil {
		return err
	}
	uuid, is := uuidOfDir(id)
	if !is {
		return fault.Fail(op, id, machinery.ErrNotFound, nil, "there is no run of this id below %s", d.runtimeDir)
	}
	v := d.foundVM(uuid)
	for _, own := range d.frame.All() {
		if dom := own.dom.Load(); dom != nil && dom.UUID == uuid {
			v = own
		}
	}
	t, err := v.turns.Take(ctx, op)
	if err != nil {
		return fault.NotMyTurn(op, v.machine.Name, ctx, err)
	}
	defer t.Done()
	return v.sweep(t.Context(), end)
}

// sweep is Sweep for whoever has the turn.
func (v *vm) sweep(ctx context.Context, end bool) error {
	const op = machinery.OpSweep
	if v.hold != nil {
		return fault.Fail(op, v.machine.Name, machinery.ErrBusy, nil, "this driver holds the machine; stop it instead")
	}
	dom, _, err := v.domain(ctx)
	if err != nil {
		return v.refused(ctx, op, err, "looking for the machine's domain")
	}
	if !hostfile.IsThere(v.d.dirOf(dom.UUID)) {
		if _, runs, err := v.standing(ctx, op); err != nil || !runs {
			return cmp.Or[error](err, fault.Fail(op, v.machine.Name, machinery.ErrNotFound, nil, "nothing is left of a run of the machine"))
		}
	}
	if err := v.take(ctx, op); err != nil {
		return err
	}
	// Only now: another driver may have had it until this one took it.
	words, runs, err := v.standing(ctx, op)
	if err == nil && runs && !end {
		err = fault.Fail(op, v.machine.Name, machinery.ErrUnexpectedState, nil, "the machine is %s, and nobody holds it; it is ended only on request", words)
	}
	if err != nil {
		v.letGo()
		return err
	}
	if runs {
		if err := v.endRun(ctx, op); err != nil && !errors.Is(err, errIsOff) {
			v.letGo()
			return err
		}
		return nil
	}
	if err := v.clear(); err != nil {
		return fault.Fail(op, v.machine.Name, machinery.ErrHypervisor, err, "something could not be removed")
	}
	return nil
}

// standing is whether the machine's domain runs, and its state in libvirt's words. One that is gone does not.
func (v *vm) standing(ctx context.Context, op machinery.Op) (words string, runs bool, err error) {
	state, reason, err := v.ask(ctx)
	if _, gone := errors.AsType[*noDomain](err); gone {
		return "gone", false, nil
	}
	if err != nil {
		return "", false, v.refused(ctx, op, err, "asking for the machine's state")
	}
	return inWords(state, reason), libvirt.DomainState(state) != libvirt.DomainShutoff, nil
}
