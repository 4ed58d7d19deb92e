package libvirt

import (
	"context"
	"time"
)

// boot is how a run of a machine begins.
type boot struct {
	state  []byte // saved memory; nil for power on
	paused bool
	took   time.Duration // how long libvirt and QEMU take
	xml    *element      // nil for the definition
	// What the run begins as when it runs and when it does not.
	running, stopped int32
}

// begin starts the machine; the domain is off, and the caller holds its lock. It
// does not tell clients, who hear of it in another order with every procedure.
// The server is locked, and unlocked while the hypervisor starts.
func (d *Domain) begin(ctx context.Context, b boot) error {
	s := d.server
	def := b.xml
	if def == nil {
		def = d.def
	}
	d.live = def.clone()
	nameDevices(d.live)
	d.id = s.nextID
	s.nextID++
	d.since = time.Now()
	d.gone = make(chan struct{})
	gone := d.gone
	if s.opts.Flavour == QEMU {
		d.set(statePaused, pausedStarting)
	}
	err := d.bring(ctx, b, gone)
	if err != nil {
		if d.gone == gone {
			d.cut()
			d.set(stateOff, offFailed)
			d.leave()
		}
		return err
	}
	return nil
}

// bring makes a machine that is off one that runs or is paused.
func (d *Domain) bring(ctx context.Context, b boot, gone chan struct{}) error {
	if err := d.monitor(ctx, gone, "start"); err != nil {
		return err
	}
	if err := d.openMedia(d.live); err != nil {
		return err
	}
	if b.state != nil {
		if err := d.monitor(ctx, gone, "load"); err != nil {
			return err
		}
	}
	if err := d.wait(ctx, gone, b.took); err != nil {
		return err
	}
	if b.state == nil {
		d.model.PowerOn()
	} else if err := d.model.Load(b.state); err != nil {
		return exited("error while loading state for instance 0x0 of device 'ram': %s", err)
	}
	if b.paused {
		d.set(statePaused, b.stopped)
		return nil
	}
	if err := d.monitor(ctx, gone, "cont"); err != nil {
		return err
	}
	d.set(stateRunning, b.running)
	d.listenNetwork()
	d.model.Resume()
	return nil
}

// leave forgets a domain that is off and had no definition.
func (d *Domain) leave() {
	if !d.persistent && !d.undefined {
		d.remove()
	}
}

// errGone is what an operation is told whose machine ended under it.
func errGone() *Error {
	return fail(codeFailed, fromQEMU, "domain is no longer running")
}

// wait lets that much time pass with the server unlocked; an error where the
// machine or the daemon ended meanwhile.
func (d *Domain) wait(ctx context.Context, gone chan struct{}, took time.Duration) error {
	if took > 0 {
		d.server.mu.Unlock()
		t := time.NewTimer(took)
		select {
		case <-t.C:
		case <-gone:
		case <-ctx.Done():
		}
		t.Stop()
		d.server.mu.Lock()
	}
	return d.alive(ctx, gone)
}

// alive is an error where the run or the daemon has ended.
func (d *Domain) alive(ctx context.Context, gone chan struct{}) error {
	if ctx.Err() != nil {
		return errDown
	}
	if d.gone != gone || gone == nil {
		return errGone()
	}
	return nil
}

// monitor has the machine's hypervisor do something: it waits while that
// answers nothing, and does what is planned for it.
func (d *Domain) monitor(ctx context.Context, gone chan struct{}, command string) error {
	for _, f := range d.server.faults(PointMachine, command, d) {
		switch f.Action {
		case Delay:
			if err := d.wait(ctx, gone, f.Delay); err != nil {
				return err
			}
		case Refuse:
			if command == "start" || command == "load" {
				return exited("%s", f.Text)
			}
			return fail(codeInternal, fromQEMU, "unable to execute QEMU command '%s': %s", qemuNames[command], f.Text)
		case Kill:
			d.die()
			return fail(codeInternal, fromQEMU, "qemu unexpectedly closed the monitor")
		case Hang:
			d.wedge()
		case Stay:
			d.staying = true
		}
	}
	if err := d.unwedged(ctx, gone); err != nil {
		return err
	}
	if d.dumping != nil && duringNoDump[command] {
		return fail(codeInternal, fromQEMU, "unable to execute QEMU command '%s': There is a dump in process, please wait.", qemuNames[command])
	}
	return d.alive(ctx, gone)
}

