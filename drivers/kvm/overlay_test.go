//go:build linux

package kvm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/internal/qcow2"
)

// definition is a domain as libvirt 9.0.0 has it in a memory image, with the two disks of a test.
const definition = `<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>win10</name>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='none'/>
      <source file='%A' index='1'/>
      <backingStore type='file'><format type='raw'/><source file='/below'/><backingStore/></backingStore>
      <target dev='sda' bus='sata'/>
    </disk>
    <disk type='file' device='cdrom'><source file='/cd.iso'/><target dev='sdb' bus='sata'/><readonly/></disk>
    <disk type='file'><source file="%B"/><target dev='sdc' bus='sata'/></disk>
    <interface type='user'><source file='not a disk'/></interface>
  </devices>
  <qemu:commandline><qemu:arg value='-foo &amp; &lt;'/></qemu:commandline>
</domain>`

func TestOnlyTheDisksOfADefinitionAreReplaced(t *testing.T) {
	got, err := replaceDisks(definition, func(d diskXML) (string, bool) { return "/over/" + d.Target.Dev + "&'\"", d.writable() })
	if err != nil {
		t.Fatal(err)
	}
	quoted := `&amp;&#39;&#34;`
	want := strings.NewReplacer(
		`type='raw' cache`, `type="qcow2" cache`,
		` file='%A'`, ` file="/over/sda`+quoted+`"`,
		`<backingStore type='file'><format type='raw'/><source file='/below'/><backingStore/></backingStore>`, ``,
		`<disk type='file'><source file="%B"/>`, `<disk type='file'><driver name="qemu" type="qcow2"/><source file="/over/sdc`+quoted+`"/>`,
	).Replace(definition)
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestDisposableDisksAreMadeAboveWritableDisksAlone(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for _, path := range []string{a, b} {
		if err := os.WriteFile(path, make([]byte, 1<<20), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	v := &vm{d: &Machinery{}, conf: MachineConfig{Label: "win 10/x"}}
	_, overlays, err := v.overlaid(strings.NewReplacer("%A", a, "%B", b).Replace(definition), libvirt.UUID{0xab})
	if err != nil || len(overlays) != 2 {
		t.Fatalf("%v, %v", overlays, err)
	}
	for i, base := range []string{a, b} {
		for range 2 { // the second is in the place of one that an earlier run left
			if err := overlays[i].make(); err != nil {
				t.Fatal(err)
			}
		}
		info, err := qcow2.Inspect(overlays[i].path)
		if err != nil || info.VirtualSize != 1<<20 || info.BackingFile != base {
			t.Errorf("the overlay of %s is %+v, %v", base, info, err)
		}
		if file, err := os.Stat(overlays[i].path); err != nil || file.Mode().Perm()&0o007 != 0 {
			t.Errorf("others may use %s: %v, %v", overlays[i].path, file.Mode(), err)
		}
	}
	if name := filepath.Base(overlays[0].path); name != "win_10_x-ab00000000000000-sda_disposable.qcow2" {
		t.Errorf("it is called %s", name)
	}
}

func TestWhatCannotBeGivenADisposableDiskIsNamed(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	of := func(disk string) string { return "<domain><devices>" + disk + "</devices></domain>" }
	for what, c := range map[string]struct{ xml, want string }{
		"a block device": {of(`<disk type='block'><source dev='/dev/sdz'/><target dev='vda'/></disk>`), "vda (/dev/sdz)"},
		"a missing file": {of(`<disk type='file'><source file='/nowhere/x'/><target dev='vda'/></disk>`), "/nowhere/x"},
		"another format": {of(`<disk type='file'><driver type='vdi'/><source file='` + file + `'/><target dev='vda'/></disk>`), "vdi"},
		"not as said":    {of(`<disk type='file'><driver type='qcow2'/><source file='` + file + `'/><target dev='vda'/></disk>`), "to be qcow2"},
		"nvram":          {`<domain><os><nvram>/vars.fd</nvram></os></domain>`, "nvram"},
	} {
		v := &vm{d: &Machinery{}}
		_, _, err := v.overlaid(c.xml, libvirt.UUID{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q in it", what, err, c.want)
		}
	}
}

func TestAMemoryImageSaysHowTheMachineStands(t *testing.T) {
	dir := t.TempDir()
	header := func(magic string, ran byte) []byte {
		h := make([]byte, 92)
		copy(h, magic)
		h[24] = ran
		return h
	}
	for name, c := range map[string]struct {
		data []byte
		want standing
		err  string
	}{
		"ran":        {header("LibvirtQemudSave", 1), standsRunning, ""},
		"stood":      {header("LibvirtQemudSave", 0), standsPaused, ""},
		"unfinished": {header("LibvirtQemudPart", 1), "", "not written to its end"},
		"other":      {header("QFI\xfb", 1), "", "no memory image"},
		"short":      {[]byte("LibvirtQemudSave"), "", "no memory image"},
		"empty":      {nil, "", "no memory image"},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readImage(path)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && (!strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), path)) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := readImage(filepath.Join(dir, "missing")); err == nil {
		t.Error("one that is missing is taken")
	}
}
