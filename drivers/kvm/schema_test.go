//go:build linux

package kvm

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/machineries/machineries/conftemplates"
	"github.com/machineries/machineries/machinery/config"
)

// cuckooYAML is a kvm.yaml as Cuckoo3 writes it.
const cuckooYAML = `dsn: qemu:///system
interface: lo
machines:
  win10_1:
    label: win10_1
    ip: 192.168.122.101
    platform: Windows
    os_version: 10
    mac_address:
    snapshot:
    interface: virbr7
    agent_port: 8000
    architecture: AMD64
    tags:
      - adobereader11
  second:
    label: 2
    ip: 192.168.122.102
    platform: windows
    os_version: "7"
    snapshot: clean
    architecture: amd64
    tags: []
`

func TestCuckoo3sFileLoadsUnchanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kvm.yaml")
	if err := os.WriteFile(path, []byte(cuckooYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	doc, err := config.Options{Strict: true}.Load(path, Schema())
	if err != nil {
		t.Fatal(err)
	}
	c := FromDocument(doc)
	if c.URI != "qemu:///system" || c.Interface != "lo" || len(c.Machines) != 2 || c.LoadTimeout != DefaultLoadTimeout || c.StopTimeout != DefaultStopTimeout {
		t.Errorf("%+v", c)
	}
	first, second := c.Machines[0], c.Machines[1]
	first.place, second.place = "", ""
	if got, want := fmt.Sprintf("%+v", first), fmt.Sprintf("%+v", MachineConfig{Name: "win10_1", Label: "win10_1", IP: "192.168.122.101", Platform: "windows",
		OSVersion: "10", Architecture: "amd64", AgentPort: 8000, Interface: "virbr7", Tags: []string{"adobereader11"}}); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if second.Label != "2" || second.Snapshot != "clean" {
		t.Errorf("%+v", second)
	}
}

func TestTheTemplateHasEveryKeyOfTheSchemaWithAComment(t *testing.T) {
	if err := conftemplates.Check(Template, schema); err != nil {
		t.Error(err)
	}
}
