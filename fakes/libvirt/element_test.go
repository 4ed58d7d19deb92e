package libvirt

import (
	"errors"
	"strings"
	"testing"
)

const domainWithAll = `<domain type='qemu' id='7' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>a &amp; b</name>
  <memory unit='MiB'>16</memory>
  <os><type machine='q35'>hvm</type></os>
  <devices>
    <disk type='file' device='cdrom'><target dev='sda'/></disk>
    <disk type='file'><source file='/d'/><target dev='sdb'/></disk>
  </devices>
  <qemu:commandline><qemu:arg value="-D"/></qemu:commandline>
</domain>`

func TestADomainsXMLIsKeptAndCompleted(t *testing.T) {
	def, name, uuid, err := parseDomain(domainWithAll)
	if err != nil {
		t.Fatal(err)
	}
	text := def.String()
	for _, want := range []string{
		"<name>a &amp; b</name>\n", "<uuid>" + formatUUID(uuid) + "</uuid>\n", "<memory unit='KiB'>16384</memory>\n", "<currentMemory unit='KiB'>16384</currentMemory>\n",
		"<vcpu placement='static'>1</vcpu>\n", "<type machine='pc-q35-7.2'>hvm</type>\n", "<on_crash>destroy</on_crash>\n",
		"xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'", "    <qemu:arg value='-D'/>\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s\nlacks %s", text, want)
		}
	}
	if strings.Contains(text, "id='7'") || name != "a & b" {
		t.Errorf("%q: %s", name, text)
	}
	if disks := diskElements(def); len(disks) != 1 || disks[0].child("target").attr("dev") != "sdb" {
		t.Errorf("%v", disks)
	}
	if again, _, _, err := parseDomain(text); err != nil || again.String() != text {
		t.Errorf("%v:\n%s", err, again)
	}
}

func TestXMLThatIsNoDomainIsRefused(t *testing.T) {
	for _, c := range []struct{ text, says string }{
		{"", "(domain_definition):1: Document is empty\n(null)"},
		{"virsh", "(domain_definition):1: Start tag expected, '<' not found\nvirsh"},
		{"<domain", "(domain_definition):1: "},
		{"<domain type='qemu'>\n<name>", "(domain_definition):2: Premature end of data in tag name\n<name>"},
		{"<a></b>", "Opening and ending tag mismatch: a and b"},
		{"<network/>", "expecting root element of 'domain', not 'network'"},
		{"<domain/>", "Missing required attribute 'type'"},
		{"<domain type='qemu'/>", "missing name information"},
		{"<domain type='qemu'><name>a</name></domain>", "an os <type> must be specified"},
		{"<domain type='qemu'><name>a</name><os><type>hvm</type></os></domain>", "missing element or attribute './memory[1]'"},
		{"<domain type='qemu'><name>a</name><uuid>xy</uuid><memory>1</memory><os><type>hvm</type></os></domain>", "malformed uuid element"},
	} {
		if _, _, _, err := parseDomain(c.text); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v, want %s", c.text, err, c.says)
		}
	}
}

func TestWhatIsNoXMLIsRefusedAsWhatItIsOf(t *testing.T) {
	for root, from := range map[string]int32{"domain": fromDomain, "domainsnapshot": fromSnapshot} {
		for _, text := range []string{"", "virsh", "<" + root, "<" + root + ">", "<a></b>", "</a>"} {
			_, err := parseXML(text, root)
			if e, is := errors.AsType[*Error](err); !is || e.Code != codeXMLDetail || e.Domain != from {
				t.Errorf("%q as a %s: %#v; want code %d of %d", text, root, err, codeXMLDetail, from)
			}
		}
		_, err := parseXML("<network/>", root)
		wantError(t, root, err, codeXML, fromXML, "XML error: expecting root element of '"+root+"', not 'network'")
	}
}

func TestANameOrUUIDThatIsTakenIsRefused(t *testing.T) {
	s, d := started(t, Options{}, "a")
	_, err := s.Define(strings.Replace(d.XML(true), d.UUID(), "01234567-89ab-4def-8123-456789abcdef", 1))
	wantError(t, "name", err, codeFailed, fromQEMU, "operation failed: domain 'a' already exists with uuid "+d.UUID())
	_, err = s.Define(strings.Replace(d.XML(true), "<name>a</name>", "<name>b</name>", 1))
	wantError(t, "uuid", err, codeFailed, fromQEMU, "operation failed: domain 'a' is already defined with uuid "+d.UUID())
	if same, err := s.Define(d.XML(true)); same != d || err != nil {
		t.Errorf("defined again: %v, %v", same, err)
	}
}

// FuzzDomain gives the parser what clients may call a domain. What it takes has to
// be taken again as it is written.
func FuzzDomain(f *testing.F) {
	f.Add(domainWithAll)
	f.Add("<domain type='&#65;'><name>a</name><memory>1</memory><os><type/></os><!-- x --><![CDATA[<]]></domain>")
	f.Fuzz(func(t *testing.T, text string) {
		def, _, _, err := parseDomain(text)
		if err != nil {
			return
		}
		if _, _, _, err := parseDomain(def.String()); err != nil {
			t.Fatalf("%v:\n%s", err, def)
		}
	})
}
