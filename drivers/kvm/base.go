//go:build linux

package kvm

import (
	"fmt"
	"time"

	"github.com/machineries/machineries/drivers/internal/hostfile"
	"github.com/machineries/machineries/internal/qcow2"
)

// pair is a memory image and the files that the machine's disks are read from, as they were when they were taken for one that fits
// the other. What a guest has of its disks in memory would be wrong with others, and it would destroy its file systems.
//
// A change from before this driver first restored the machine cannot be told from a copy. A memory image that is another as well is
// taken for the one that belongs to the disks as they are. Whoever has the turn uses it.
type pair struct {
	image hostfile.Identity
	disks map[string]hostfile.Identity
}

// fits is an error that names the disk if one of them, or a file that it is based on, is not as it was when the image was first
// restored. The pair remembers both otherwise.
func (p *pair) fits(image string, overlays []overlay) error {
	now := pair{disks: map[string]hostfile.Identity{}}
	var err error
	if now.image, err = hostfile.Identify(image); err != nil {
		return err
	}
	for _, o := range overlays {
		chain, _ := qcow2.Chain(o.base.Path) // what cannot be read of it QEMU says better
		for _, below := range chain {
			if now.disks[below.Path], err = hostfile.Identify(below.Path); err != nil {
				return err
			}
		}
	}
	if p.disks == nil || p.image != now.image {
		*p = now
		return nil
	}
	for path, id := range now.disks {
		if before, known := p.disks[path]; known && before != id {
			return &unusable{fmt.Errorf("%s has changed since the memory image %s was first restored (written %s, before %s); put it back as it was, or save the machine's memory anew",
				path, image, id.Modified.Format(time.RFC3339Nano), before.Modified.Format(time.RFC3339Nano))}
		}
	}
	return nil
}
