//go:build linux

package qemu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/machineries/machineries/machinery"
)

func TestMediaThatCannotBeRevertedAreRefused(t *testing.T) {
	for arg, want := range map[string]string{
		"-hdb nbd:localhost:1":                                             "only files",
		"-hdb /dev/null":                                                   "only files",
		"-drive file=fat:rw:/tmp,format=raw":                               "not a plain file",
		"-drive file=json:{},format=raw":                                   "not a plain file",
		"-drive file=a.vmdk,format=vmdk":                                   "its format is vmdk",
		"-drive file=a,file.filename=b":                                    "two files",
		"-drive file=a,backing.file=b":                                     "backing.file",
		"-drive file.driver=host_device,file.filename=a":                   "file.driver",
		"-blockdev driver=file,filename=a,node-name=x":                     "no node of a format uses it",
		"-blockdev nbd,server.type=inet,server.host=h":                     "its driver is nbd",
		"-blockdev driver=vmdk,file.driver=file,file.filename=a":           "its driver is vmdk",
		"-blockdev driver=raw,file.driver=host_device,file.filename=a":     "its driver is host_device",
		"-blockdev driver=raw,offset=512,file.driver=file,file.filename=a": "because of offset",
		"-blockdev driver=raw,file.driver=file,file.filename=/dev/null":    "not a plain file",
		`-blockdev {"driver":"qcow2","backing":{"driver":"null-co"},"file":{"driver":"file","filename":"a"}}`: "because of backing",
		`-blockdev {"driver":"raw","file":{"driver":"raw","file":{"driver":"file","filename":"a"}}}`:          "because of file.file",
		"-object memory-backend-file,id=m,size=1M,mem-path=/a,share=on":                                       "share=off",
		`-object {"qom-type":"memory-backend-file","id":"m","mem-path":"/a","share":true}`:                    "share=off",
		"-device ivshmem-plain,memdev=m":                      "another process",
		`-device {"driver":"ivshmem-doorbell","chardev":"c"}`: "another process",
	} {
		option, value, _ := strings.Cut(arg, " ")
		err := CheckArgs([]string{"-drive", theDisk, option, value}, "")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", arg, err, want)
		}
	}
}

func TestTwoMediaThatAreOneFileAreRefused(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	vm := s.add("vm", snaps.disk, snaps.running)
	file := filepath.Join(s.dir, "second")
	if err := os.WriteFile(file, make([]byte, 512), 0o600); err != nil {
		t.Fatal(err)
	}
	vm.Args = machineArgs("-hdc", file, "-hdd", file)
	m := s.open(machinery.Options{})
	err := m.RestoreStart(limit(t), "vm")
	mustKind(t, err, machinery.ErrConfig)
	if !strings.Contains(err.Error(), file) {
		t.Errorf("%v does not name %s", err, file)
	}
}

func TestABlockdevIsGivenAnOverlayInItsPlace(t *testing.T) {
	for args, want := range map[string]string{
		"-blockdev raw,node-name=n,file.driver=file,file.filename=/a":                                           "-blockdev driver=qcow2,node-name=n,file.driver=file,file.filename=/o",
		"-blockdev driver=qcow2,file.filename=/a,,b,file.driver=file,lazy-refcounts=on":                         "-blockdev driver=qcow2,file.filename=/o,file.driver=file,lazy-refcounts=on",
		`-blockdev {"driver":"raw","size":0,"file":{"driver":"file","filename":"/a","x":12345678901234567}}`:    `-blockdev {"driver":"qcow2","file":{"driver":"file","filename":"/o","x":12345678901234567},"size":0}`,
		`-blockdev {"driver":"qcow2","backing":null,"file":{"driver":"file","filename":"/a"}}`:                  `-blockdev {"backing":null,"driver":"qcow2","file":{"driver":"file","filename":"/o"}}`,
		"-blockdev file,node-name=f,filename=/a -blockdev driver=raw,node-name=n,file=f -device ide-hd,drive=n": "-blockdev driver=file,node-name=f,filename=/o -blockdev driver=qcow2,node-name=n,file=f -device ide-hd,drive=n",
		`-blockdev raw,node-name=n,file=f -blockdev {"driver":"file","node-name":"f","filename":"/a"}`:          `-blockdev driver=qcow2,node-name=n,file=f -blockdev {"driver":"file","filename":"/o","node-name":"f"}`,
		// These stay as they are.
		"-blockdev file,node-name=f,filename=/a -blockdev raw,node-name=n,file=f,read-only=on": "-blockdev file,node-name=f,filename=/a -blockdev raw,node-name=n,file=f,read-only=on",
		`-blockdev {"driver":"raw","read-only":true,"file":{"driver":"file","filename":"/a"}}`: `-blockdev {"driver":"raw","read-only":true,"file":{"driver":"file","filename":"/a"}}`,
		"-blockdev null-co,node-name=n":                                             "-blockdev null-co,node-name=n",
		"-object memory-backend-file,id=m,size=1M,mem-path=/a":                      "-object memory-backend-file,id=m,size=1M,mem-path=/a",
		"-object memory-backend-file,id=m,size=1M,mem-path=/tmp,share=on":           "-object memory-backend-file,id=m,size=1M,mem-path=/tmp,share=on",
		"-object memory-backend-file,id=m,size=1M,mem-path=/a,share=on,readonly=on": "-object memory-backend-file,id=m,size=1M,mem-path=/a,share=on,readonly=on",
	} {
		line, err := parseArgs(append([]string{"-drive", theDisk}, strings.Fields(args)...), "")
		if err != nil {
			t.Errorf("%s: %v", args, err)
			continue
		}
		overlays := []string{}
		for range line.media {
			overlays = append(overlays, "/o")
		}
		if got := strings.Join(line.with("/d", overlays...)[2:], " "); got != want {
			t.Errorf("%s\n becomes %s\n    want %s", args, got, want)
		}
	}
}

func TestAFileNodeThatIsUsedInAnotherWayIsRefused(t *testing.T) {
	const node = "-blockdev driver=file,node-name=f,filename=/a "
	for args, want := range map[string]string{
		"-device ide-hd,drive=f": "not exactly one node",
		"-blockdev raw,node-name=n,file=f -blockdev raw,node-name=o,file=f":       "2 others",
		"-blockdev raw,node-name=n,file=f -device ide-hd,drive=f":                 "2 others",
		"-blockdev vmdk,node-name=n,file=f":                                       "driver vmdk",
		"-blockdev qcow2,node-name=n,file.driver=file,file.filename=/c,backing=f": "not exactly one node",
		`-device {"driver":"ide-hd","drive":"f"}`:                                 "not exactly one node",
		"-machine pflash1=f": "not exactly one node",
	} {
		_, err := parseArgs(append([]string{"-drive", theDisk}, strings.Fields(node+args)...), "")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}
