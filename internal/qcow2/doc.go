// Package qcow2 reads and writes QEMU's qcow2 disk images, without QEMU.
//
// It is for two users. A driver wants to know what an image is and to lay an
// empty overlay over it on the path of every restore, where starting qemu-img
// would cost tens of milliseconds: [Inspect], [Chain] and [CreateOverlay]. A fake
// hypervisor keeps what its guest writes in real images, so that a driver that
// forgets to revert a disk is caught: [Open].
//
// What is read and written is versions 2 and 3 with any cluster size and any
// refcount width, internal snapshots (copy on write), zlib-compressed clusters
// (read only) and backing chains of qcow2 and raw images. Encryption, external data
// files, subclusters (extended L2 entries) and zstd-compressed clusters are
// recognised by [Inspect] and refused by [Open].
//
// No header field is trusted: every size taken from an image is bounded before
// memory is allocated for it, and offsets are checked against the file.
package qcow2