// duringNoDump are the commands that QEMU refuses while it writes a dump, seen with QEMU 7.2.
var duringNoDump = map[string]bool{"cont": true, "dump": true}

// qemuNames are QEMU's names for what a hypervisor is to do.
var qemuNames = map[string]string{
	"cont": "cont", "stop": "stop", "save": "migrate", "dump": "dump-guest-memory", "quit": "quit", "screendump": "screendump",
	"system_powerdown": "system_powerdown", "system_reset": "system_reset",
}

// unwedged waits until the hypervisor answers, for as long as the call and the machine last. The caller holds the server's mu, which is let go of meanwhile.
func (d *Domain) unwedged(ctx context.Context, gone chan struct{}) error {
	for d.wedged != nil {
		ch := d.wedged
		d.server.mu.Unlock()
		select {
		case <-ch:
		case <-gone:
		case <-ctx.Done():
		}
		d.server.mu.Lock()
		if err := d.alive(ctx, gone); err != nil {
			return err
		}
	}
	return nil
}

func (d *Domain) wedge() {
	if d.wedged == nil {
		d.wedged = make(chan struct{})
	}
}

func (d *Domain) heal() {
	if d.wedged != nil {
		close(d.wedged)
		d.wedged = nil
	}
}

// stopped ends a run and tells clients.
func (d *Domain) stopped(reason, detail int32) {
	d.cut()
	d.set(stateOff, reason)
	d.server.lifecycle(d, eventStopped, detail)
	d.leave()
}

// die is what a killed hypervisor leaves.
func (d *Domain) die() {
	if d.active() {
		d.stopped(offCrashed, stoppedFailed)
	}
}

// Kill ends the machine's hypervisor as SIGKILL from someone else does: the
// domain is off, for the reason "crashed" (seen on libvirt 9.0.0). A machine that
// is off stays so.
func (d *Domain) Kill() {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	d.die()
}

// Wedge stops the machine's hypervisor as SIGSTOP does: the guest stands still,
// whatever needs the hypervisor's answer waits. State and destroy do not.
func (d *Domain) Wedge() {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	if d.active() {
		d.model.Pause()
		d.wedge()
	}
}

// Heal ends what Wedge and [Hang] at [PointMachine] began.
func (d *Domain) Heal() {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	d.heal()
	if d.state == stateRunning {
		d.model.Resume()
	}
}

// HoldLock makes the domain one that somebody works on without end: calls that
// change it wait, and are told in the end that they "cannot acquire state change
// lock". It waits for whoever works on it now; the function that it returns lets go.
func (d *Domain) HoldLock(ctx context.Context) (release func(), err error) {
	s := d.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := d.lock(ctx, "remoteDispatchDomainMigratePerform3Params"); err != nil {
		return nil, err
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		d.unlock()
	}, nil
}

// NewID gives a machine that runs another id, as its next run would have.
func (d *Domain) NewID() {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	if d.active() {
		d.id = d.server.nextID
		d.server.nextID++
	}
}

// guestPowerOff is called when the guest has switched itself off.
func (d *Domain) guestPowerOff() {
	s := d.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if !d.active() || s.closed {
		return
	}
	if d.again {
		// libvirt resets the machine then, and says nothing of its being off (seen on 9.0.0).
		d.again = false
		d.model.PowerOn()
		d.model.Resume()
		s.reboot(d)
		return
	}
	s.lifecycle(d, eventShutdown, shutdownGuest)
	d.stopped(offShutdown, stoppedShutdown)
}

// guestReset is called when the guest has reset itself, before it boots again.
func (d *Domain) guestReset() {
	s := d.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if !d.active() || s.closed {
		return
	}
	if d.def.child("on_reboot").content() == "destroy" {
		s.lifecycle(d, eventShutdown, shutdownGuest)
		d.stopped(offShutdown, stoppedShutdown)
		return
	}
	s.reboot(d)
}
