package libvirt

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/machineries/machineries/fakes/guest"
)

// Flags of DomainCoreDump (VIR_DUMP_).
const (
	dumpCrash      = 1
	dumpReset      = 8
	dumpMemoryOnly = 16
)

// dumpFormats are VIR_DOMAIN_CORE_DUMP_FORMAT_, in their order. Of these Debian's
// QEMU has no kdump-lzo and kdump-snappy, and the fake writes only the first.
var dumpFormats = []string{"raw", "kdump-zlib", "kdump-lzo", "kdump-snappy", "win-dmp"}

var dumpProcedures = []procedure{
	remote(53, "DomainCoreDump", func(c *call, a *golibvirt.DomainCoreDumpArgs) (none, error) {
		return none{}, c.dump(a.Dom, a.To, 0, uint32(a.Flags), "testDomainCoreDump")
	}),
	remote(334, "DomainCoreDumpWithFormat", func(c *call, a *golibvirt.DomainCoreDumpWithFormatArgs) (none, error) {
		return none{}, c.dump(a.Dom, a.To, a.Dumpformat, uint32(a.Flags), "testDomainCoreDumpWithFormat")
	}),
}

func (c *call) dump(ref golibvirt.Domain, to string, format, flags uint32, function string) error {
	if c.opts.Flavour == Test {
		if flags&^dumpCrash != 0 {
			return failUnsupported(flags&^dumpCrash, function)
		}
		return fail(codeNoSupport, fromTest, "virDomainCoreDump")
	}
	return c.on(ref, fromDomain, func(d *Domain) error { return d.dump(c.ctx, to, format, flags) })
}

// failUnsupported is about flags that a function does not know.
func failUnsupported(flags uint32, function string) *Error {
	return fail(codeInvalidArg, fromTest, "unsupported flags (0x%x) in function %s", flags, function)
}

// dump writes the machine's memory to a file, which stands still meanwhile. As
// with libvirt 9.0.0 the file is the daemon's, with mode 0600.
func (d *Domain) dump(ctx context.Context, to string, format, flags uint32) error {
	gone := d.gone
	running := d.state == stateRunning
	if running {
		if err := d.suspend(ctx, pausedDump); err != nil {
			return err
		}
	}
	d.beginJob().fixed = true
	err := d.writeDump(ctx, gone, to, format, flags)
	if d.gone != gone || gone == nil {
		return err
	}
	switch {
	case err == nil && flags&dumpCrash != 0:
		d.stopped(offCrashed, stoppedFailed)
		return nil
	case err == nil && flags&dumpReset != 0:
		d.model.Reset()
		d.server.reboot(d)
	}
	if running && ctx.Err() == nil {
		err = errors.Join(err, d.resume(ctx))
	}
	return err
}

func (d *Domain) writeDump(ctx context.Context, gone chan struct{}, to string, format, flags uint32) error {
	switch {
	case flags&dumpMemoryOnly == 0:
		return fail(codeUnsupported, fromQEMU, "the fake libvirtd dumps memory only")
	case format >= uint32(len(dumpFormats)):
		return failArg(fromDomain, "dumpformat '%d' is not supported", format)
	case format != 0:
		return failArg(fromQEMU, "unsupported dumpformat '%s' for this QEMU binary", dumpFormats[format])
	case !filepath.IsAbs(to):
		return failArg(fromDomain, "could not build absolute core file path")
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return failSystem(fromQEMU, err, "Failed to create file '%s'", to)
	}
	err = d.monitor(ctx, gone, "dump")
	if err != nil {
		f.Close()
	} else {
		err = d.writeCore(ctx, gone, f, to)
	}
	if err != nil && ctx.Err() == nil { // a daemon that was killed removes nothing
		os.Remove(to)
	}
	return err
}

// writeCore has the hypervisor write the memory, with the server unlocked. The hypervisor goes on with it where the daemon ends meanwhile, as QEMU
// 7.2 does, and closes the file.
func (d *Domain) writeCore(ctx context.Context, gone chan struct{}, f *os.File, to string) error {
	s, memory, took, j := d.server, d.memory()<<10, d.server.opts.Durations.Dump, d.job
	done := make(chan error, 1)
	d.dumping = done
	s.leaving.Go(func() {
		err := d.copyCore(gone, f, memory, took, j)
		if err != nil {
			err = fail(codeInternal, fromQEMU, "unable to execute QEMU command 'dump-guest-memory': dump: failed to save memory: %s", systemText(err))
		}
		if cerr := f.Close(); err == nil && cerr != nil {
			err = failSystem(fromQEMU, cerr, "unable to close file '%s'", to)
		}
		s.mu.Lock()
		if d.dumping == done {
			d.dumping = nil
		}
		s.mu.Unlock()
		done <- err
	})
	s.mu.Unlock()
	var err error
	select {
	case err = <-done:
	case <-gone:
	case <-ctx.Done():
	}
	s.mu.Lock()
	if alive := d.alive(ctx, gone); alive != nil {
		return alive
	}
	return err
}

func (d *Domain) copyCore(gone chan struct{}, f *os.File, memory int64, took time.Duration, j *job) error {
	if _, err := f.Write(guest.CoreHeader(memory)); err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for at := int64(0); at < memory; at += int64(len(buf)) {
		part := buf[:min(int64(len(buf)), memory-at)]
		d.model.ReadMemory(part, at)
		if _, err := f.Write(part); err != nil {
			return err
		}
		d.server.mu.Lock()
		j.done = uint64(at) + uint64(len(part))
		d.server.mu.Unlock()
		select {
		case <-gone:
			return nil
		default:
		}
	}
	t := time.NewTimer(took)
	defer t.Stop()
	select {
	case <-t.C:
	case <-gone:
	}
	return nil
}
