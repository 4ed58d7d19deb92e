package conformance

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Lab is the suite's own view of the hypervisor under a driver. It makes
// machines, tells the truth about them without asking the driver, makes things
// go wrong, and accounts for everything that is left.
//
// An author with another hypervisor writes a lab as small as they like:
// requirements that need a [Feature] it does not offer are not run, with the
// reason, and never passed.
type Lab interface {
	// Info describes the lab and the hypervisor in it, for the report.
	Info(ctx context.Context) (LabInfo, error)
	// Offers says whether the lab has a feature; if not, the reason is printed
	// with every requirement that was not run for it.
	Offers(f Feature) (ok bool, reason string)
	// NewBench makes machines in dir, an empty directory with a short path
	// that is the bench's own, and writes the configuration that the driver
	// will open.
	NewBench(ctx context.Context, dir string, machines []MachineSpec) (Bench, error)
	// Sweep ends every process that belongs to anything below dir; the run
	// that made them is dead. It does not remove files.
	Sweep(ctx context.Context, dir string) error
	// Close lets go of what the lab itself holds. Benches are closed before.
	Close() error
}

// Homed is a lab that keeps something between benches, such as the snapshots
// that it makes machines from. Home is called before anything else with a
// directory for that, with a short path, which the suite removes when the run is
// over, however it ends. A lab that is used without this call keeps such things
// in a temporary directory, and removes it in Close.
type Homed interface {
	Home(dir string)
}

// Exempter is a lab that knows what its hypervisor does not have by its nature: a
// requirement about that is not applicable, instead of not run, and does not count
// against a driver whatever was asked for.
type Exempter interface {
	// Exempt returns why the hypervisor does not have a feature; empty for one that
	// it has, whether or not the lab offers it.
	Exempt(f Feature) (reason string)
}

// Crasher is a lab whose hypervisor may crash without the driver having any part in it, as a daemon that several machines share can. A
// requirement that was not met because of a crash is run once more, with the lab made anew. Only a second crash in the same requirement
// counts, because then it is likely that what the driver does is the cause.
type Crasher interface {
	// Crash says how the hypervisor has ended by itself, if it has and the lab had no part in it; empty if it has not.
	Crash(ctx context.Context) string
}

// LabInfo is what the report says about a lab.
type LabInfo struct {
	// Name is the lab's name in verdicts, such as "fake-qemu".
	Name string `json:"name"`
	// Hypervisor and Version name what runs the machines.
	Hypervisor string `json:"hypervisor"`
	Version    string `json:"version,omitempty"`
	// Accelerator is "tcg", "kvm", or empty where there is none to speak of.
	Accelerator string `json:"accelerator,omitempty"`
}

// Bench is one set of machines with everything around them, made for one
// requirement.
type Bench interface {
	// ConfigPath is the configuration file for the driver.
	ConfigPath() string
	// RuntimeDir is the directory that the driver is told to use for what
	// belongs to running machines.
	RuntimeDir() string
	// Saved tells what the machine's snapshot holds.
	Saved(machine string) Saved
	// Power tells whether anything of the machine runs: by the process table
	// or the hypervisor's own list, never by the driver.
	Power(ctx context.Context, machine string) (Power, error)
	// Guest returns the guest of the machine's present run, waiting for it to
	// connect for as long as ctx lets it.
	Guest(ctx context.Context, machine string) (Guest, error)
	// Inject makes something go wrong now. The fault must be among those
	// which the machine's spec announced.
	Inject(ctx context.Context, machine string, f Fault) error
	// Heal takes back the faults of a machine, as far as they have a lasting
	// effect.
	Heal(ctx context.Context, machine string) error
	// Originals returns a checksum by name of what a driver must never
	// change: disks and snapshots as they were configured.
	Originals(ctx context.Context, machine string) (map[string]string, error)
	// Leftovers lists what exists now and would not if every machine were off
	// and the driver closed: processes, files, sockets; a line each.
	Leftovers(ctx context.Context) ([]string, error)
	// Close ends and removes everything of the bench, whatever the driver
	// left.
	Close(ctx context.Context) error
}

