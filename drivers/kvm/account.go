//go:build linux

package kvm

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/internal/fault"
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
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // without the directory nobody holds anything
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
