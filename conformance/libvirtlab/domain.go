//go:build linux

package libvirtlab

import (
	"crypto/rand"
	"encoding/xml"
	"fmt"
	"strings"
	"text/template"
)

// domain is what a machine is made of: one whose snapshot was made and one that
// it is restored to have to be alike, but for paths and names.
type domain struct {
	// Type is libvirt's: "qemu", "kvm" or "test".
	Type, Name, UUID string
	// Memory is in MiB.
	Memory int
	// Emulator is the path of QEMU.
	Emulator string
	// Disk is the path of the disk, and Second that of the second, if any.
	Disk, Second string
	// Serial is the socket that the guest's serial port connects to.
	Serial   string
	Headless bool
	// Network is the TCP port at 127.0.0.1 that the network card is connected to;
	// 0 for a machine without a card.
	Network int
	// MAC is the network card's address.
	MAC string
}

// Memory of a machine, in MiB, and of one that does not fit its snapshots.
const (
	memory        = 16
	memoryForeign = 32
)

// newUUID makes a random UUID.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// xml is the domain's definition.
func (d domain) xml() string {
	var text strings.Builder
	// It cannot fail: the template is whole, and a Builder takes everything.
	if err := domainTemplate.Execute(&text, d); err != nil {
		panic(err)
	}
	return text.String()
}

// escape makes text that may stand in XML.
func escape(s string) string {
	var text strings.Builder
	_ = xml.EscapeText(&text, []byte(s))
	return text.String()
}

// domainTemplate is a domain with as little in it as can be. Its first disk is on
// SATA, which SeaBIOS boots from and an internal snapshot can hold.
var domainTemplate = template.Must(template.New("domain").Funcs(template.FuncMap{"x": escape}).Parse(`<domain type='{{.Type}}'>
  <name>{{x .Name}}</name>
  <uuid>{{.UUID}}</uuid>
  <memory unit='MiB'>{{.Memory}}</memory>
  <vcpu>1</vcpu>
  <os>
    <type{{if ne .Type "test"}} arch='x86_64' machine='q35'{{end}}>hvm</type>
    <boot dev='hd'/>
  </os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
{{- if .Emulator}}
    <emulator>{{x .Emulator}}</emulator>
{{- end}}
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='{{x .Disk}}'/>
      <target dev='sda' bus='sata'/>
    </disk>
{{- if .Second}}
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='{{x .Second}}'/>
      <target dev='sdb' bus='sata'/>
    </disk>
{{- end}}
    <controller type='usb' model='none'/>
{{- if .Network}}
    <interface type='client'>
      <mac address='{{.MAC}}'/>
      <source address='127.0.0.1' port='{{.Network}}'/>
      <model type='pcnet'/>
      <rom enabled='no'/>
    </interface>
{{- end}}
{{- if .Serial}}
    <serial type='unix'>
      <source mode='connect' path='{{x .Serial}}'/>
      <target port='0'/>
    </serial>
{{- end}}
{{- if not .Headless}}
    <video><model type='vga' vram='1024'/></video>
{{- else}}
    <video><model type='none'/></video>
{{- end}}
    <memballoon model='none'/>
  </devices>
</domain>
`))

// snapshotName is the name of the snapshot that a machine is restored from.
const snapshotName = "clean"

// snapshotXML describes an internal snapshot of a domain, which has to be in the
// form that libvirt itself gives it: with all that libvirt adds.
func snapshotXML(domain, state string, second bool) string {
	disks := "<disk name='sda' snapshot='internal'/>"
	if second {
		disks += "<disk name='sdb' snapshot='internal'/>"
	}
	return fmt.Sprintf("<domainsnapshot><name>%s</name><state>%s</state><creationTime>1700000000</creationTime><memory snapshot='internal'/><disks>%s</disks>%s</domainsnapshot>",
		snapshotName, state, disks, domain)
}
