//go:build linux

package qemu

import "strings"

// What arguments could do, for those who have to decide on it.
const (
	whatGDB     = "anyone who reaches the port can read and write the guest's memory"
	whatReads   = "QEMU reads that file of the host, and the guest can see what is in it"
	whatWrites  = "QEMU writes to that file of the host, over what is there"
	whatShares  = "the guest can read all that is in that directory of the host"
	whatProgram = "QEMU runs a program on the host, with its own rights or more"
	whatCode    = "QEMU loads that file as code of its own"
	whatDisplay = "anyone who reaches it sees the guest's screen, and types in it"
	whatPeer    = "the guest talks to whatever is at the other end, and that to the guest"
	whatRemote  = "QEMU reads that disk over the network, from wherever it names"
	whatDevice  = "the guest reads and writes that device of the host"
)

// policies are the options that are a risk, always or with some values. What is neither here nor harmless is unknown, and a risk.
// (The options of QEMU 7.2.)
var policies = map[string]policy{
	"gdb":                always(whatGDB),
	"s":                  always(whatGDB),
	"qtest":              always("anyone who reaches it can read and write the guest's memory and stop its clock"),
	"netdev":             reviewNetdev,
	"nic":                reviewNetdev,
	"net":                reviewNetdev,
	"device":             reviewDevice,
	"object":             reviewObject,
	"chardev":            reviewChardev,
	"serial":             reviewSerial,
	"parallel":           reviewSerial,
	"debugcon":           reviewSerial,
	"display":            reviewDisplay,
	"audiodev":           reviewAudio,
	"audio":              reviewAudio,
	"sandbox":            reviewSandbox,
	"vnc":                values(whatDisplay, "none"),
	"spice":              always(whatDisplay),
	"curses":             always("QEMU has no terminal here to show the guest's screen on"),
	"fsdev":              always(whatShares),
	"virtfs":             always(whatShares),
	"iscsi":              always("QEMU logs in to storage over the network"),
	"usbdevice":          values("the guest gets a device of the host, or an unknown one", "tablet", "mouse", "keyboard", "wacom-tablet"),
	"bios":               always(whatReads),
	"kernel":             always(whatReads),
	"initrd":             always(whatReads),
	"dtb":                always(whatReads),
	"option-rom":         always(whatReads),
	"L":                  always("QEMU takes the guest's firmware from that directory"),
	"acpitable":          keys(map[string]string{"file": whatReads, "data": whatReads}),
	"smbios":             keys(map[string]string{"file": whatReads, "path": whatReads}),
	"fw_cfg":             keys(map[string]string{"file": whatReads}),
	"boot":               keys(map[string]string{"splash": whatReads}),
	"M":                  reviewMachine,
	"machine":            reviewMachine,
	"mem-path":           always("the guest's memory is a file of the host, with the guest's secrets in it"),
	"plugin":             always(whatCode),
	"trace":              always(whatWrites),
	"D":                  always(whatWrites),
	"d":                  always("QEMU logs what the guest does without an end, to a place that can fill up"),
	"dfilter":            always("QEMU logs what the guest does without an end, to a place that can fill up"),
	"qtest-log":          always(whatWrites),
	"semihosting":        always("the guest can read and write the host's files"),
	"semihosting-config": always("the guest can read and write the host's files"),
	"set":                always("it changes another argument, after that was looked at"),
	"run-with":           always("it changes what user and directory QEMU runs in"),
	"drive":              reviewDrive,
	"blockdev":           reviewDrive,
	"cdrom":              reviewDrive,
	"xen-attach":         always("QEMU becomes part of another hypervisor's machine"),
	"xen-domid":          always("QEMU becomes part of another hypervisor's machine"),
}

var reviewMachine = keys(map[string]string{
	"dumpdtb": whatWrites, "dtb": whatReads, "kernel": whatReads, "initrd": whatReads, "firmware": whatReads,
})

// remoteDisks are the drivers for disks that are elsewhere, and the beginnings of their names; hostDisks those for devices of the host.
var (
	remoteDisks = set("nbd ssh http https ftp ftps iscsi rbd nfs gluster sheepdog")
	hostDisks   = set("host_device host_cdrom nvme nvme-io_uring virtio-blk-vhost-user virtio-blk-vhost-vdpa virtio-blk-vfio-pci io_uring")
)

// set is a set of words, which are separated by white space.
func set(words string) map[string]bool {
	all := map[string]bool{}
	for _, word := range strings.Fields(words) {
		all[word] = true
	}
	return all
}

// harmlessOptions say what hardware a machine has, or how it looks. Those that QEMU 7.2 has no more are there because a
// machineinfo.json may be old; QEMU itself says so then.
var harmlessOptions = set(`accel enable-kvm smp m cpu numa name uuid k vga rtc icount usb nodefaults no-user-config nouserconfig
	no-reboot no-acpi no-hpet no-fd-bootchk win2k-hack msg overcommit portrait full-screen alt-grab ctrl-grab no-quit rotate g
	only-migratable mem-prealloc global action watchdog watchdog-action compat seed echr append soundhw singlestep old-param
	prom-env enable-fips enable-sync-profile async-teardown sdl
	localtime realtime rtc-td-hack no-kvm-irqchip no-kvm-pit no-kvm-pit-reinjection tdf balloon monitor
	hda hdb hdc hdd fda fdb sd pflash mtdblock`)

