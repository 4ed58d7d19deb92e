// Package libvirt is a libvirtd that is not there: a server on a unix socket
// that speaks libvirt's remote protocol to unmodified clients, among them virsh,
// python3-libvirt and go-libvirt, and that misbehaves on command. Its machines
// are models of package fakes/guest.
//
//	server, err := libvirt.New(libvirt.Options{})
//	...
//	defer server.Close()
//	domain, err := server.Define(xml) // as virsh define
//	...
//	err = domain.Start()
//	domain.Guest().SetMemory(0, 42)
//	err = domain.TakeSnapshot("clean")
//	conn := "virsh -c " + server.URI() // qemu:///system?socket=...
//
// # What it is held against
//
// Error codes, domains and texts, states, reasons and the order of events are
// those of libvirt 9.0.0 with QEMU 7.2, or, with [Options.Flavour] [Test], of its
// test driver; both were recorded. Which procedures there are is in [Procedures].
// Any other gets libvirt's own answer to a procedure that it does not know.
//
// # What is different
//
//   - Domains are machines with at most two disks, of which each is a file in raw
//     or qcow2 format that is really read and written, and a serial port that is
//     a unix socket. A network card of type client is connected to its TCP port
//     and hears; the guest sends nothing. Of the rest of a domain's XML nothing is
//     acted upon; it is kept, and completed by less than libvirt adds.
//   - An internal snapshot is one: it is in the qcow2 images, goes with copies of
//     them, and qemu-img lists it. A machine that was saved by the real QEMU
//     cannot be loaded, nor the other way round; both say so.
//   - External snapshots, migration, block jobs, hot plug and the guest agent
//     are not there; a dump is one of memory only, in ELF.
//   - It answers the pings of clients and sends none. libvirtd sends them to clients that say they know them, after 5 s without a word.
//   - There are no networks, storage pools, secrets, node devices: asking for
//     them gets the answer to an unknown procedure.
//   - A machine that is reset tells so once; QEMU may tell it more often. Of the
//     statistics of a job that is over there are only a few.
//   - What a daemon knows is kept in the process alone: a daemon that is ended
//     and started by [Server.Restart] has it still, another one does not.
package libvirt
