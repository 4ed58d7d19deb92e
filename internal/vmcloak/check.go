package vmcloak

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/machineries/machineries/internal/qemuargs"
	"github.com/machineries/machineries/internal/vmstate"
)

// Options are what a machine is held against.
type Options struct {
	// QEMU is the version of the QEMU that is to run it, such as "7.2.22". Empty if that is not known.
	QEMU string
	// Review is what the driver that is to run it says of its arguments and its disk's path, one sentence each; nil if there is none
	// to ask. Arguments that QEMU itself has not any more are not among those that it gets.
	Review func(args []string, disk string) []string
	// Quick leaves a packed snapshot unread but for its beginning. Reading a gigabyte takes some seconds.
	Quick bool
}

// placeholder stands for the path of the disk's overlay in the arguments.
const placeholder = "%DISPOSABLE_DISK_PATH%"

// Check is all that will not work with the machine as it is, one sentence each; nothing if it is well. If ctx ends, the rest is left out.
func (m *Machine) Check(ctx context.Context, o Options) []string {
	var found []string
	if text := m.Renamed(); text != "" {
		found = append(found, text)
	}
	owners := strangers(m.InfoPath, m.DiskPath, m.SnapshotPath)
	for _, owner := range slices.Sorted(maps.Keys(owners)) {
		found = append(found, fmt.Sprintf("%s belongs to %s, who can change it at any time, and this runs as %s: run it as the owner, or give the files to the user that the sandbox runs as",
			strings.Join(owners[owner], ", "), owner, me()))
	}
	switch err := checkDisk(m.DiskPath); {
	case errors.Is(err, errNoHeader):
		found = append(found, "the disk "+err.Error())
	case err != nil:
		found = append(found, "the disk cannot be used: "+err.Error())
	}
	snapshot, err := examine(ctx, m.SnapshotPath, o.Quick)
	if errors.Is(err, vmstate.ErrNoDescription) {
		found = append(found, "the snapshot "+err.Error())
	} else if err != nil && ctx.Err() == nil {
		found = append(found, "the snapshot is not what QEMU could restore whole: "+err.Error())
	}
	found = append(found, m.versions(o.QEMU, snapshot.MachineType)...)
	gone, left := qemuargs.Gone(m.StartArgs)
	found = append(found, gone...)
	if o.Review != nil {
		return append(found, o.Review(left, m.DiskPath)...)
	}
	if !slices.ContainsFunc(left, func(arg string) bool { return strings.Contains(arg, placeholder) }) {
		found = append(found, fmt.Sprintf("no argument has %s in it, so the machine would have no disk or write to its base", placeholder))
	}
	return found
}

// Renamed is what Check says of a machine whose directory has another name than it; empty for one that has the same.
func (m *Machine) Renamed() string {
	base := filepath.Base(m.Dir)
	if base == m.Name {
		return ""
	}
	return fmt.Sprintf("its directory is called %q, and its %s says that it is %q: it was renamed or is a copy of another", base, InfoName, m.Name)
}

// versions is what the QEMU that made the snapshot and the one that is to load it have to do with each other.
func (m *Machine) versions(installed, saved string) []string {
	var found []string
	here, known := qemuargs.ParseVersion(installed)
	if !known {
		return nil
	}
	option, wanted := qemuargs.MachineType(m.StartArgs)
	if by, ok := qemuargs.ParseVersion(m.MachineryVersion); ok && by.Major != here.Major {
		text := fmt.Sprintf("its snapshot was made by QEMU %s, and QEMU %s is installed, which may not load it", m.MachineryVersion, installed)
		if !wanted.Versioned() {
			text += fmt.Sprintf(", as %s is another machine in each version", option)
		}
		found = append(found, text+"; install that version, or make the snapshot anew if the machine does not start")
	}
	if _, ok := qemuargs.ParseVersion(m.MachineryVersion); !ok && m.MachineryVersion != "" {
		found = append(found, fmt.Sprintf("its %s says that QEMU %s made its snapshot, which is no version, so whether that fits QEMU %s is not known", InfoName, qemuargs.Quoted(m.MachineryVersion), installed))
	}
	if text := qemuargs.OtherType(saved, m.StartArgs, here); text != "" {
		found = append(found, text+" in "+InfoName)
	}
	return found
}

// examine looks at a memory snapshot. What was found is returned with the error, too.
func examine(ctx context.Context, path string, quick bool) (vmstate.Stream, error) {
	f, err := openRegular(path)
	if err != nil {
		return vmstate.Stream{}, err
	}
	defer f.Close()
	found, err := vmstate.Examine(ctx, f, quick)
	if err != nil {
		err = fmt.Errorf("%s %w", path, err)
	}
	return found, err
}
