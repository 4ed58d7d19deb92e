//go:build linux

// Package qemu is a QEMU that is not there: an emulator and a qemu-img that a driver
// starts as it would start the real ones, that speak QEMU's command line, its monitor protocol
// (QMP), its image format and its texts, and that misbehave on command. Its guest is the model of
// package fakes/guest.
//
// It is a real executable: the running program itself, started again under another
// name. So its main, or the TestMain of a test, has to begin with a call of [Main]:
//
//	func TestMain(m *testing.M) {
//		qemu.Main()
//		os.Exit(m.Run())
//	}
//
//	func TestDriver(t *testing.T) {
//		fake, err := qemu.Install(t.TempDir(), qemu.Options{})
//		...
//		defer fake.Close()
//		fake.Plan("name=web", qemu.Fault{Point: qemu.PointCommand, Command: "cont", Action: qemu.Hang})
//		driver := New(Config{Emulator: fake.Emulator}) // anything that starts QEMU
//
// With Options.Real the same faults strike a real QEMU: the installed emulator stands
// between it and whoever talks to it.
//
// # What it is held against
//
// A differential test sends the same commands to it and to QEMU 7.2 and compares answers and events; the
// texts of errors are that version's. [Commands] is the published list of QMP commands. What a machine's
// command line usually has is understood; of what it does not act upon (sound, USB, SMBIOS, ...) the names are
// accepted and the values are not looked at.
//
// # What is different
//
//   - Only the first disk is visible to the guest; nothing of network, sound or screen is there. Network backends of the type
//     stream are connected to their unix socket, so that filter-dump, the only object there is, records what comes; nothing is
//     sent, so that the announcements which QEMU makes after a restore are missing.
//   - Network sockets (tcp:, telnet:) and -daemonize are refused, -loadvm finds no snapshot.
//   - query-qmp-schema describes the fake's own commands and their arguments, not what they return.
//   - The message about a signal names the parent process as its sender.
//   - An emulator of an installation ends when whoever installed it has ended.
//   - A saved state cannot be loaded by the real QEMU, nor the other way round; both say so.
package qemu
