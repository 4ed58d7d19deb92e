//go:build linux

package kvm

import ()

// The ways in which Config.Capture can have traffic recorded.
const (
	// CaptureTcpdump is tcpdump on the machine's interface, for all that goes to and comes from its address. It needs the right to
	// capture there (root, or tcpdump with the capabilities CAP_NET_RAW and CAP_NET_ADMIN).
	CaptureTcpdump = "tcpdump"
	// CaptureFilterDump is QEMU's own filter-dump on each of the machine's network backends. It needs no rights and no address, and libvirt on
	// this host.
	CaptureFilterDump = "filter-dump"
)

// captured is a capture in a ledger.
type captured struct{}

func (c *captured) release() {}

func (v *vm) finishCapture() error { return nil }