// harmlessDevices are devices that are emulated alone, or that go where a -drive, -netdev or -chardev says, which is looked at itself.
var harmlessDevices = set(`ide-hd ide-cd ide-drive scsi-hd scsi-cd scsi-disk floppy isa-fdc sd-card sdhci-pci nvme nvme-ns
	ahci ich9-ahci piix3-ide piix4-ide lsi lsi53c895a lsi53c810 megasas megasas-gen2 mptsas1068 pvscsi am53c974 dc390
	virtio-blk virtio-blk-pci virtio-scsi virtio-scsi-pci virtio-net virtio-net-pci virtio-balloon virtio-balloon-pci
	virtio-serial virtio-serial-pci virtserialport virtconsole virtio-rng virtio-rng-pci virtio-gpu virtio-gpu-pci virtio-vga
	virtio-keyboard-pci virtio-mouse-pci virtio-tablet-pci virtio-iommu virtio-iommu-pci virtio-mem-pci virtio-pmem-pci
	e1000 e1000e e1000-82544gc e1000-82545em igb rtl8139 ne2k_pci ne2k_isa pcnet vmxnet3 tulip usb-net
	i82550 i82551 i82557a i82557b i82557c i82558a i82558b i82559a i82559b i82559c i82559er i82562 i82801
	usb-tablet usb-mouse usb-kbd usb-wacom-tablet usb-hub usb-storage usb-bot usb-uas usb-audio usb-serial usb-ccid usb-bt-dongle
	qemu-xhci nec-usb-xhci usb-ehci ich9-usb-ehci1 ich9-usb-ehci2 ich9-usb-uhci1 ich9-usb-uhci2 ich9-usb-uhci3 ich9-usb-uhci4
	ich9-usb-uhci5 ich9-usb-uhci6 piix3-usb-uhci piix4-usb-uhci pci-ohci
	isa-serial pci-serial pci-serial-2x pci-serial-4x isa-parallel isa-debugcon isa-debug-exit
	AC97 ES1370 sb16 adlib cs4231a gus intel-hda ich9-intel-hda hda-duplex hda-output hda-micro
	VGA isa-vga secondary-vga cirrus-vga isa-cirrus-vga qxl qxl-vga vmware-svga bochs-display ramfb
	pci-bridge pcie-root-port ioh3420 x3130-upstream xio3130-downstream pcie-pci-bridge i82801b11-bridge pxb pxb-pcie
	intel-iommu amd-iommu i6300esb ib700 pvpanic pvpanic-pci vmgenid vmcoreinfo vmmouse isa-applesmc hpet
	pc-dimm nvdimm smbus-eeprom`)

// harmlessObjects are those of QEMU's objects that are of no consequence outside of it.
var harmlessObjects = []string{"memory-backend-ram", "memory-backend-memfd", "rng-builtin", "iothread", "main-loop", "throttle-group", "thread-context", "can-bus", "filter-buffer"}

// objectRisks is what the others can do.
var objectRisks = map[string]string{
	"memory-backend-file":  "the guest's memory is a file of the host, and what was in it is written over",
	"memory-backend-epc":   whatDevice,
	"secret":               whatReads,
	"secret_keyring":       "QEMU reads the host's keys",
	"tls-creds-x509":       whatReads,
	"tls-creds-psk":        whatReads,
	"rng-random":           whatReads,
	"rng-egd":              whatPeer,
	"filter-dump":          "QEMU writes the guest's network traffic to a file of the host without an end",
	"filter-mirror":        "the guest's network traffic goes elsewhere too",
	"filter-redirector":    "the guest's network traffic goes elsewhere",
	"filter-rewriter":      "the guest's network traffic is changed",
	"filter-replay":        "the guest's network traffic is replaced",
	"input-linux":          "the host's keyboard and mouse are the guest's",
	"cryptodev-vhost-user": whatPeer,
	"x-remote-object":      whatPeer,
	"x-vfio-user-server":   whatPeer,
	"pr-manager-helper":    "the guest can reserve disks of the host for itself",
}

// backendRisks is what character devices can do, by their kind as -chardev and as -serial have it.
var backendRisks = map[string]string{
	"file":         whatWrites + ", without an end",
	"pipe":         whatPeer,
	"socket":       whatPeer,
	"udp":          whatPeer,
	"tcp":          whatPeer,
	"telnet":       whatPeer,
	"websocket":    whatPeer,
	"unix":         whatPeer,
	"pty":          whatPeer,
	"stdio":        "QEMU has no terminal here for the guest to talk to",
	"console":      "QEMU has no terminal here for the guest to talk to",
	"con":          "QEMU has no terminal here for the guest to talk to",
	"serial":       whatDevice,
	"tty":          whatDevice,
	"parallel":     whatDevice,
	"parport":      whatDevice,
	"braille":      whatDevice,
	"spicevmc":     whatPeer,
	"spiceport":    whatPeer,
	"dbus":         whatPeer,
	"qemu-vdagent": "the guest shares the clipboard of whoever looks at its screen",
}
