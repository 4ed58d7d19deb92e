//go:build linux

package qemu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/machineries/machineries/internal/qcow2"
)

// driveOption is a -drive, -hda, -cdrom, ... as it was written.
type driveOption struct {
	option
	opts  *opts
	iface string // ide, virtio, none, ...
	id    string
	media string
}

// The values of -drive that have a list of their own.
var (
	interfaces = strings.Fields("ide scsi floppy pflash mtd sd virtio xen none")
	driveNames = words(`file if bus unit index media id format snapshot cache aio discard copy-on-read cache-size readonly read-only
		werror rerror serial detect-zeroes driver node-name auto-read-only force-share rw locking bps iops bps_rd bps_wr iops_rd iops_wr
		lazy-refcounts l2-cache-size refcount-cache-size overlap-check throttling.group cache.direct cache.no-flush cache.writeback backing addr`)
	cacheModes   = strings.Fields("none off writeback writethrough directsync unsafe")
	errorActions = strings.Fields("ignore enospc stop report")
)

func (p *lineParser) drive(o option, name string) error {
	d := driveOption{option: o}
	switch name {
	case "drive":
		d.opts = p.parse(o, "")
		// A first word without a name is a boolean here too.
	default:
		d.opts = &opts{values: map[string]string{}}
		d.opts.set("file", o.arg)
		switch name {
		case "cdrom":
			d.opts.set("media", "cdrom")
			d.opts.set("index", "2")
		case "fda", "fdb":
			d.opts.set("if", "floppy")
			d.opts.set("index", strconv.Itoa(int(name[2]-'a')))
		case "pflash":
			d.opts.set("if", "pflash")
		default:
			d.opts.set("index", strconv.Itoa(int(name[2]-'a')))
		}
	}
	d.id, d.iface, d.media = d.opts.get("id"), d.opts.get("if"), d.opts.get("media")
	if d.opts.has("id") && !identifier(d.id) {
		return errors.New(idHelp)
	}
	for _, other := range p.drives {
		if d.id != "" && other.id == d.id {
			return fmt.Errorf("Duplicate ID '%s' for drive", d.id)
		}
	}
	p.drives = append(p.drives, d)
	return nil
}

func (p *lineParser) blockdevOption(o option) error {
	v := p.parse(o, "driver")
	if !oneOf(v.get("driver"), []string{"file", "raw", "qcow2", "host_device", "null-co", "null-aio"}) {
		return fmt.Errorf("Parameter 'driver' does not accept value '%s'", v.get("driver"))
	}
	if v.get("driver") == "file" && !v.has("filename") {
		return errors.New("Parameter 'filename' is missing")
	}
	p.blockdev = append(p.blockdev, driveOption{option: o, opts: v, id: v.get("node-name"), iface: "none"})
	return nil
}

// check looks at the values that QEMU refuses before it opens the file.
func (d *driveOption) check(defaultInterface string) error {
	if d.iface == "" {
		d.iface = defaultInterface
	}
	switch {
	case !oneOf(d.iface, interfaces):
		return fmt.Errorf("unsupported bus type '%s'", d.iface)
	case d.media != "" && d.media != "disk" && d.media != "cdrom":
		return fmt.Errorf("'%s' invalid media", d.media)
	case d.opts.has("cache") && !oneOf(d.opts.get("cache"), cacheModes):
		return errors.New("invalid cache option")
	case d.opts.has("werror") && !oneOf(d.opts.get("werror"), errorActions):
		return fmt.Errorf("'%s' invalid write error action", d.opts.get("werror"))
	case d.opts.has("rerror") && !oneOf(d.opts.get("rerror"), errorActions):
		return fmt.Errorf("'%s' invalid read error action", d.opts.get("rerror"))
	}
	for _, key := range []string{"index", "bus", "unit"} {
		if d.opts.has(key) {
			if _, err := strconv.ParseUint(d.opts.get(key), 0, 31); err != nil {
				return fmt.Errorf("Parameter '%s' expects a number", key)
			}
		}
	}
	for _, key := range []string{"readonly", "snapshot"} {
		if _, err := d.opts.bool(key, false); err != nil {
			if key == "readonly" {
				return errors.New("Parameter 'read-only' expects 'on' or 'off'")
			}
			return err
		}
	}
	if f := d.opts.get("format"); f != "" && !oneOf(f, []string{"raw", "qcow2", "vmdk", "vdi", "vpc", "vhdx", "qed", "qcow", "luks", "parallels", "dmg", "bochs", "cloop"}) {
		return fmt.Errorf("Unknown driver '%s'", f)
	}
	if !d.opts.has("file") && d.opts.get("driver") == "" && len(d.opts.keys) > 0 && d.iface != "none" && d.media != "cdrom" {
		for _, k := range d.opts.keys {
			if !driveNames[k] {
				return errors.New("Must specify either driver or file")
			}
		}
	}
	if d.opts.has("file") && d.opts.get("file") == "" && d.media != "cdrom" {
		return errors.New("A block device must be specified for \"file\"")
	}
	return nil
}

