//go:build !linux

// Package qemu is a QEMU that is not there. It works on Linux alone, as the driver
// that it is for.
package qemu
