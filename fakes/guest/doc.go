// Package guest is the model of a virtual machine that all fakes of hypervisors share: its power, its run
// state, the content of its memory and disk, its power button, and the program that runs in it.
//
// It also defines the serial protocol of that program. The real thing, a boot sector that any x86
// hypervisor runs, is in conformance/guest and speaks the same protocol, so that whoever talks to a machine
// need not know whether it is real.
//
//	m := guest.New(guest.Options{Disk: disk, OnPowerOff: quit})
//	defer m.Close()
//	m.Attach(conn) // the serial port
//	m.PowerOn()    // paused, as after qemu -S
//	m.Resume()     // boots
package guest
