//go:build linux

package qemu

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/machineries/machineries/internal/qcow2"
)

// blockCommands tell of disks.
var blockCommands = map[string]command{
	"query-block":             {run: queryBlock},
	"query-blockstats":        {args: []arg{{name: "query-nodes", kind: kindBool, optional: true}}, run: queryBlockStats},
	"query-named-block-nodes": {args: []arg{{name: "flat", kind: kindBool, optional: true}}, run: queryNodes},
}

// device is QEMU's name for the drive: "ide0-hd0", "virtio0" or its id.
func (d *drive) device(machine string) string {
	if d.id != "" {
		return d.id
	}
	n, _ := strconv.Atoi(d.opts.get("index"))
	switch d.iface {
	case "virtio", "none", "pflash", "floppy":
		return d.iface + strconv.Itoa(n)
	}
	kind := "hd"
	if d.media == "cdrom" {
		kind = "cd"
	}
	perBus := 2
	if strings.Contains(machine, "q35") {
		perBus = 1
	}
	return fmt.Sprintf("%s%d-%s%d", d.iface, n/perBus, kind, n%perBus)
}

func queryBlock(m *machine, _ *session, _ *dict) (any, error) {
	list := []any{}
	for i, dr := range m.drives {
		removable := dr.media == "cdrom" || dr.iface == "floppy"
		e := d("device", dr.device(m.machine), "locked", false, "removable", removable, "type", "unknown")
		if dr.attached {
			e.set("qdev", fmt.Sprintf("/machine/unattached/device[%d]", 17+i))
			if dr.iface != "floppy" {
				e.set("io-status", "ok")
			}
		}
		if removable {
			e.set("tray_open", false)
		}
		e.set("inserted", m.inserted(dr, dr.format, nodeName(i, 0)))
		list = append(list, e)
	}
	return list, nil
}

// statNames are the counters of query-blockstats, which the fake does not keep.
var statNames = strings.Fields(`rd_bytes wr_bytes unmap_bytes rd_operations wr_operations flush_operations unmap_operations rd_total_time_ns wr_total_time_ns
	flush_total_time_ns unmap_total_time_ns wr_highest_offset rd_merged wr_merged unmap_merged failed_rd_operations failed_wr_operations
	failed_flush_operations failed_unmap_operations invalid_rd_operations invalid_wr_operations invalid_flush_operations invalid_unmap_operations`)

func blockStats(attached bool) *dict {
	o := d()
	for _, n := range statNames {
		o.set(n, 0)
	}
	o.set("account_invalid", attached)
	o.set("account_failed", attached)
	o.set("timed_stats", []any{})
	return o
}

func queryBlockStats(m *machine, _ *session, _ *dict) (any, error) {
	list := []any{}
	for i, dr := range m.drives {
		e := d("device", dr.device(m.machine), "node-name", nodeName(i, 0), "stats", blockStats(true), "parent", d("node-name", nodeName(i, 1), "stats", blockStats(false),
			"driver-specific", d("driver", "file", "discard-nb-ok", 0, "discard-nb-failed", 0, "discard-bytes-ok", 0)))
		if dr.attached {
			e.set("qdev", fmt.Sprintf("/machine/unattached/device[%d]", 17+i))
		}
		list = append(list, e)
	}
	return list, nil
}

func nodeName(drive, layer int) string { return fmt.Sprintf("#block%d%02d", drive+1, layer) }

func queryNodes(m *machine, _ *session, args *dict) (any, error) {
	list := []any{}
	for i, dr := range m.drives {
		list = append(list, m.inserted(dr, dr.format, nodeName(i, 0)), m.inserted(dr, "file", nodeName(i, 1)))
	}
	return list, nil
}

// inserted describes a drive's image, or the file that it is in.
func (m *machine) inserted(dr *drive, driver, node string) *dict {
	top := dr.chain[0]
	image := d("virtual-size", top.VirtualSize, "filename", dr.file, "format", driver, "dirty-flag", false)
	var st syscall.Stat_t
	if syscall.Stat(dr.file, &st) == nil {
		image.set("actual-size", st.Blocks*512)
	}
	depth := 0
	if driver == "file" {
		image.set("virtual-size", top.FileSize)
	}
	if driver == "qcow2" {
		describeQcow2(image, top)
		depth = len(dr.chain) - 1
	}
	o := d("file", dr.file, "node-name", node, "ro", dr.readOnly, "drv", driver, "backing_file_depth", depth, "encrypted", false,
		"detect_zeroes", "off", "bps", 0, "bps_rd", 0, "bps_wr", 0, "iops", 0, "iops_rd", 0, "iops_wr", 0, "write_threshold", 0,
		"cache", d("writeback", true, "direct", false, "no-flush", false), "image", image)
	if driver == "qcow2" && top.BackingFile != "" {
		o.set("backing_file", top.BackingFile)
	}
	return o
}

// describeQcow2 adds what qemu-img info and query-block say of a qcow2 image.
func describeQcow2(image *dict, info qcow2.Info) {
	image.set("cluster-size", 1<<info.ClusterBits)
	compat := "1.1"
	if info.Version == 2 {
		compat = "0.10"
	}
	data := d("compat", compat, "compression-type", info.Compression, "refcount-bits", info.RefcountBits)
	if info.Version == 3 {
		data.set("lazy-refcounts", info.LazyRefcounts)
		data.set("corrupt", info.Incompatible&qcow2.FeatureCorrupt != 0)
		data.set("extended-l2", info.Incompatible&qcow2.FeatureExtendedL2 != 0)
	}
	image.set("format-specific", d("type", "qcow2", "data", data))
	if info.BackingFile != "" {
		image.set("backing-filename", info.BackingFile)
		if full, err := qcow2.Resolve(info.Path, info.BackingFile); err == nil {
			image.set("full-backing-filename", full)
		}
		if info.BackingFormat != "" {
			image.set("backing-filename-format", info.BackingFormat)
		}
	}
}

// activate makes the machine the owner of its disks.
func (m *machine) activate() error {
	for _, dr := range m.drives {
		if err := dr.activate(); err != nil {
			return generic("%s", err.Error())
		}
	}
	return nil
}

// deactivate gives the disks up, for the machine that a state was sent to.
func (m *machine) deactivate() {
	for _, dr := range m.drives {
		dr.deactivate()
	}
}

// guestDisk is what the guest model reads and writes: the first disk, as long as the
// machine owns it.
type guestDisk struct {
	m      *machine
	number int
}

func (g guestDisk) open() (qcow2.Disk, error) {
	number := 0
	for _, dr := range g.m.drives {
		if dr.attached && dr.media != "cdrom" && dr.iface != "pflash" && dr.iface != "floppy" {
			if number++; number <= g.number {
				continue
			}
			if dr.disk == nil {
				return nil, os.ErrClosed
			}
			return dr.disk, nil
		}
	}
	return nil, os.ErrNotExist
}

func (g guestDisk) ReadAt(p []byte, off int64) (int, error) {
	disk, err := g.open()
	if err != nil {
		return 0, err
	}
	return disk.ReadAt(p, off)
}

func (g guestDisk) WriteAt(p []byte, off int64) (int, error) {
	disk, err := g.open()
	if err != nil {
		return 0, err
	}
	return disk.WriteAt(p, off)
}