// drive is an open image.
type drive struct {
	driveOption
	file     string
	format   string
	readOnly bool
	snapshot bool
	chain    []qcow2.Info
	attached bool // to a device
	disk     qcow2.Disk
	locks    []lockedFile
	temp     string // the throw-away overlay of snapshot=on
}

type lockedFile struct {
	f      *os.File
	name   string
	how    locking
	prefix string
}

// openDrive opens the image of a drive, unlocked. fdsets are the descriptors that
// /dev/fdset/N means. A drive without a file is nil.
func openDrive(o driveOption, snapshot bool, warn func(string)) (*drive, error) {
	file := o.opts.get("file")
	if file == "" {
		file = o.opts.get("filename")
	}
	if file == "" {
		return nil, nil
	}
	d := &drive{driveOption: o, file: file, format: o.opts.get("format"), attached: o.iface != "none"}
	d.readOnly, _ = o.opts.bool("readonly", o.media == "cdrom")
	d.snapshot, _ = o.opts.bool("snapshot", snapshot)
	if rest, ok := strings.CutPrefix(file, "file:"); ok {
		file = rest
	} else if proto, _, ok := strings.Cut(file, ":"); ok && !strings.Contains(proto, "/") {
		return nil, fmt.Errorf("Unknown protocol '%s'", proto)
	}
	d.file = file
	if err := openable(file, d.readOnly || d.snapshot); err != nil {
		return nil, err
	}
	if err := d.inspect(warn); err != nil {
		return nil, err
	}
	return d, nil
}

// openable says why QEMU could not open the file, in its words.
func openable(file string, readOnly bool) error {
	if st, err := os.Stat(file); err == nil && st.IsDir() {
		return fmt.Errorf("'file' driver requires '%s' to be a regular file", file)
	}
	flag := os.O_RDWR
	if readOnly {
		flag = os.O_RDONLY
	}
	f, err := os.OpenFile(file, flag|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("Could not open '%s': %s", file, strerror(err))
	}
	return f.Close()
}

// inspect learns the chain and the format, and refuses what is broken.
func (d *drive) inspect(warn func(string)) error {
	probed := d.format == ""
	info, err := qcow2.Inspect(d.file)
	if probed && info.Format != "" {
		d.format = info.Format
	}
	if probed && info.Format == "raw" {
		warn(fmt.Sprintf("WARNING: Image format was not specified for '%s' and probing guessed raw.\n"+
			"         Automatically detecting the format is dangerous for raw images, write operations on block 0 will be restricted.\n"+
			"         Specify the 'raw' format explicitly to remove the restrictions.\n", d.file))
	}
	for _, k := range d.opts.keys {
		if !driveNames[k] && !strings.Contains(k, ".") && d.name == "drive" {
			return fmt.Errorf("Block format '%s' does not support the option '%s'", d.format, k)
		}
	}
	if d.format == "raw" {
		d.chain = []qcow2.Info{{Path: d.file, Format: "raw", VirtualSize: (info.FileSize + 511) &^ 511, FileSize: info.FileSize}}
		return nil
	}
	if d.format != "qcow2" {
		return fmt.Errorf("Unknown driver '%s'", d.format)
	}
	if err != nil {
		return errors.New(imageProblem(err))
	}
	if info.Format != "qcow2" {
		return errors.New("Image is not in qcow2 format")
	}
	d.chain, err = qcow2.Chain(d.file)
	if err != nil {
		last := d.chain[len(d.chain)-1]
		below, rerr := qcow2.Resolve(last.Path, last.BackingFile)
		if rerr != nil {
			below = last.BackingFile
		}
		var pe *fs.PathError
		if errors.As(err, &pe) {
			return fmt.Errorf("Could not open backing file: Could not open '%s': %s", below, strerror(pe))
		}
		return fmt.Errorf("Could not open backing file: %s", imageProblem(err))
	}
	return nil
}