// DumpReader is a bench that can look into a memory dump of one of its
// machines. It is what [FeatureDump] means.
type DumpReader interface {
	// Dumped returns the guest's memory mark of that slot, as the dump at path
	// holds it; 0 if there is none.
	Dumped(ctx context.Context, machine, path string, slot int) (uint32, error)
}

// ProcessViewer is a bench that can look into the process of one of its
// machines that runs. It is what [FeatureProcess] means. If a machine has
// several processes, what any of them has counts.
type ProcessViewer interface {
	// Descriptors returns what the process has open: paths, for files.
	Descriptors(ctx context.Context, machine string) ([]string, error)
	// Environment returns its environment variables, as "name=value".
	Environment(ctx context.Context, machine string) ([]string, error)
}

// Saved is what a machine's snapshot holds.
type Saved struct {
	// Memory and Disk are the marks in slot 0 of the guest's memory and disk.
	Memory, Disk uint32
	// SecondDisk is the mark in slot 0 of its second disk, if it has one.
	SecondDisk uint32
	// Counter is the guest's tick counter shortly before it was saved.
	Counter uint32
	// Files are the files that make up the machine and its snapshot, by what
	// they are ("disk", "snapshot").
	Files map[string]string
}

// Power is the truth about a machine's process.
type Power struct {
	// On is set while anything of the machine runs.
	On bool
	// Detail names what runs, such as process ids.
	Detail string
}

// Guest is what runs in a machine of a lab, and can prove what happened to it.
// A call waits for the guest's answer for as long as ctx lets it; a guest that
// stands still answers nothing.
type Guest interface {
	// Counter returns the ticks since the guest booted; it stands still while
	// the guest does, and goes on from the snapshot's value after a restore.
	Counter(ctx context.Context) (uint32, error)
	// Memory and SetMemory read and write a mark in the guest's memory.
	Memory(ctx context.Context, slot int) (uint32, error)
	SetMemory(ctx context.Context, slot int, value uint32) error
	// Disk and SetDisk read and write a mark on the guest's disk. Slots from
	// [SecondDisk] on are those of its second disk.
	Disk(ctx context.Context, slot int) (uint32, error)
	SetDisk(ctx context.Context, slot int, value uint32) error
	// PowerOff makes the guest switch itself off, Hang makes it stand still
	// for good with its processor stopped.
	PowerOff(ctx context.Context) error
	Hang(ctx context.Context) error
	// Button says what the guest does when its power button is pressed. The
	// delay counts for ButtonLate alone. After a boot the guest obeys.
	Button(ctx context.Context, mode ButtonMode, delay time.Duration) error
	// Pressed returns how often the guest has said by itself, in this run,
	// that its power button was pressed.
	Pressed() int
	// Gone is closed when the guest's run is over.
	Gone() <-chan struct{}
}

// SecondDisk is what the slot of a mark on the second disk is more than that of
// the same mark on the first.
const SecondDisk = 16

// ButtonMode is what a guest does when its power button is pressed.
type ButtonMode string

// The button modes.
const (
	ButtonIgnore ButtonMode = "ignore"
	ButtonObey   ButtonMode = "obey"
	ButtonLate   ButtonMode = "late"
)

// Feature is something that a requirement needs of a lab.
type Feature string

// The features of a lab. A fault is a feature too: see [FaultFeature].
const (
	// FeaturePower: the lab can tell whether a machine runs.
	FeaturePower Feature = "power"
	// FeatureGuest: the lab's machines have a guest that answers.
	FeatureGuest Feature = "guest"
	// FeatureSavedPaused: the lab can make snapshots saved paused.
	FeatureSavedPaused Feature = "saved-paused"
	// FeatureKinds: the lab can make snapshots of several kinds.
	FeatureKinds Feature = "snapshot-kinds"
	// FeatureDamage: the lab can damage snapshots and disks.
	FeatureDamage Feature = "damage"
	// FeatureLeftovers: the lab can account for what is left.
	FeatureLeftovers Feature = "leftovers"
	// FeatureDump: the lab's benches can look into memory dumps.
	FeatureDump Feature = "dump"
	// FeatureProcess: the lab's benches can look into a machine's process.
	FeatureProcess Feature = "process"
	// FeatureDangerous: the lab can make machines that are [Dangerous].
	FeatureDangerous Feature = "dangerous"
	// FeatureSecondDisk: the lab can make machines with a second disk, which
	// their guests read and write.
	FeatureSecondDisk Feature = "second-disk"
	// FeatureDisplay: the lab's machines have a display, unless they are
	// headless.
	FeatureDisplay Feature = "display"
	// FeatureNetwork: the lab's machines have a network card if their spec
	// says so, and its benches are at the other end of it; see [Networked].
	FeatureNetwork Feature = "network"
)

