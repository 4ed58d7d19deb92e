package libvirt

import "time"

// Flavour is whose answers the fake gives where libvirt's drivers differ.
type Flavour int

const (
	// QEMU is libvirt's QEMU driver, qemu:///system.
	QEMU Flavour = iota
	// Test is libvirt's test driver, test:///default. It knows no memory-only
	// dump, no start of a paused machine, and shuts any machine down at once.
	Test
)

// Options say what daemon it is. The zero value is a QEMU driver on a socket in
// a temporary directory.
type Options struct {
	// Socket is the path of the socket, of at most 107 bytes. It is made by New and removed by
	// Close. Empty means one in a directory of its own below /tmp.
	Socket string
	// Flavour is whose answers it gives.
	Flavour Flavour
	// Durations is how long operations take; zero values are no time at all.
	Durations Durations
	// LockTimeout is how long a call waits for another that works on the same
	// domain before it is told that it "cannot acquire state change lock". The
	// default is libvirt's, 30 s.
	LockTimeout time.Duration
	// KillDelay is how long destroying a machine takes whose hypervisor does
	// not end when asked to, until it is killed. The default is 10 s, which is
	// libvirt's.
	KillDelay time.Duration
	// Clients is the highest number of connections at once; one more is closed as soon as it is
	// made. 0 is libvirtd's default, 5000.
	Clients int
	// FirstID is the id of the first machine that starts; 0 is 1.
	FirstID int32
}

// Durations is how long operations take in the fake.
type Durations struct {
	// Start, Revert and Save (of memory and of snapshots) and Dump are what
	// their names say; Stop is how long a hypervisor takes to end. libvirt 9.0.0
	// and QEMU 7.2 need, with a small guest, 330, 700, 300, 350 and 200 ms. The save, managedsave and dump of
	// virsh 9.0.0 now and then wait for ever where Save and Dump take no time: the answer comes before virsh waits for it.
	Start, Stop, Revert, Save, Dump time.Duration
	// Boot is how long the guest takes from power on to its first instruction.
	Boot time.Duration
}

// virshDurations is how long what virsh waits for takes at least, for it to see the end.
var virshDurations = Durations{Save: 100 * time.Millisecond, Dump: 100 * time.Millisecond}

func (o Options) withDefaults() Options {
	if o.LockTimeout == 0 {
		o.LockTimeout = 30 * time.Second
	}
	if o.KillDelay == 0 {
		o.KillDelay = 10 * time.Second
	}
	if o.Clients == 0 {
		o.Clients = 5000
	}
	if o.FirstID == 0 {
		o.FirstID = 1
	}
	return o
}

// from is where errors of this flavour's driver come from.
func (f Flavour) from() int32 {
	if f == Test {
		return fromTest
	}
	return fromQEMU
}