func imageProblem(err error) string {
	var bad *qcow2.FormatError
	if errors.As(err, &bad) {
		return bad.Problem
	}
	return strerror(err)
}

// lock locks every image of the chain, as QEMU does when the machine becomes the
// owner of its disks: at the start, or when an incoming state has been loaded.
func (d *drive) lock() error {
	if len(d.locks) > 0 {
		return nil
	}
	for i, info := range d.chain {
		prefix := ""
		if i > 0 {
			prefix = "Could not open backing file: "
		}
		readOnly := i > 0 || d.readOnly || d.snapshot
		flag := os.O_RDWR
		if readOnly {
			flag = os.O_RDONLY
		}
		f, err := os.OpenFile(info.Path, flag|syscall.O_NONBLOCK, 0)
		if err != nil {
			d.unlock()
			return fmt.Errorf("%sCould not open '%s': %s", prefix, info.Path, strerror(err))
		}
		how := lockingOf(info.Format, readOnly, d.attached)
		if d.snapshot && i == 0 && info.Format == "raw" {
			how = locking{used: permRead, denied: permWrite | permResize}
		}
		d.locks = append(d.locks, lockedFile{f: f, name: info.Path, how: how, prefix: prefix})
		if err := lockFile(f, info.Path, how); err != nil {
			d.unlock()
			return fmt.Errorf("%s%w", prefix, err)
		}
	}
	return nil
}

func (d *drive) unlock() {
	for _, l := range d.locks {
		l.f.Close()
	}
	d.locks = nil
}

// activate opens the disk for the guest; deactivate lets go of it, so that another
// machine may have it.
func (d *drive) activate() error {
	if d.disk != nil {
		return nil
	}
	if err := d.lock(); err != nil {
		return err
	}
	path, format := d.file, d.format
	if d.snapshot && !d.readOnly {
		f, err := os.CreateTemp(os.Getenv("TMPDIR"), "vl.") // QEMU's name for it
		if err != nil {
			return err
		}
		d.temp = f.Name()
		f.Close()
		if err := os.Remove(d.temp); err != nil {
			return err
		}
		abs, err := filepath.Abs(d.file)
		if err != nil {
			return err
		}
		if err := qcow2.CreateOverlay(d.temp, abs, d.format, max(d.chain[0].VirtualSize, 512)); err != nil {
			return err
		}
		path, format = d.temp, "qcow2"
	}
	disk, err := qcow2.Open(path, qcow2.OpenOptions{Format: format, ReadOnly: d.readOnly})
	if d.temp != "" {
		os.Remove(d.temp) // as QEMU does: it lives as long as it is open
	}
	if err != nil {
		d.unlock()
		return errors.New(imageProblem(err))
	}
	d.disk = disk
	return nil
}

func (d *drive) deactivate() error {
	var err error
	if d.disk != nil {
		err = d.disk.Close()
		d.disk = nil
	}
	d.unlock()
	return err
}

// strerror is the operating system's text for an error, as C programs print it.
func strerror(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		if s, ok := cErrors[errno]; ok {
			return s
		}
		s := errno.Error()
		return strings.ToUpper(s[:1]) + s[1:]
	}
	return err.Error()
}

// cErrors are texts that differ from Go's by more than the first letter.
var cErrors = map[syscall.Errno]string{
	syscall.EIO: "Input/output error", syscall.EEXIST: "File exists", syscall.EISDIR: "Is a directory", syscall.ENAMETOOLONG: "File name too long",
	syscall.ELOOP: "Too many levels of symbolic links", syscall.EPIPE: "Broken pipe",
}
