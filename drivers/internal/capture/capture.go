//go:build linux

// Package capture is what drivers have in common that record a machine's network traffic: what may be asked for, the working files and the
// pcap file that becomes of them, and tcpdump.
package capture

import (
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/outfile"
	"github.com/machineries/machineries/internal/pcap"
	"github.com/machineries/machineries/machinery"
)

// DefaultBytes is the bound of a capture that names none: 1 GiB.
const DefaultBytes = 1 << 30

// Armed is a capture that was asked for.
type Armed struct {
	// Path is where the file is to be: a whole path.
	Path string
	// Max is how many bytes it may have, and Exclude what is left out of it.
	Max     int64
	Exclude []netip.AddrPort
}

// New checks what a capture of a machine was asked for with. The error is of kind ErrConfig.
func New(machine string, c machinery.Capture) (*Armed, error) {
	refuse := func(err error, format string, args ...any) (*Armed, error) {
		return nil, fault.Fail(machinery.OpStartCapture, machine, machinery.ErrConfig, err, format, args...)
	}
	a := &Armed{Max: c.MaxBytes}
	switch {
	case c.Path == "":
		return refuse(nil, "no path is given for the capture")
	case a.Max < 0 || a.Max > 0 && a.Max < pcap.HeaderSize:
		return refuse(nil, "a capture of at most %d bytes cannot be made; its file has %d without a packet", c.MaxBytes, pcap.HeaderSize)
	case a.Max == 0:
		a.Max = DefaultBytes
	}
	var err error
	if a.Path, err = filepath.Abs(c.Path); err == nil {
		err = outfile.FreePath(a.Path)
	}
	if err != nil {
		return refuse(err, "the traffic cannot be recorded to %s", c.Path)
	}
	for _, e := range c.Exclude {
		addr, err := netip.ParseAddr(e.Host)
		switch {
		case err != nil:
			return refuse(nil, "%q is no address whose traffic can be left out; names are not looked up", e.Host)
		case addr.Zone() != "":
			return refuse(nil, "%q has a zone, which packets do not tell; leave it away", e.Host)
		case e.Port < 1 || e.Port > 65535:
			return refuse(nil, "%d is no port whose traffic can be left out", e.Port)
		}
		if pair := netip.AddrPortFrom(addr.Unmap(), uint16(e.Port)); !slices.Contains(a.Exclude, pair) {
			a.Exclude = append(a.Exclude, pair)
		}
	}
	return a, nil
}
