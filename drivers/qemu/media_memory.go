//go:build linux

package qemu

import (
	"os"
	"slices"
	"strings"
)

// device looks at a device: whether it takes a descriptor, and whether it keeps something that a restore cannot revert. What an
// nvdimm or virtio-pmem keeps is in its memory backend, which object looks at.
func (c *argChecker) device(value string) string {
	if problem := c.descriptors(value); problem != "" {
		return problem
	}
	if kind, _ := taken(value, "driver"); strings.HasPrefix(kind, "ivshmem") {
		return whyShared
	}
	return ""
}

// object looks at an object. The snapshot has the guest's memory, and that of an nvdimm; but what is shared with a file has been written
// to the file as well, and is there for the next run and for other machines. A directory is no such file: QEMU makes one in it
// that has no name (QEMU 7.2.22), as for huge pages.
func (c *argChecker) object(value string) string {
	if problem := c.descriptors(value); problem != "" {
		return problem
	}
	kind, has := taken(value, "qom-type")
	last := func(key string) string { return has[key][strings.LastIndexByte(has[key], ',')+1:] }
	on := []string{"on", "true", "yes", "y"}
	if kind != "memory-backend-file" || !slices.Contains(on, last("share")) || slices.Contains(on, last("readonly")) {
		return ""
	}
	if info, err := os.Stat(last("mem-path")); err == nil && info.IsDir() {
		return ""
	}
	return whyReverts + "; write share=off, with which what the guest writes is in the snapshot alone, or readonly=on"
}
