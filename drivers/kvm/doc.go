// Package kvm is the reference driver for libvirt: machines are domains, restored from their snapshots or from memory images.
package kvm
