// Package qemu is the reference driver for QEMU: one QEMU process for each machine, spoken to over QMP.
//
// A program without a configuration file makes one from Go values:
//
//	m, err := qemu.New(ctx, qemu.Config{
//		QEMU: "/usr/bin/qemu-system-x86_64",
//		Machines: []qemu.MachineConfig{{
//			Name:     "win10_1",
//			Disk:     "/vms/win10_1/disk.qcow2",
//			Snapshot: "/vms/win10_1/memory.snapshot",
//			Info:     "/vms/win10_1/machineinfo.json",
//			IP:       "192.168.30.101",
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
// One with a qemu.yaml registers [Driver] and opens the file by the machinery package.
//
// # Embedding
//
// [Machinery] may be embedded in another driver, which then overrides what it does differently; the example shows one that also loads its
// machines from elsewhere, under a name of its own. The optional operations come along, and can be hidden by a method Supports.
// An override is reached by those who call it, and not by this driver itself: Shutdown and Close, the clean-up after a start that failed, the trial at the end of
// SaveSnapshot and a Stop that cancels a start do their work without it. Functions of package machinery, such as
// machinery.Start, do call it. Errors and logs have the operation that was called of this driver, whatever called it.
//
// # What it logs
//
// With a logger in machinery.Options, each operation that changes a machine, or takes its memory or a picture, is logged at its end, with the keys machine,
// operation and duration, and with error if it was not done: at level Info, or Warn for what is wrong with the machine or its host. State, Watch, Version and CheckDependencies
// are not logged. Arguments of machines and what guests write are in no record; an error has QEMU's own words. Without a logger
// nothing is written anywhere.
//
// # What a machine is
//
// A disk (qcow2 or raw), a memory snapshot (what QEMU's migrate writes: as it is, or compressed by gzip, lz4 or zstd,
// told apart by content) and a machineinfo.json with the arguments that QEMU is started with. One of the arguments has
// %DISPOSABLE_DISK_PATH% in it, which becomes the path of an empty overlay above the disk, new for each start and
// removed after it. The disk itself is never written to.
//
// Other media that the guest can write to (-drive, -blockdev, -hda to -hdd, -fda, -pflash and their like, on a raw or qcow2 file) get an
// overlay of their own in the same way, and the argument is changed to name it. What is left is refused, because a restore would
// not revert it: other formats and protocols, TPMs, memory that is shared with a file. So are arguments that would take the machine
// out of the driver's hands. [CheckArgs] says what is wrong with a list of arguments.
//
// A disk that was changed since its snapshot was made is refused. A [Manifest] beside the snapshot, which SaveSnapshot and
// SealSnapshot write, says what the files were like; without one only changes since the driver was opened are noticed, as a
// disk that is newer than its snapshot may be a copy. Who writes to a disk while its machine runs is kept out by QEMU's image
// locks, if it heeds them, and else noticed at the next restore.
//
// # How a restore goes
//
// QEMU inherits two listening sockets for its monitors and the snapshot, as a file or as a pipe that this process
// decompresses into. Nothing is polled: the connection to the monitor is made before QEMU runs, and events tell
// when the snapshot is loaded. qemu-img is not needed; the overlay is written in process. The saved state decides
// whether the machine runs afterwards or stands still until HandlePaused.
//
// # What else it does
//
// All optional operations of package machinery. [Machinery.NoRestoreStart] boots, with the same
// overlay above the disk. [Machinery.DumpMemory] hands QEMU a file that has no name until it is whole; [Machinery.DumpMemoryFormat]
// has the compressed formats. [Machinery.SaveSnapshot] makes a new machine of one that runs. [Machinery.Screenshot] goes by a file in the machine's runtime directory. [Machinery.Watch] looks
// whenever QEMU tells something, and at intervals where QEMU cannot or another driver holds the machine.
//
// [Machinery.StartCapture] has QEMU's filter-dump record each of the machine's network backends, or tcpdump its address, as
// Config.Capture says. A capture that is armed is on QEMU's command line, so that no frame comes before it, and network backends that
// the machine's arguments leave without an id get one for it. Neither QEMU nor tcpdump is given a path: they get descriptors of files that
// the driver has made. How much both may record is bounded while a driver holds the machine; tcpdump cannot go beyond it at all.
// It records nothing that vhost takes past QEMU; tcpdump does.
//
// # What belongs to a running machine
//
// A directory of its own below the runtime directory (Config.RuntimeDir), named by a hash of the machine's name and of
// the path of the configuration file (without a file: the path of its disk as the Config has it), so that two programs with
// the same configuration mean the same one, even when the files that it names have changed meanwhile. It holds the lock, the two sockets and state.json, the ledger from which another process sees what runs here. It is made by the
// first operation that changes the machine, and removed when the machine is off.
//
// [Machinery.Close] lets go of the lock and leaves the rest. Whoever takes the lock next reads the ledger and finds
// the process (by the time of the host's boot, process id, start time and command line, never by the id alone), or
// clears what a dead one left. State needs no lock: it reads the ledger and asks on the second monitor.
//
// The disposable disk is named by the machine's name alone, and locked as QEMU locks images, so that a second driver with another
// configuration or runtime directory cannot start the same machine on it.
//
// A capture's working files, hidden beside the file that it becomes, and a tcpdump are in the ledger too; whoever ends the
// machine's run, or finds it ended, makes the file of them and removes them.
//
// What a driver that is killed may leave at which moment, and what becomes of it:
//
//   - After the directory was made and before the ledger: an empty directory, which the next holder removes.
//   - After the ledger, before QEMU was started: the disposable disk, whole or in part. The ledger names it, and it goes with that.
//   - Between QEMU's start and the note of its id: the process is looked for by its command line, which has the path of the
//     disposable disk. Until it is the started program it has its driver's lock, so that nobody looks too early. The same is done if
//     the noted process is gone or a stranger: a wrapper may have started QEMU instead of becoming it.
//   - While the snapshot is loaded: what this process unpacked ends in the midst, and QEMU with it; what QEMU reads itself it loads to
//     its end, and the next holder asks how it stands.
//   - In a memory dump: QEMU writes it to its end, into a file without a name, and then lets the machine go on. Until then the
//     machine is paused for the dump, and the operations of the next holder wait, but for Stop. Where every file needs a name, a
//     hidden one is left beside the path of the dump (.NAME.*.part), which no ledger tells of.
//   - In SaveSnapshot: before the memory is complete a machine that may stand still for it, and goes on when the next holder takes it
//     over; after that it is off or is ended. What was made of the new machine in part, and the directory of its trial, are in the ledger, and go.
//   - While a picture is taken: a file in the directory, which goes with that.
//   - In Stop: a machine that runs or is off; what is left is cleared in the order disk, ledger, sockets, lock, directory.
//
// A ledger that cannot be understood, or is another version's, is named in the error of every operation and left alone, because
// something may run that it tells of. [Machinery.Account] lists all runs and left-overs below the runtime directory, also of machines
// that the configuration does not have any more, and [Machinery.Sweep] removes what no one holds: such a ledger too, if nothing listens
// on its sockets, and a disposable disk of which no run tells, if nothing has it locked or on its command line.
//
// What QEMU prints is kept (its last 8 KiB) for as long as this driver holds the machine, and lost after Close.
//
// # What QEMU gets of its surroundings
//
// Malware attacks QEMU, so it gets little. It inherits its standard input (/dev/null), output and error, two sockets and
// the snapshot, and no other descriptor, whatever the program has open and has not marked to be closed. Of the environment it gets what
// programs, the language and displays need. Its working directory is that of the program, because arguments may have relative paths.
// It makes no core file, which would hold the guest's memory.
//
// Arguments in a machineinfo.json that could harm the host or let others into the guest, and those that this package does not
// know, need the word of whoever configures the machine: allow_arguments in the qemu.yaml, or MachineConfig.AllowArguments. The error
// says what each could do and what to write. [ReviewArgs] lists them for those who import machines. MachineConfig.Args is the
// program's own, and needs no word.
//
// QEMU runs in its own sandbox (-sandbox with all denied), in which it cannot start programs or change its rights, and is killed if it
// tries. What breaks in it on QEMU 7.2.22: -netdev tap with scripts, guestfwd with cmd: and smb, for which a machine that is
// allowed them may start programs; and -netdev bridge and helpers, whose rights the sandbox takes away, so that a machine with them has
// none. A machine's own -sandbox goes before that, and Config.NoSandbox (sandbox: false) is for a QEMU that was built without.
//
// Config.FileQuota bounds each file that QEMU writes to. A guest that fills its disk to that is paused, and its state is error with
// the reason "disk quota reached"; what goes to the file of a serial port is dropped from there on. A memory dump is not bounded.
//
// # What it needs
//
// Linux 5.4 or later, for process descriptors; on other systems the package is empty. QEMU: all that is said here was seen on
// 7.2.22, which is what the tests run on.
package qemu
