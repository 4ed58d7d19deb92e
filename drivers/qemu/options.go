//go:build linux

package qemu

// option is what the driver knows of one of QEMU's command-line options. QEMU takes each as -name and as --name.
type option struct {
	// flag options take no value; all others take the next argument, whatever that begins with.
	flag bool
	// refused says why a machine must not have the option; empty for an option it may have.
	refused string
	// harmless is a value with which a refused option is taken all the same.
	harmless string
	// value, if not nil, says what is wrong with a value, or nothing.
	value func(c *argChecker, value string) string
	// path options have a plain path as their value; in all others a comma separates settings.
	path bool
}

// The reasons for which options are refused. Tried on QEMU 7.2.22; what each does when it is let through is said where that
// is not plain from the words.
const (
	whyFreeze   = "it keeps the machine from running after the restore; the snapshot alone decides whether it runs"
	whyState    = "the driver says where the machine's state comes from, with -incoming"
	whyMonitor  = "the driver has its own monitors, and a second master could pause or change the machine behind its back"
	whyFork     = "the driver has to be QEMU's parent, or it would lose track of the process"
	whyPidfile  = "the file would be left behind; the driver knows the process"
	whyStdio    = "it puts a monitor on the terminal; QEMU has no terminal here (-display none does without a display)"
	whyHidden   = "arguments in another file cannot be checked"
	whyUser     = "QEMU would lose the rights to the files and sockets that the driver gives it, and the driver those to end it"
	whyOverlay  = "the driver puts its own disposable disk over the base; this would put a second, unseen one in /tmp over it"
	whyShutdown = "a guest that switches itself off has to end QEMU; with this it would stay, and the machine never be off"
	whyExit     = "it makes QEMU print something and exit"
	whyFDs      = "QEMU's descriptors are the driver's own; no other is passed on"
	whyReverts  = "the guest can write to it and a restore would not revert it"
	whyShared   = "it shares the guest's memory with another process, which a restore does not revert"
	whyTPM      = "the TPM keeps its state outside of the disk and the snapshot, so a restore would not revert it"
)

var flag = option{flag: true}

// options are the options that need more than "takes a value". One that is not here and not known to be a flag takes a value.
var options = map[string]option{
	"S":                   {flag: true, refused: whyFreeze},
	"preconfig":           {flag: true, refused: whyFreeze},
	"incoming":            {refused: whyState},
	"loadvm":              {refused: whyState},
	"monitor":             {refused: whyMonitor, harmless: "none"},
	"qmp":                 {refused: whyMonitor}, // unlike -monitor it knows no none (QEMU 7.2.22)
	"qmp-pretty":          {refused: whyMonitor},
	"mon":                 {refused: whyMonitor},
	"daemonize":           {flag: true, refused: whyFork},
	"pidfile":             {refused: whyPidfile, path: true},
	"nographic":           {flag: true, refused: whyStdio},
	"readconfig":          {refused: whyHidden, path: true},
	"chroot":              {refused: whyUser, path: true},
	"runas":               {refused: whyUser},
	"snapshot":            {flag: true, refused: whyOverlay},
	"no-shutdown":         {flag: true, refused: whyShutdown},
	"add-fd":              {refused: whyFDs},
	"h":                   {flag: true, refused: whyExit},
	"help":                {flag: true, refused: whyExit},
	"version":             {flag: true, refused: whyExit},
	"audio-help":          {flag: true, refused: whyExit},
	"dump-vmstate":        {refused: whyExit, path: true},
	"tpmdev":              {refused: whyTPM},
	"action":              {value: (*argChecker).action},
	"global":              {value: (*argChecker).global},
	"set":                 {value: (*argChecker).set},
	"chardev":             {value: (*argChecker).chardev},
	"serial":              {value: (*argChecker).serial},
	"parallel":            {value: (*argChecker).serial},
	"debugcon":            {value: (*argChecker).serial},
	"netdev":              {value: (*argChecker).descriptors},
	"nic":                 {value: (*argChecker).descriptors},
	"net":                 {value: (*argChecker).descriptors},
	"device":              {value: (*argChecker).device},
	"object":              {value: (*argChecker).object},
	"drive":               {value: (*argChecker).drive},
	"blockdev":            {value: (*argChecker).blockdev},
	"hda":                 {path: true, value: (*argChecker).writable},
	"hdb":                 {path: true, value: (*argChecker).writable},
	"hdc":                 {path: true, value: (*argChecker).writable},
	"hdd":                 {path: true, value: (*argChecker).writable},
	"fda":                 {path: true, value: (*argChecker).writable},
	"fdb":                 {path: true, value: (*argChecker).writable},
	"sd":                  {path: true, value: (*argChecker).writable},
	"pflash":              {path: true, value: (*argChecker).writable},
	"mtdblock":            {path: true, value: (*argChecker).writable},
	"virtfs":              {value: (*argChecker).shared},
	"fsdev":               {value: (*argChecker).shared},
	"cdrom":               {path: true},
	"kernel":              {path: true},
	"initrd":              {path: true},
	"append":              {path: true},
	"dtb":                 {path: true},
	"bios":                {path: true},
	"mem-path":            {path: true},
	"option-rom":          {path: true},
	"L":                   {path: true},
	"D":                   {path: true},
	"mem-prealloc":        flag,
	"usb":                 flag,
	"portrait":            flag,
	"full-screen":         flag,
	"win2k-hack":          flag,
	"no-fd-bootchk":       flag,
	"no-acpi":             flag,
	"no-hpet":             flag,
	"singlestep":          flag,
	"s":                   flag,
	"enable-kvm":          flag,
	"enable-fips":         flag,
	"xen-attach":          flag,
	"xen-domid-restrict":  flag,
	"no-reboot":           flag,
	"no-quit":             flag,
	"alt-grab":            flag,
	"ctrl-grab":           flag,
	"sdl":                 flag,
	"curses":              flag,
	"old-param":           flag,
	"semihosting":         flag,
	"only-migratable":     flag,
	"nodefaults":          flag,
	"no-user-config":      flag,
	"nouserconfig":        flag,
	"async-teardown":      flag,
	"enable-sync-profile": flag,
}
