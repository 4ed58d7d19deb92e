//go:build linux

package kvm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/internal/capture"
)

// errNoCard says that there is nothing to record.
var errNoCard = errors.New("the machine has no network card")

// filterID is the id of a capture's filter in QEMU.
func filterID(i int) string { return fmt.Sprintf("machinery-capture-%d", i) }

// monitorRefusal is an error of QEMU's, in its words.
type monitorRefusal struct{ words string }

func (e *monitorRefusal) Error() string { return "QEMU: " + e.words }

// monitor has QEMU execute a command of its own.
func (v *vm) monitor(ctx context.Context, command string, arguments map[string]any) error {
	text, err := json.Marshal(map[string]any{"execute": command, "arguments": arguments})
	if err != nil {
		return err
	}
	answer, err := get(ctx, v, "giving QEMU the command "+command, func(l *libvirt.Libvirt, dom libvirt.Domain) (string, error) {
		return l.QEMUDomainMonitorCommand(dom, string(text), 0)
	})
	if err != nil {
		return err
	}
	var said struct {
		Error *struct{ Desc string }
	}
	if err := json.Unmarshal([]byte(answer), &said); err != nil {
		return fmt.Errorf("QEMU's answer to %s cannot be understood: %w", command, err)
	}
	if said.Error != nil {
		return &monitorRefusal{said.Error.Desc}
	}
	return nil
}

// recordable refuses a capture that the next run cannot begin, as far as that is known before it.
func (v *vm) recordable(ctx context.Context) error {
	if v.d.hypervisor != hypervisorQEMU {
		return fmt.Errorf("the hypervisor is %s, which has no filter-dump", v.d.hypervisor)
	}
	domain, err := v.definition(ctx, libvirt.DomainXMLInactive)
	if err == nil && len(domain.Devices.Interfaces) == 0 {
		err = errNoCard
	}
	return err
}

// definition is what the domain is, as it runs or, with DomainXMLInactive, as it is started next.
func (v *vm) definition(ctx context.Context, flags libvirt.DomainXMLFlags) (domain domainXML, err error) {
	text, err := get(ctx, v, "reading the domain's definition", func(l *libvirt.Libvirt, dom libvirt.Domain) (string, error) {
		return l.DomainGetXMLDesc(dom, flags)
	})
	if err == nil {
		err = parseXML(text, &domain)
	}
	return domain, err
}

// backends are the ids of the network backends of a machine that is up. libvirt calls that of the card net0 hostnet0 (9.0.0).
func (v *vm) backends(ctx context.Context) ([]string, error) {
	if v.d.hypervisor != hypervisorQEMU {
		return nil, fmt.Errorf("the hypervisor is %s, which has no filter-dump", v.d.hypervisor)
	}
	domain, err := v.definition(ctx, 0)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, i := range domain.Devices.Interfaces {
		if i.Alias.Name != "" {
			ids = append(ids, "host"+i.Alias.Name)
		}
	}
	if len(ids) == 0 {
		return nil, errNoCard
	}
	return ids, nil
}

// addFilters has QEMU record each of its backends into one of the files.
func (v *vm) addFilters(ctx context.Context, c *capture.Recording, ids []string) error {
	for i, id := range ids {
		if err := v.monitor(ctx, "object-add", map[string]any{"qom-type": "filter-dump", "id": filterID(i), "netdev": id, "file": c.Raw[i]}); err != nil {
			return err
		}
	}
	return nil
}

// removeFilters ends the recording in QEMU.
func (v *vm) removeFilters(ctx context.Context, c *capture.Recording) error {
	for i := range c.Raw {
		err := v.monitor(ctx, "object-del", map[string]any{"id": filterID(i)})
		if _, refused := errors.AsType[*monitorRefusal](err); err != nil && !refused { // it refuses what is not there any more
			return err
		}
	}
	return nil
}
