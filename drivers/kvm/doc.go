// Package kvm is the reference driver for libvirt: machines are domains, restored from their snapshots or from memory images, whatever
// hypervisor libvirt runs them on.
//
// A program without a configuration file makes one from Go values:
//
//	m, err := kvm.New(ctx, kvm.Config{
//		URI: "qemu:///system",
//		Machines: []kvm.MachineConfig{{
//			Name:     "win10_1",
//			Label:    "win10_1", // the domain
//			Snapshot: "clean",   // empty: its current one
//			IP:       "192.168.122.101",
//		}},
//	}, machinery.Options{})
//	if err != nil {
//		return err
//	}
//	defer m.Close()
//	if err := machinery.Start(ctx, m, "win10_1"); err != nil {
//		return err
//	}
//	return m.Stop(ctx, "win10_1")
//
// One with a kvm.yaml registers [Driver] and opens the file by the machinery package. Cuckoo3's own kvm.yaml loads as it is.
//
// # What a machine is
//
// A domain of libvirt's, by its name (label), and what it is restored from. Domains are remembered by their UUIDs and looked for by name again
// when libvirt says that they are gone; a machine whose domain or snapshot is missing stays listed, in state error, and can be used when it
// is there.
//
// With a snapshot, libvirt reverts the domain to it: memory and disks. What must never change is the snapshot; what the disks hold beside it
// is of the last run. A snapshot that would not bring back all that the machine was is refused, with what to do: one of a machine that was off,
// from which libvirt would boot; one that leaves out a disk that the guest can write to; an external one before libvirt 9.9.0, which
// cannot revert to it.
//
// With a memory image (memory_path), as virsh save writes it, libvirt restores that, and each disk that the guest can write to gets an empty
// overlay for as long as the machine runs. The domain stays defined as it is. The disks have to be as they were when the image was
// saved: one that changed since this driver first restored the machine is refused.
//
// # What State says
//
// libvirt's state and reason, by one table. A pause from a snapshot, for a memory dump or while somebody saves the machine is paused, with that as its
// reason; a stranger's pause, an I/O error, a watchdog and a guest that crashed are error. libvirt answers from memory and calls a
// machine running whose QEMU hangs, so QEMU is asked something as well, unless it has answered within 20 ms; one that does not answer
// within two seconds is in state error. [Machinery.States] tells all machines at once, in one question to libvirt.
//
// # What it costs
//
// A restore takes libvirt's own revert and four short questions: 280 ms with libvirt 9.0.0, in which 2 ms more do not show. Stop takes the 0.2 s that
// libvirt waits between two looks at QEMU, and 10 s where QEMU has to be killed. State takes 1.15 times the bare round trip, and of a machine that
// runs, once in 20 ms, QEMU's answer too. Opening the machines takes eight calls, their states and their account one each, however
// many they are. docs/speed.md has the figures.
//
// # libvirt's daemon
//
// Package rpc keeps the connections: every call has a deadline, one that broke is made again at the next call, and a daemon that is
// restarted is an interruption and no end. A daemon that is silent is an ErrConnection, of the call in hand. libvirt cannot be told to give up a start or a
// dump: a start that is not wanted any more is ended by destroying the domain, for as long as libvirt works at it; a dump is left
// to end, and writes to what has no name any more.
//
// # What belongs to a running machine
//
// A directory of its own below the runtime directory (Config.RuntimeDir), named by the domain's UUID, with a lock and, if the machine has disposable disks or
// is recorded, state.json, the ledger of those. It is made by the first operation that changes the machine and removed when the
// machine is off, or was let go of with nothing in the ledger. Who has the lock may change the machine; others are told busy, and
// may read. A domain that somebody else started by virsh is nobody's: the first operation takes it over.
//
// [Machinery.Account] lists what runs and what is left, and [Machinery.Sweep] removes what nobody holds.
//
// # How it is built
//
// As package qemu: what has the same role has the same file name there, and what both do in the same way is in drivers/internal, first of all in package
// frame. Three differences have their reasons. Snapshots are looked at when they are needed and not when the driver is made, because each would be a
// question to libvirt. Paths are made absolute, but links in them are not followed, because libvirt opens them itself. And a base disk that
// somebody writes to is not looked for before a restore: libvirt starts QEMU, which refuses it in its own words.
//
// # What it needs
//
// Linux, and libvirt 7.0 or later. All that is said here was seen on libvirt 9.0.0 with QEMU 7.2.22, over the socket of a
// libvirtd on this host, and on its test driver (test:///default). Where libvirt is on another host, memory images, memory dumps and captures
// are refused; the rest was not tried there.
package kvm
