package libvirt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/machineries/machineries/fakes/guest"
)

// Domain is a domain of the fake. Its methods are for whoever owns the server:
// what they tell is the truth, without a client. They may be called from any
// goroutine, also when the domain has been undefined.
type Domain struct {
	server *Server
	name   string
	uuid   golibvirt.UUID

	// What is below is the server's to lock.
	def        *element // what it is by its definition
	live       *element // what it is in this run; nil while off
	persistent bool
	undefined  bool
	autostart  int32
	id         int32 // -1 while off
	state      int32
	reason     int32
	since      time.Time     // the start of the run
	gone       chan struct{} // closed when the run ends
	model      *guest.Model
	disks      [2]*diskSlot
	serial     *serial
	cards      []*card
	holder     string     // whoever works on it; see lock
	job        *job       // nil while none is under way
	dumping    chan error // of the dump that the hypervisor writes; nil while it does not
	wedged     chan struct{}
	staying    bool // does not end when asked to
	again      bool // the guest's power off is the first half of a reboot
	diskError  int32
	snapshots  []*snapshot
	current    *snapshot
	managed    []byte // saved by managed save; nil for none
	plan       plan
}

// States of a domain (VIR_DOMAIN_).
const (
	stateRunning  = 1
	statePaused   = 3
	stateShutdown = 4
	stateOff      = 5
	stateCrashed  = 6
)

// Reasons of states.
const (
	runningBooted       = 1
	runningRestored     = 3
	runningFromSnapshot = 4
	runningUnpaused     = 5
	runningSaveCanceled = 7

	pausedUser         = 1
	pausedMigration    = 2
	pausedSave         = 3
	pausedDump         = 4
	pausedIOError      = 5
	pausedFromSnapshot = 7
	pausedStarting     = 11

	offShutdown     = 1
	offDestroyed    = 2
	offCrashed      = 3
	offSaved        = 5
	offFailed       = 6
	offFromSnapshot = 7
)

// Name is the domain's name.
func (d *Domain) Name() string { return d.name }

// UUID is the domain's UUID, as in its XML.
func (d *Domain) UUID() string { return formatUUID(d.uuid) }

// Guest is the machine's model: what its memory holds and its button has seen.
func (d *Domain) Guest() *guest.Model { return d.model }

// ID is the number of the domain's present run, -1 while it is off.
func (d *Domain) ID() int32 {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	return d.id
}

// Running tells whether anything of the machine runs, also paused or while it
// is being started.
func (d *Domain) Running() bool { return d.ID() >= 0 }

// State is the domain's state and reason, as libvirt numbers them.
func (d *Domain) State() (state, reason int32) {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	return d.state, d.reason
}

// Defined tells whether the domain is still there.
func (d *Domain) Defined() bool {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	return !d.undefined
}

// Define defines a domain, as virsh define does, or changes one of the same
// name and UUID.
func (s *Server) Define(xml string) (*Domain, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("the fake libvirtd is closed")
	}
	return s.define(xml, true)
}

// Domain is the domain of that name, or nil.
func (s *Server) Domain(name string) *Domain {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.named(name)
}

// Domains are all domains, in the order in which they were defined.
func (s *Server) Domains() []*Domain {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.domains)
}

// Undefine removes the domain with its snapshots, as someone else would; a
// machine that runs is ended first. A domain of the same name can be defined
// again.
func (d *Domain) Undefine() {
	s := d.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.undefined {
		return
	}
	if d.id >= 0 {
		d.stopped(offDestroyed, stoppedDestroyed)
	}
	if !d.undefined {
		d.remove()
	}
}

// remove forgets a domain that is off. The server is locked.
func (d *Domain) remove() {
	s := d.server
	d.undefined = true
	d.snapshots, d.current, d.managed = nil, nil, nil
	s.domains = slices.DeleteFunc(s.domains, func(o *Domain) bool { return o == d })
	if d.persistent {
		s.lifecycle(d, eventUndefined, 0)
	}
	d.cut()
	// The model's goroutine may be the one that brought us here.
	s.leaving.Go(func() { _ = d.release() })
}

// cut takes the machine's power away without telling anybody. The server is locked.
func (d *Domain) cut() {
	if d.gone != nil {
		close(d.gone)
		d.gone = nil
	}
	d.heal()
	d.model.PowerOff()
	d.closeMedia()
	d.id, d.live, d.job, d.dumping, d.staying, d.again, d.diskError = -1, nil, nil, nil, false, false, 0
	d.server.changed.Broadcast()
}

// release ends the goroutines of the model.
func (d *Domain) release() error { return d.model.Close() }

// named is the domain of that name, or nil. The server is locked.
func (s *Server) named(name string) *Domain {
	if i := slices.IndexFunc(s.domains, func(d *Domain) bool { return d.name == name }); i >= 0 {
		return s.domains[i]
	}
	return nil
}

// find is the domain that a client means: the UUID counts, as with libvirtd.
func (c *call) find(ref golibvirt.Domain) (*Domain, error) {
	if i := slices.IndexFunc(c.domains, func(d *Domain) bool { return d.uuid == ref.UUID }); i >= 0 {
		return c.domains[i], nil
	}
	return nil, fail(codeNoDomain, c.opts.Flavour.from(), "no domain with matching uuid '%s' (%s)", formatUUID(ref.UUID), ref.Name)
}

// ref is the domain as clients know it.
func (d *Domain) ref() golibvirt.Domain {
	return golibvirt.Domain{Name: d.name, UUID: d.uuid, ID: d.id}
}

func (d *Domain) active() bool { return d.id >= 0 }

// set changes state and reason.
func (d *Domain) set(state, reason int32) { d.state, d.reason = state, reason }

func formatUUID(u golibvirt.UUID) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// errNotRunning is what libvirt says of a machine that is off, from the domain
// layer or from the driver.
func errNotRunning(from int32) *Error { return fail(codeInvalid, from, "domain is not running") }

// lock has the call wait until nobody else works on the domain, for as long as
// libvirt does. The server is locked, and unlocked meanwhile.
func (d *Domain) lock(ctx context.Context, holder string) error {
	s := d.server
	deadline := time.Now().Add(s.opts.LockTimeout)
	wake := time.AfterFunc(s.opts.LockTimeout, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer wake.Stop()
	for d.holder != "" {
		if ctx.Err() != nil {
			return errDown
		}
		if !time.Now().Before(deadline) {
			return fail(codeTimeout, s.opts.Flavour.from(), "cannot acquire state change lock (held by monitor=%s)", d.holder)
		}
		s.changed.Wait()
	}
	if d.undefined {
		return fail(codeNoDomain, s.opts.Flavour.from(), "no domain with matching uuid '%s' (%s)", formatUUID(d.uuid), d.name)
	}
	d.holder = holder
	return nil
}

// unlock lets others work on the domain.
func (d *Domain) unlock() {
	d.holder = ""
	d.job = nil
	d.server.changed.Broadcast()
}

// errDown ends a call whose daemon has ended: nobody gets its answer.
var errDown = errors.New("the daemon has ended")
