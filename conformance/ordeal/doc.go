// Package ordeal has tests alone: what the QEMU driver leaves when its process is killed at any moment, after hundreds of cycles,
// and on full disks. As part of all tests they are short. "make ordeal" runs them at full length, on the host's QEMU too.
//
// The lengths are set by MACHINERY_KILLS, the number of kills on each emulator, and MACHINERY_CYCLES, that of cycles. MACHINERY_SEED
// repeats a run of the kills with the seed that it printed, as far as the machine's own timing lets it.
package ordeal
