// Package vmcloak reads the directories that VMCloak keeps its machines in, for those who import them. A machine is a directory
// with three files:
//
//	machineinfo.json   what the machine is, and the arguments for QEMU
//	disk.qcow2         its disk
//	memory.snapshot    its memory, as QEMU's migrate wrote it: raw, or packed with gzip, lz4 or zstd
//
// [Find] finds such directories, [Read] reads a machineinfo.json, strictly and with bounds, and [Machine.Check] tells what will not work
// with the files as they are. Nothing is changed or run, but for an emulator that is asked for its version.
//
//	dirs, err := vmcloak.Find("/home/cuckoo/.vmcloak/vms/qemu")
//	...
//	for _, dir := range dirs {
//		m, err := vmcloak.Read(dir)
//		...
//		for _, warning := range m.Check(ctx, vmcloak.Options{QEMU: "7.2.22"}) {
//			fmt.Println(m.Name, warning)
//		}
//	}
package vmcloak
