//go:build linux

package libvirtlab

import (
	"context"
	"fmt"
	"slices"

	"github.com/digitalocean/go-libvirt"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/internal/labkit"
)

// Power implements conformance.Bench: by the process table, and where machines
// have no processes by what the fake knows, or by libvirt's own list.
func (b *bench) Power(ctx context.Context, name string) (conformance.Power, error) {
	m := b.machines[name]
	if b.lab.fake() {
		d := b.fakeDomain(m)
		if d == nil {
			return conformance.Power{}, nil
		}
		state, reason := d.State()
		return conformance.Power{On: d.Running(), Detail: fmt.Sprintf("the fake's state %d, reason %d", state, reason)}, nil
	}
	if b.lab.driver != driverTest {
		return labkit.PowerOf(m.domain.Serial), nil
	}
	var power conformance.Power
	err := ask(ctx, b.daemon, func(c *client) error {
		dom, err := c.DomainLookupByName(m.domain.Name)
		if err != nil {
			return err
		}
		state, reason, err := c.DomainGetState(dom, 0)
		power.On = libvirt.DomainState(state) != libvirt.DomainShutoff && libvirt.DomainState(state) != libvirt.DomainCrashed
		power.Detail = fmt.Sprintf("libvirt's state %d, reason %d", state, reason)
		return err
	})
	return power, err
}

// Leftovers implements conformance.Bench.
func (b *bench) Leftovers(ctx context.Context) ([]string, error) {
	var left []string
	for _, p := range labkit.Processes(b.dir) {
		left = append(left, fmt.Sprintf("process %d: %.200s", p.PID, p.Args))
	}
	left = append(left, labkit.Zombies()...)
	dirs := []string{b.RuntimeDir()}
	if h, ok := b.daemon.(interface{ saves() []string }); ok {
		dirs = append(dirs, h.saves()...)
	}
	for _, dir := range dirs {
		files, err := labkit.Below(dir)
		if err != nil {
			return nil, err
		}
		left = append(left, files...)
	}
	own := map[string]bool{b.ConfigPath(): true, b.RuntimeDir(): true}
	below := []string{b.dir}
	for _, m := range b.order {
		own[m.dir], own[m.domain.Serial] = true, true
		below = append(below, m.dir)
		for _, path := range m.files {
			own[path] = true
		}
	}
	strange, err := labkit.Strangers(own, below...)
	if err != nil {
		return nil, err
	}
	domains, err := b.strangeDomains(ctx)
	return append(append(left, strange...), domains...), err
}

// strangeDomains lists the domains and snapshots that nobody but a driver can
// have made.
func (b *bench) strangeDomains(ctx context.Context) (strange []string, err error) {
	err = ask(ctx, b.daemon, func(c *client) error {
		domains, _, err := c.ConnectListAllDomains(1, 0)
		if err != nil {
			return err
		}
		for _, dom := range domains {
			if !slices.ContainsFunc(b.order, func(m *machine) bool { return m.domain.Name == dom.Name }) {
				if dom.Name != testDomain {
					strange = append(strange, "domain "+dom.Name)
				}
				continue
			}
			snapshots, _, err := c.DomainListAllSnapshots(dom, 1, 0)
			if err != nil {
				return err
			}
			for _, s := range snapshots {
				if s.Name != snapshotName {
					strange = append(strange, fmt.Sprintf("snapshot %s of domain %s", s.Name, dom.Name))
				}
			}
		}
		return nil
	})
	return strange, err
}

// testDomain is what libvirt's test driver has from the beginning.
const testDomain = "test"
