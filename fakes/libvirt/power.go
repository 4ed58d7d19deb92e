package libvirt

import (
	"context"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// Flags of DomainCreateWithFlags (VIR_DOMAIN_START_).
const (
	startPaused    = 1
	startForceBoot = 8
)

var powerProcedures = []procedure{
	remote(9, "DomainCreate", func(c *call, a *golibvirt.DomainCreateArgs) (none, error) {
		_, err := c.create(a.Dom, 0)
		return none{}, err
	}),
	remote(196, "DomainCreateWithFlags", func(c *call, a *golibvirt.DomainCreateWithFlagsArgs) (golibvirt.DomainCreateWithFlagsRet, error) {
		ref, err := c.create(a.Dom, a.Flags)
		return golibvirt.DomainCreateWithFlagsRet{Dom: ref}, err
	}),
	remote(10, "DomainCreateXML", func(c *call, a *golibvirt.DomainCreateXMLArgs) (golibvirt.DomainCreateXMLRet, error) {
		ref, err := c.createXML(a.XMLDesc, uint32(a.Flags))
		return golibvirt.DomainCreateXMLRet{Dom: ref}, err
	}),
	remote(12, "DomainDestroy", func(c *call, a *golibvirt.DomainDestroyArgs) (none, error) { return none{}, c.destroy(a.Dom, 0) }),
	remote(234, "DomainDestroyFlags", func(c *call, a *golibvirt.DomainDestroyFlagsArgs) (none, error) {
		return none{}, c.destroy(a.Dom, uint32(a.Flags))
	}),
	remote(33, "DomainShutdown", func(c *call, a *golibvirt.DomainShutdownArgs) (none, error) { return none{}, c.shutdown(a.Dom) }),
	remote(258, "DomainShutdownFlags", func(c *call, a *golibvirt.DomainShutdownFlagsArgs) (none, error) {
		const agent = 2
		if a.Flags&agent != 0 && a.Flags&^agent == 0 {
			return none{}, fail(codeArgUnsupported, c.opts.Flavour.from(), "QEMU guest agent is not configured")
		}
		return none{}, c.shutdown(a.Dom)
	}),
	remote(27, "DomainReboot", func(c *call, a *golibvirt.DomainRebootArgs) (none, error) {
		return none{}, c.press(a.Dom, fromDomain, true)
	}),
	remote(245, "DomainReset", func(c *call, a *golibvirt.DomainResetArgs) (none, error) {
		return none{}, c.on(a.Dom, fromDomain, func(d *Domain) error {
			if err := d.monitor(c.ctx, d.gone, "system_reset"); err != nil {
				return err
			}
			d.model.Reset()
			c.reboot(d)
			return nil
		})
	}),
	remote(34, "DomainSuspend", func(c *call, a *golibvirt.DomainSuspendArgs) (none, error) { return none{}, c.suspend(a.Dom) }),
	remote(28, "DomainResume", func(c *call, a *golibvirt.DomainResumeArgs) (none, error) { return none{}, c.resume(a.Dom) }),
}

// on does something to a machine that runs or is paused, alone.
func (c *call) on(ref golibvirt.Domain, from int32, do func(*Domain) error) error {
	d, err := c.find(ref)
	if err != nil {
		return err
	}
	if err := d.lock(c.ctx, c.holder()); err != nil {
		return err
	}
	defer d.unlock()
	if !d.active() {
		return errNotRunning(from)
	}
	return do(d)
}

func (c *call) create(ref golibvirt.Domain, flags uint32) (golibvirt.Domain, error) {
	d, err := c.find(ref)
	if err != nil {
		return golibvirt.Domain{}, err
	}
	if c.opts.Flavour == Test {
		if flags != 0 {
			return golibvirt.Domain{}, fail(codeInvalidArg, fromTest, "unsupported flags (0x%x) in function testDomainCreateWithFlags", flags)
		}
		if d.active() {
			return golibvirt.Domain{}, fail(codeInternal, fromTest, "Domain '%s' is already running", d.name)
		}
	}
	if err := d.lock(c.ctx, c.holder()); err != nil {
		return golibvirt.Domain{}, err
	}
	defer d.unlock()
	err = d.start(c.ctx, flags)
	return d.ref(), err
}

// createXML starts a machine by the XML that comes with the call. A domain of
// that name and UUID that is defined keeps its definition.
func (c *call) createXML(text string, flags uint32) (golibvirt.Domain, error) {
	def, _, _, err := parseDomain(text)
	if err != nil {
		return golibvirt.Domain{}, err
	}
	d, err := c.defineRun(def)
	if err != nil {
		return golibvirt.Domain{}, err
	}
	if err := d.lock(c.ctx, c.holder()); err != nil {
		return golibvirt.Domain{}, err
	}
	defer d.unlock()
	if d.active() {
		return golibvirt.Domain{}, fail(codeInvalid, fromDomain, "domain '%s' is already active", d.name)
	}
	err = d.boot(c.ctx, flags, def)
	return d.ref(), err
}

// start starts the machine, from what managed save left if there is such.
func (d *Domain) start(ctx context.Context, flags uint32) error {
	s := d.server
	if d.active() {
		return fail(codeInvalid, s.opts.Flavour.from(), "domain is already running")
	}
	if d.managed != nil && flags&startForceBoot == 0 {
		image := d.managed
		if err := d.restore(ctx, image, flags&startPaused != 0); err != nil {
			return err
		}
		d.managed = nil
		return nil
	}
	d.managed = nil
	return d.boot(ctx, flags, nil)
}

// boot boots a machine that is off, by its definition or by other XML.
func (d *Domain) boot(ctx context.Context, flags uint32, def *element) error {
	s := d.server
	paused := flags&startPaused != 0
	if err := d.begin(ctx, boot{xml: def, paused: paused, took: s.opts.Durations.Start, running: runningBooted, stopped: pausedUser}); err != nil {
		return err
	}
	switch {
	case paused:
		s.lifecycle(d, eventStarted, startedBooted)
		s.lifecycle(d, eventSuspended, suspendedPaused)
	case s.opts.Flavour == QEMU:
		// In this order, seen on libvirt 9.0.0.
		s.lifecycle(d, eventResumed, resumedUnpaused)
		s.lifecycle(d, eventStarted, startedBooted)
	default:
		s.lifecycle(d, eventStarted, startedBooted)
	}
	return nil
}

// Start starts the machine as virsh start does.
func (d *Domain) Start() error {
	return d.locked("remoteDispatchDomainCreate", func(ctx context.Context) error { return d.start(ctx, 0) })
}

// locked does something as a client would that nothing ends.
func (d *Domain) locked(holder string, do func(context.Context) error) error {
	ctx := context.Background()
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	if err := d.lock(ctx, holder); err != nil {
		return err
	}
	defer d.unlock()
	return do(ctx)
}

const destroyGraceful = 1

func (c *call) destroy(ref golibvirt.Domain, flags uint32) error {
	d, err := c.find(ref)
	if err != nil {
		return err
	}
	if !d.active() {
		return errNotRunning(fromDomain)
	}
	return d.destroy(c.ctx, flags&destroyGraceful != 0)
}

// destroy ends the machine; it does not wait for whoever else works on it, whose
// operation fails.
func (d *Domain) destroy(ctx context.Context, graceful bool) error {
	s := d.server
	gone := d.gone
	for _, f := range s.faults(PointMachine, "quit", d) {
		switch f.Action {
		case Stay:
			d.staying = true
		case Delay:
			if err := d.wait(ctx, gone, f.Delay); err != nil {
				return err
			}
		}
	}
	stuck := d.staying || d.wedged != nil
	if stuck {
		if err := d.wait(ctx, gone, s.opts.KillDelay); err != nil {
			return endedMeanwhile(err)
		}
		if graceful {
			return fail(codeSystem, fromQEMU, "Failed to terminate process with SIGTERM: Device or resource busy")
		}
	}
	if err := d.wait(ctx, gone, s.opts.Durations.Stop); err != nil {
		return endedMeanwhile(err)
	}
	if s.opts.Flavour == QEMU && !stuck {
		s.lifecycle(d, eventShutdown, shutdownHost)
	}
	d.stopped(offDestroyed, stoppedDestroyed)
	return nil
}

// endedMeanwhile is what destroy says where somebody else ended the machine
// first: nothing, unless the daemon is gone.
func endedMeanwhile(err error) error {
	if err == errDown {
		return err
	}
	return nil
}

// Destroy ends the machine as virsh destroy does. One that is off stays so.
func (d *Domain) Destroy() error {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	if !d.active() {
		return nil
	}
	return d.destroy(context.Background(), false)
}

func (c *call) shutdown(ref golibvirt.Domain) error {
	if c.opts.Flavour == QEMU {
		return c.press(ref, fromQEMU, false)
	}
	d, err := c.find(ref)
	if err != nil {
		return err
	}
	if d.state != stateRunning {
		return fail(codeInternal, fromTest, "domain '%s' not running", d.name)
	}
	d.stopped(offShutdown, stoppedShutdown)
	return nil
}

// press presses the power button; what comes of it is the guest's affair. again has a guest that obeys
// begin anew.
func (c *call) press(ref golibvirt.Domain, from int32, again bool) error {
	return c.on(ref, from, func(d *Domain) error {
		if err := d.monitor(c.ctx, d.gone, "system_powerdown"); err != nil {
			return err
		}
		d.again = again
		d.model.PressPowerButton()
		return nil
	})
}

func (c *call) suspend(ref golibvirt.Domain) error {
	if c.opts.Flavour == Test {
		if d, err := c.find(ref); err == nil && d.state != stateRunning {
			return fail(codeInternal, fromTest, "domain '%s' not running", d.name)
		}
	}
	return c.on(ref, fromDomain, func(d *Domain) error { return d.suspend(c.ctx, pausedUser) })
}

// suspend lets the guest stand still; a machine that is paused stays so, without
// an event.
func (d *Domain) suspend(ctx context.Context, reason int32) error {
	if d.state == statePaused {
		return nil
	}
	if err := d.monitor(ctx, d.gone, "stop"); err != nil {
		return err
	}
	d.model.Pause()
	d.set(statePaused, reason)
	d.server.lifecycle(d, eventSuspended, suspendedPaused)
	return nil
}

// Suspend pauses the machine as virsh suspend does, for someone else than the
// client under test.
func (d *Domain) Suspend() error {
	return d.locked("remoteDispatchDomainSuspend", func(ctx context.Context) error {
		if !d.active() {
			return errNotRunning(fromDomain)
		}
		return d.suspend(ctx, pausedUser)
	})
}

func (c *call) resume(ref golibvirt.Domain) error {
	if c.opts.Flavour == Test {
		if d, err := c.find(ref); err == nil && d.state != statePaused {
			return fail(codeInternal, fromTest, "domain '%s' not paused", d.name)
		}
	}
	return c.on(ref, fromDomain, func(d *Domain) error {
		if d.state == stateRunning {
			return fail(codeInvalid, c.opts.Flavour.from(), "domain is already running")
		}
		return d.resume(c.ctx)
	})
}

// recover does what a daemon does when it starts, about a machine that was being dumped or saved when the last one ended: it gives that
// up and lets the machine go on. It tries that once, as libvirt 9.0.0 does.
func (d *Domain) recover(ctx context.Context) {
	s := d.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.lock(ctx, "remoteDispatchReconnect") != nil {
		return
	}
	defer d.unlock()
	if d.state == statePaused && (d.reason == pausedDump || d.reason == pausedSave) && d.resume(ctx) == nil {
		d.reason = runningSaveCanceled
	}
}

// resume lets a paused guest go on.
func (d *Domain) resume(ctx context.Context) error {
	if err := d.monitor(ctx, d.gone, "cont"); err != nil {
		return err
	}
	d.diskError = 0
	d.set(stateRunning, runningUnpaused)
	d.server.lifecycle(d, eventResumed, resumedUnpaused)
	d.listenNetwork()
	d.model.Resume()
	return nil
}
