// Package ordeal has tests alone: what the QEMU driver leaves when its process is killed at any moment and on full disks, what the KVM driver
// knows of its machines after libvirtd was restarted at any moment, and what both hold after hundreds of cycles. As part of all tests they
// are short. "make ordeal" runs them at full length, on the host's QEMU and libvirt too.
//
// The lengths are set by MACHINERY_KILLS, the number of kills on each emulator, MACHINERY_RESTARTS, that of restarts of each daemon, and
// MACHINERY_CYCLES, that of cycles. MACHINERY_SEED repeats a run of the kills or restarts with the seed that it printed, as far as the machine's
// own timing lets it.
package ordeal
