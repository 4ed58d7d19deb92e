//go:build linux

package libvirtlab_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/libvirtlab"
)

func TestAMachinesNetworkCardHasTakenAFrameWhenTransmitReturns(t *testing.T) {
	l := newLab(t, libvirtlab.Options{})
	b, dir := newBench(t, l, conformance.MachineSpec{Name: "a", Network: true})
	c := connect(t, l)
	dom := revert(t, c)
	runsFrom(t, b)
	path := filepath.Join(dir, "f.pcap")
	add := fmt.Sprintf(`{"execute": "object-add", "arguments": {"qom-type": "filter-dump", "id": "f", "netdev": "hostnet0", "file": %q}}`, path)
	if _, err := c.QEMUDomainMonitorCommand(dom, add, 0); err != nil {
		t.Fatal(err)
	}
	net := b.(conformance.Networked)
	for i := range 20 {
		frame := conformance.Frame(fmt.Sprintf("frame %d", i))
		if err := net.Transmit(t.Context(), "a", frame); err != nil {
			t.Fatal(err)
		}
		if i < 19 {
			continue
		}
		if _, err := c.QEMUDomainMonitorCommand(dom, `{"execute": "object-del", "arguments": {"id": "f"}}`, 0); err != nil {
			t.Fatal(err)
		}
		held, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(held, frame) {
			t.Errorf("the recording of %d bytes lacks the last frame, %v", len(held), err)
		}
	}
}