// FaultFeature is the feature of being able to make that fault.
func FaultFeature(f FaultKind) Feature { return Feature("fault:" + string(f)) }

// FaultKind names something that can go wrong with a hypervisor.
type FaultKind string

// The faults. The first group strikes at once when injected; the second has
// to be announced in the machine's spec and strikes at the next start.
const (
	// FaultKill: the hypervisor's process is killed by someone else.
	FaultKill FaultKind = "kill"
	// FaultWedge: the machine's process lives but does nothing, until healed.
	FaultWedge FaultKind = "wedge"
	// FaultSilent: who answers for the machine's state lives but answers
	// nothing, until healed. It is the hypervisor's daemon, and where there is
	// none the machine's process.
	FaultSilent FaultKind = "silent"
	// FaultStrangerPause: someone else pauses the machine. To be announced.
	FaultStrangerPause FaultKind = "stranger-pause"

	// FaultRestart: the hypervisor's daemon is restarted, which has been done when
	// Inject returns. Machines that run run on.
	FaultRestart FaultKind = "restart"
	// FaultGone: someone removes the machine from the hypervisor, which it is off
	// for, until healed.
	FaultGone FaultKind = "gone"
	// FaultLocked: someone else works on the machine for Fault.Delay, in which the
	// hypervisor changes nothing of it for others. To be announced.
	FaultLocked FaultKind = "locked"

	// FaultNoProgram: the hypervisor's program, or its daemon, is not there any
	// more, until healed. Machines that run run on.
	FaultNoProgram FaultKind = "no-program"

	// FaultChangeDisk: someone else writes to the machine's configured disk,
	// and leaves it so. To be announced, as a lab may have snapshots that this does
	// nothing to.
	FaultChangeDisk FaultKind = "change-disk"

	// FaultChangeSecondDisk: someone else writes to the machine's second disk,
	// and leaves it so. To be announced.
	FaultChangeSecondDisk FaultKind = "change-second-disk"

	// FaultSlowStart: the hypervisor needs Fault.Delay longer to start.
	FaultSlowStart FaultKind = "slow-start"
	// FaultRefuseStart: the hypervisor ends at once with exit status 1,
	// saying Fault.Text.
	FaultRefuseStart FaultKind = "refuse-start"
	// FaultNeverReady: the hypervisor's process starts, and nothing else ever
	// happens.
	FaultNeverReady FaultKind = "never-ready"
	// FaultNoise: the hypervisor prints a megabyte of warnings as it starts.
	FaultNoise FaultKind = "noise"
	// FaultRefuseResume: the hypervisor refuses to resume a paused machine,
	// saying Fault.Text.
	FaultRefuseResume FaultKind = "refuse-resume"
	// FaultRefuseQuit: the hypervisor takes no request to end; only killing
	// its process helps.
	FaultRefuseQuit FaultKind = "refuse-quit"
	// FaultRefuseDump: the hypervisor refuses to dump a machine's memory,
	// saying Fault.Text.
	FaultRefuseDump FaultKind = "refuse-dump"
	// FaultSlowDump: the hypervisor needs Fault.Delay longer to begin a dump
	// of a machine's memory, and answers nothing meanwhile.
	FaultSlowDump FaultKind = "slow-dump"
)

// Fault is one thing that goes wrong.
type Fault struct {
	Kind  FaultKind
	Text  string
	Delay time.Duration
}

