package libvirt

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/machineries/machineries/internal/qcow2"
)

// diskSlot is a place for a disk in a machine; what is in it changes from run to
// run.
type diskSlot struct {
	mu   sync.Mutex
	disk qcow2.Disk
}

var errNoMedium = errors.New("no medium")

// ReadAt implements guest.Disk.
func (s *diskSlot) ReadAt(p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.disk == nil {
		return 0, errNoMedium
	}
	return s.disk.ReadAt(p, off)
}

// WriteAt implements guest.Disk.
func (s *diskSlot) WriteAt(p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.disk == nil {
		return 0, errNoMedium
	}
	return s.disk.WriteAt(p, off)
}

func (s *diskSlot) insert(d qcow2.Disk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.disk != nil {
		s.disk.Close()
	}
	s.disk = d
}

// diskFormat is the format of a disk's image; raw is libvirt's default.
func diskFormat(disk *element) string {
	if f := disk.child("driver").attr("type"); f != "" {
		return f
	}
	return "raw"
}

// openMedia opens the disks, the serial port and the network cards of a run. Errors are what libvirt
// says where QEMU could not open them.
func (d *Domain) openMedia(def *element) error {
	for i, disk := range diskElements(def) {
		if i >= len(d.disks) || d.server.opts.Flavour == Test { // whose disks are names
			break
		}
		image, err := openDisk(disk)
		if err != nil {
			d.closeMedia()
			return err
		}
		d.disks[i].insert(image)
	}
	err := d.openSerial(def)
	if err == nil {
		err = d.openNetwork(def)
	}
	if err != nil {
		d.closeMedia()
	}
	return err
}

// openDisk opens a disk's image, writable unless the disk is not.
func openDisk(disk *element) (qcow2.Disk, error) {
	path := disk.child("source").attr("file")
	if path == "" {
		return nil, nil
	}
	image, err := qcow2.Open(path, qcow2.OpenOptions{Format: diskFormat(disk), ReadOnly: disk.child("readonly") != nil})
	if err == nil {
		return image, nil
	}
	const fromStorage = 18
	var backing *qcow2.BackingError
	var no syscall.Errno
	switch {
	case errors.As(err, &backing):
		return nil, exited("Could not open backing file: %s", backing)
	case errors.As(err, &no):
		return nil, failSystem(fromStorage, no, "Cannot access storage file '%s' (as uid:%d, gid:%d)", path, os.Getuid(), os.Getgid())
	}
	return nil, exited("Could not open '%s': %s", path, err)
}

// exited is what libvirt says where QEMU ended as it started, with QEMU's words.
func exited(format string, args ...any) *Error {
	return fail(codeInternal, fromQEMU, "process exited while connecting to monitor: "+format, args...)
}

// closeMedia lets go of disks, serial port and network cards. The model does not use them: the
// machine is off or paused.
func (d *Domain) closeMedia() {
	for _, s := range d.disks {
		s.insert(nil)
	}
	d.closeNetwork()
	d.model.Detach()
	if d.serial != nil {
		d.serial.close()
		d.serial = nil
	}
}

// serial is the listener of a serial port that clients connect to.
type serial struct {
	listen *net.UnixListener
}

func (s *serial) close() {
	if s.listen != nil {
		s.listen.Close()
	}
}

// openSerial connects the first serial port that is a unix socket.
func (d *Domain) openSerial(def *element) error {
	for _, port := range def.child("devices").all("serial") {
		if port.attr("type") != "unix" {
			continue
		}
		source := port.child("source")
		address := &net.UnixAddr{Name: source.attr("path"), Net: "unix"}
		if source.attr("mode") == "connect" {
			conn, err := net.DialUnix("unix", nil, address)
			if err != nil {
				return exited("-chardev socket,id=charserial0,path=%s: Failed to connect to '%s': %s", address.Name, address.Name, systemText(err))
			}
			d.model.Attach(conn)
			return nil
		}
		if err := os.Remove(address.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return failSystem(fromQEMU, err, "Unable to unlink %s", address.Name)
		}
		l, err := net.ListenUnix("unix", address)
		if err != nil {
			return failSystem(fromQEMU, err, "Failed to bind socket to %s", address.Name)
		}
		d.serial = &serial{listen: l}
		d.server.leaving.Go(func() { d.answerSerial(l) })
		return nil
	}
	return nil
}

// answerSerial takes connections to the serial port; as with QEMU, there is one
// at a time, and a further one takes its place here.
func (d *Domain) answerSerial(l *net.UnixListener) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return
		}
		d.model.Attach(conn)
	}
}

// systemText is an error of the operating system in the C library's words.
func systemText(err error) string {
	var no syscall.Errno
	if errors.As(err, &no) {
		return strerror(no)
	}
	return err.Error()
}
