//go:build linux

package qemu

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/machineries/machineries/drivers/internal/hostfile"
	"github.com/machineries/machineries/drivers/internal/outfile"
	"github.com/machineries/machineries/internal/qcow2"
)

// medium is something besides the disposable disk that the guest can write to: a second disk, a floppy, the variables of
// firmware. At each start it gets an overlay of its own, and the argument that names it names the overlay.
type medium struct {
	arg    int    // which of the arguments names it
	path   string // the file, which nothing writes to
	format string // what the argument says that it is: qcow2, raw, or empty where QEMU would look
	// rewrite changes the argument to name an overlay instead of the file. To the device in the guest it makes no difference what is
	// below it: a snapshot that was made on a raw file loads above it (QEMU 7.2.22).
	rewrite func(args []string, overlay string)
}

// check says what the medium is, as the base of an overlay, or why it cannot be one.
func (m medium) check() (qcow2.Info, error) {
	f, err := hostfile.OpenRegular(m.path)
	if err != nil {
		return qcow2.Info{}, err
	}
	defer f.Close()
	info, err := qcow2.Inspect(m.path)
	if m.format == "raw" {
		// QEMU believes what it is told, and so a guest cannot make another format of a raw disk by writing to it.
		if err != nil && info.Format == "" {
			return info, err
		}
		info = qcow2.Info{Path: m.path, Format: "raw", VirtualSize: (info.FileSize + 511) &^ 511, FileSize: info.FileSize}
	} else if err != nil {
		return info, fmt.Errorf("%s: %w", m.path, err)
	}
	switch {
	case m.format != "" && info.Format != m.format:
		return info, fmt.Errorf("%s is an image of format %s, and the argument says %s", m.path, info.Format, m.format)
	case info.Format != "qcow2" && info.Format != "raw":
		return info, fmt.Errorf("%s is an image of format %s; only qcow2 and raw are supported (qemu-img convert makes one)", m.path, info.Format)
	case info.VirtualSize == 0:
		return info, fmt.Errorf("%s is empty", m.path)
	case info.Encrypted:
		return info, fmt.Errorf("%s is encrypted, which is not supported", m.path)
	case info.Incompatible&qcow2.FeatureExternalData != 0:
		return info, fmt.Errorf("%s keeps its data in another file, which is not supported", m.path)
	case info.Incompatible&qcow2.FeatureCorrupt != 0:
		return info, fmt.Errorf("%s is marked as corrupt; qemu-img check says more", m.path)
	}
	return info, nil
}

// localFile is the path that QEMU takes a file name for; false for what it would reach by another protocol than plain files.
func localFile(name string) (string, bool) {
	name, file := strings.CutPrefix(name, "file:")
	protocol, _, has := strings.Cut(name, ":")
	if name == "" || !file && has && !strings.Contains(protocol, "/") {
		return "", false
	}
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return "", false
	}
	return outfile.RealPath(name), true
}

// plainMedium is a medium whose argument is its path and no more.
func (c *argChecker) plainMedium(path string) string {
	local, is := localFile(path)
	if !is {
		return whyReverts + "; only files can be reverted (use -drive with readonly=on or snapshot=on for another)"
	}
	at := c.at
	c.media = append(c.media, medium{arg: at, path: local, rewrite: func(args []string, overlay string) { args[at] = overlay }})
	return ""
}

// driveMedium is a medium that is given by -drive.
func (c *argChecker) driveMedium(value string) string {
	const instead = "; write file=PATH and format=qcow2 or format=raw, or add readonly=on or snapshot=on"
	list := settings(value)
	m := medium{arg: c.at}
	named, nodes := -1, []int(nil)
	for i, s := range list {
		inner, isFile := strings.CutPrefix(s.key, "file.")
		switch {
		case s.key == "file" || s.key == "file.filename":
			path, is := localFile(s.value)
			if !is {
				return whyReverts + " (" + s.value + " is not a plain file)" + instead
			}
			if named >= 0 {
				return "it names two files" + instead
			}
			named, m.path = i, path
		case s.key == "format" || s.key == "driver":
			if s.value != "qcow2" && s.value != "raw" {
				return whyReverts + ", because its format is " + s.value + instead
			}
			if m.format != "" && m.format != s.value {
				return "it names two formats" + instead
			}
			nodes, m.format = append(nodes, i), s.value
		case isFile && !(inner == "driver" && s.value == "file") && !slices.Contains([]string{"aio", "locking"}, inner),
			strings.HasPrefix(s.key, "backing"), s.key == "data-file", strings.HasPrefix(s.key, "data-file."), s.key == "offset", s.key == "size":
			return whyReverts + ", because of " + s.key + instead
		}
	}
	m.rewrite = func(args []string, overlay string) {
		list := slices.Clone(list)
		list[named].value = overlay
		for _, i := range nodes {
			list[i].value = "qcow2"
		}
		args[m.arg] = unsettings(list)
	}
	c.media = append(c.media, m)
	return ""
}

// unsettings is the other way of settings.
func unsettings(list []setting) string {
	parts := make([]string, len(list))
	for i, s := range list {
		parts[i] = strings.ReplaceAll(s.key+"="+s.value, ",", ",,")
	}
	return strings.Join(parts, ",")
}

// overlayPaths are where a machine's overlays go: that of the disk first, and those of its other media in the order of the
// arguments, beside it and numbered from 2.
func overlayPaths(first string, media int) []string {
	paths := []string{first}
	for i := range media {
		paths = append(paths, strings.TrimSuffix(first, filepath.Ext(first))+fmt.Sprintf("-%d.qcow2", i+2))
	}
	return paths
}

// below is what the machine's overlays go above, in the order of their paths.
func (v *vm) below() ([]qcow2.Info, error) {
	disk, err := checkDisk(v.conf.Disk)
	if err != nil {
		return nil, fmt.Errorf("the machine's disk cannot be used: %w", err)
	}
	list := []qcow2.Info{disk}
	for _, m := range v.media() {
		info, err := m.check()
		if err != nil {
			return nil, fmt.Errorf("a medium of the machine cannot be used (argument %d): %w", m.arg+1, err)
		}
		list = append(list, info)
	}
	return list, nil
}

// media are those of the machine besides its disk.
func (v *vm) media() []medium {
	if v.args == nil {
		return nil
	}
	return v.args.media
}
