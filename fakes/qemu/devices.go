//go:build linux

package qemu

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func (m *machine) setUpDrives() error {
	def := "ide"
	taken := map[string]bool{}
	for _, o := range append(append([]driveOption(nil), m.config.drives...), m.blockdev...) {
		if err := o.check(def); err != nil {
			return failAt(o.option, err)
		}
		if o.opts.has("index") && o.iface != "none" {
			n, _ := strconv.Atoi(o.opts.get("index"))
			key := o.iface + strconv.Itoa(n)
			if taken[key] {
				return failAt(o.option, fmt.Errorf("drive with bus=%d, unit=%d (index=%d) exists", n/2, n%2, n))
			}
			taken[key] = true
		}
		if path := o.opts.get("file"); strings.HasPrefix(path, "/dev/fdset/") {
			id, _ := strconv.Atoi(strings.TrimPrefix(path, "/dev/fdset/"))
			set := m.set(id)
			if set == nil {
				return failAt(o.option, fmt.Errorf("Could not dup FD for %s flags 0: No such file or directory", path))
			}
			o.opts.set("file", fmt.Sprintf("/proc/self/fd/%d", set.writable()))
		}
		dr, err := openDrive(o, m.snapshot, func(w string) { io.WriteString(m.stderr, w) })
		if err == nil && dr != nil && m.incoming == nil {
			err = dr.lock()
		}
		if err != nil {
			return failAt(o.option, err)
		}
		if dr == nil {
			continue
		}
		m.drives = append(m.drives, dr)
	}
	return nil
}

// writable is a descriptor of the set that can be written, or any.
func (s *fdset) writable() int {
	for _, f := range s.fds {
		if flags, err := unix.FcntlInt(uintptr(f.fd), unix.F_GETFL, 0); err == nil && flags&unix.O_ACCMODE == unix.O_RDWR {
			return f.fd
		}
	}
	return s.fds[0].fd
}

// setUpDevices knows the devices that a machine's command line has: disks, which are
// attached to drives, network cards, and others by their names alone.
func (m *machine) setUpDevices() error {
	for _, dev := range m.devices {
		driver := dev.opts.get("driver")
		id := dev.opts.get("drive")
		disk := oneOf(driver, diskDevices)
		switch {
		case strings.HasPrefix(driver, "nope") || driver == "":
			return failAt(dev.option, fmt.Errorf("'%s' is not a valid device model name", driver))
		case disk && id == "" && strings.HasPrefix(driver, "virtio-blk"):
			return failAt(dev.option, errors.New("drive property not set"))
		case disk && id == "" && (driver == "ide-hd" || driver == "scsi-hd" || driver == "nvme"):
			return failAt(dev.option, errors.New("No drive specified"))
		case disk && id != "":
			dr := m.driveByID(id)
			if dr == nil {
				shown := driver
				if strings.HasPrefix(driver, "virtio-blk") {
					shown = "virtio-blk-device"
				}
				return failAt(dev.option, fmt.Errorf("Property '%s.drive' can't find value '%s'", shown, id))
			}
			if dr.attached {
				return failAt(dev.option, fmt.Errorf("Drive '%s' is already in use by another device", id))
			}
			dr.attached = true
			dr.unlock() // a device needs more than a drive without one
			if m.incoming == nil {
				if err := dr.lock(); err != nil {
					return failAt(dev.option, err)
				}
			}
		}
		if n := dev.opts.get("netdev"); n != "" && !m.netdevs[n] {
			return failAt(dev.option, fmt.Errorf("Property '%s.netdev' can't find value '%s'", driver, n))
		}
	}
	if m.kernel != "" {
		if _, err := os.Stat(m.kernel); err != nil {
			return fail("qemu: could not open kernel file '%s': %s", m.kernel, strerror(err))
		}
	}
	return m.setUpSerials()
}

var diskDevices = strings.Fields("ide-hd ide-cd scsi-hd scsi-cd virtio-blk virtio-blk-pci virtio-blk-device usb-storage nvme floppy")

func (m *machine) driveByID(id string) *drive {
	for _, dr := range m.drives {
		if dr.id == id {
			return dr
		}
	}
	return nil
}

// setUpSerials connects the first serial port to the guest; further ones are opened
// and stay silent.
func (m *machine) setUpSerials() error {
	for i, o := range m.serials {
		if o.arg == "none" {
			continue
		}
		var c *chardev
		if id, ok := strings.CutPrefix(o.arg, "chardev:"); ok {
			if c = m.findChardev(id); c == nil {
				return failAt(o, fmt.Errorf("could not connect serial device to character backend '%s'", o.arg))
			}
			if c.used {
				fmt.Fprintf(m.stderr, "Unexpected error in qemu_chr_fe_init() at ../../chardev/char-fe.c:220:\n%s: Device '%s' is in use\n", m.prog, id)
				return &exitError{134, ""} // QEMU aborts
			}
		} else {
			v, err := shortChardev(o.arg)
			if err == nil {
				c, err = openChardev(chardevOption{o, "serial" + strconv.Itoa(i), v})
			}
			if err != nil {
				return fail("%s%v\n%s: %scould not connect serial device to character backend '%s'", o.where(), err, m.prog, o.where(), o.arg)
			}
			m.chardevs = append(m.chardevs, c)
		}
		c.used = true
		if i > 0 {
			continue
		}
		// Who is connected already must not miss the guest's first words.
		var first *notify
		if c.there {
			conn, err := c.next()
			if err != nil {
				return failAt(o, err)
			}
			first = m.attach(c, conn)
		}
		go m.serveSerial(c, first)
	}
	return nil
}
