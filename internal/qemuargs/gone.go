// Package qemuargs knows what command lines for QEMU mean from one version of it to the next: arguments that are gone, and machine types.
package qemuargs

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// What older versions of QEMU had, and QEMU 7.2.22 answers with an error. -enable-kvm, with one dash or two, is not among it.

// goneOption is an option that QEMU has not any more.
type goneOption struct {
	// value is whether it had one.
	value bool
	// instead is what to write in its place.
	instead string
}

var goneOptions = map[string]goneOption{
	"alt-grab":       {false, "leave it out"},
	"balloon":        {true, "write -device virtio-balloon"},
	"bootp":          {true, "write bootfile= in the settings of -netdev user"},
	"bt":             {true, "leave it out"},
	"clock":          {true, "leave it out"},
	"ctrl-grab":      {false, "leave it out"},
	"curses":         {false, "write -display curses"},
	"enable-nesting": {false, "write vmx=on or svm=on in the settings of -cpu"},
	"hdachs":         {true, "write cyls=, heads= and secs= in the settings of -device ide-hd"},
	"localtime":      {false, "write -rtc base=localtime"},
	"no-frame":       {false, "leave it out"},
	"no-kvm":         {false, "write -accel tcg"},
	"no-kvm-irqchip": {false, "write -machine kernel_irqchip=off"},
	"no-kvm-pit":     {false, "leave it out"},
	"nodefconfig":    {false, "write -no-user-config"},
	"nouserconfig":   {false, "write -no-user-config"},
	"realtime":       {true, "write -overcommit mem-lock=on for mlock=on, and nothing for mlock=off"},
	"redir":          {true, "write hostfwd= in the settings of -netdev user"},
	"rtc-td-hack":    {false, "write -rtc driftfix=slew"},
	"sdl":            {false, "write -display sdl"},
	"show-cursor":    {false, "write show-cursor=on in the settings of -display"},
	"smb":            {true, "write smb= in the settings of -netdev user"},
	"soundhw":        {true, "write -device AC97 for ac97, and -device intel-hda -device hda-duplex for hda, with -audiodev none"},
	"startdate":      {true, "write -rtc base="},
	"tb-size":        {true, "write -accel tcg,tb-size="},
	"tdf":            {false, "leave it out"},
	"tftp":           {true, "write tftp= in the settings of -netdev user"},
	"watchdog":       {true, "write -device with the watchdog's name"},
	"writeconfig":    {true, "leave it out"},
}

// goneValue is something in the value of an option that QEMU has not any more.
type goneValue struct {
	options []string
	value   *regexp.Regexp
	instead string
}

var goneValues = []goneValue{
	{[]string{"device"}, regexp.MustCompile(`^ide-drive(,|$)`), "write ide-hd, or ide-cd for a CD drive"},
	{[]string{"device"}, regexp.MustCompile(`^scsi-disk(,|$)`), "write scsi-hd, or scsi-cd for a CD drive"},
	{[]string{"device"}, regexp.MustCompile(`^ivshmem(,|$)`), "write ivshmem-plain or ivshmem-doorbell"},
	{[]string{"device", "net"}, regexp.MustCompile(`(^|,)vlan=`), "write -netdev with an id, and netdev= with that in the settings of the device"},
	{[]string{"drive"}, regexp.MustCompile(`(^|,)(addr|boot|cyls|heads|secs|serial|trans)=`), "write such settings of the drive with -device, and if=none and an id with -drive"},
	{[]string{"M", "machine"}, regexp.MustCompile(`^(type=)?pc-(i440fx-)?(0\.\d+|1\.[0-3])(,|$)`), "QEMU has no such machine type, and the snapshot has to be made anew with one that it has"},
}

// Gone says which arguments QEMU has not any more, and what to write, one sentence each. left are the others.
func Gone(args []string) (found, left []string) {
	for i := 0; i < len(args); i++ {
		name := optionName(args[i])
		if o, gone := goneOptions[name]; gone {
			argument := args[i]
			if o.value && i+1 < len(args) && optionName(args[i+1]) == "" {
				i++
				argument += " " + args[i]
			}
			found = append(found, fmt.Sprintf("QEMU has no argument %s any more; %s", Quoted(argument), o.instead))
			continue
		}
		left = append(left, args[i])
		if name == "" || i+1 == len(args) {
			continue
		}
		for _, v := range goneValues {
			if slices.Contains(v.options, name) && v.value.MatchString(strings.TrimSpace(args[i+1])) {
				found = append(found, fmt.Sprintf("QEMU does not take the argument %s any more; %s", Quoted(args[i]+" "+args[i+1]), v.instead))
			}
		}
	}
	return found, left
}

// Quoted is an argument, or other text out of a machine's definition, as a sentence has it, shortened if it is long.
func Quoted(text string) string {
	const most = 60
	if utf8.RuneCountInString(text) > most {
		text = string([]rune(text)[:most]) + "…"
	}
	return fmt.Sprintf("%q", text)
}