// SnapshotKind is a way in which a hypervisor's snapshot can be kept.
type SnapshotKind string

// The kinds of snapshot. A lab makes those that its hypervisor knows.
const (
	// SnapshotPlain is the one that every lab has.
	SnapshotPlain SnapshotKind = ""
	// SnapshotGzip, SnapshotLZ4 and SnapshotZstd are compressed files.
	SnapshotGzip SnapshotKind = "gzip"
	SnapshotLZ4  SnapshotKind = "lz4"
	SnapshotZstd SnapshotKind = "zstd"
	// SnapshotMemory is a memory image in a file beside the disk that belongs to
	// it, where a plain one lies in the disk itself.
	SnapshotMemory SnapshotKind = "memory image"
)

// Kinder is a lab that can keep snapshots in several ways. It is what
// [FeatureKinds] means.
type Kinder interface {
	// Kinds returns the kinds of snapshot, the plain one first.
	Kinds() []SnapshotKind
}

// Damage is a way in which a machine's files are wrong.
type Damage string

// The kinds of damage.
const (
	// Undamaged: the files are right.
	Undamaged Damage = ""
	// SnapshotMissing: there is no snapshot where the configuration says.
	SnapshotMissing Damage = "snapshot missing"
	// SnapshotEmpty: the snapshot has no byte.
	SnapshotEmpty Damage = "snapshot empty"
	// SnapshotTruncated: the snapshot ends half-way.
	SnapshotTruncated Damage = "snapshot truncated"
	// SnapshotGarbage: the snapshot begins rightly and goes on with noise.
	SnapshotGarbage Damage = "snapshot garbage"
	// SnapshotForeign: the snapshot is of a machine with other hardware.
	SnapshotForeign Damage = "snapshot of another machine"
	// Dangerous: the machine's own definition has something in it that could
	// harm the host, and that the configuration does not allow. The bench's
	// Saved names it among the files, as "danger".
	Dangerous Damage = "dangerous definition"
	// DiskMissing: there is no disk where the configuration says.
	DiskMissing Damage = "disk missing"
	// DiskGarbage: the disk is no disk image.
	DiskGarbage Damage = "disk garbage"
)

// OfSnapshotFile reports whether the damage is to a snapshot that is a file of its
// own.
func (d Damage) OfSnapshotFile() bool {
	return d == SnapshotEmpty || d == SnapshotTruncated || d == SnapshotGarbage
}

// MachineSpec says what machine a bench is to have.
type MachineSpec struct {
	// Name is the machine's name.
	Name string
	// SavedPaused makes the snapshot one that was saved while the machine was
	// paused.
	SavedPaused bool
	// Kind is how the snapshot is kept.
	Kind SnapshotKind
	// Damage is what is wrong with the machine's files.
	Damage Damage
	// Headless makes the machine one without a display.
	Headless bool
	// Network gives the machine a network card that is connected to the lab.
	Network bool
	// SecondDisk gives the machine a second disk that its guest can write to.
	SecondDisk bool
	// Faults are the faults that strike at the machine's starts, and those
	// that have to be announced to be injected later.
	Faults []Fault
}

// announces reports whether the spec announced a fault of this kind.
func (s MachineSpec) announces(k FaultKind) bool {
	return slices.ContainsFunc(s.Faults, func(f Fault) bool { return f.Kind == k })
}

// Announced returns the announced fault of a kind.
func (s MachineSpec) Announced(k FaultKind) (Fault, bool) {
	if !s.announces(k) {
		return Fault{}, false
	}
	return s.Faults[slices.IndexFunc(s.Faults, func(f Fault) bool { return f.Kind == k })], true
}

// String names the machine and what is special about it.
func (s MachineSpec) String() string {
	text := fmt.Sprintf("%q", s.Name)
	if s.SavedPaused {
		text += " saved paused"
	}
	if s.Kind != SnapshotPlain {
		text += " " + string(s.Kind)
	}
	if s.Damage != Undamaged {
		text += ", " + string(s.Damage)
	}
	return text
}
