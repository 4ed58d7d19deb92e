// Package guest is the guest of the conformance suite: a boot sector that any PC boots in a tenth of a
// second, and the client that talks to it over its serial port.
//
// The guest proves what happened to the machine it runs in: it keeps marks in memory and on disk, counts
// time, obeys or ignores the power button, hangs, resets and switches off. It is not an operating system,
// so nothing must be downloaded or licensed for it, and its snapshots are small. Its source is guest.asm,
// and guest.bin is its build.
//
//	disk := guest.Image(0)           // write it to a file, and give that to the hypervisor
//	l, err := guest.Listen(path)     // -chardev socket,id=guest,path=PATH -serial chardev:guest
//	c, err := l.Client(ctx)          // the machine has connected
//	err = c.WaitBoot(ctx)
//	err = c.SetMemory(ctx, 0, 4711)
//
// The protocol is that of package fakes/guest, whose model of a machine answers it too.
package guest
