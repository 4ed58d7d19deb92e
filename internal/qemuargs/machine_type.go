package qemuargs

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Version is QEMU's, as far as machine types have it.
type Version struct{ Major, Minor int }

// versionPattern finds it in what VMCloak and people write: "7.2.22", "QEMU 7.2".
var versionPattern = regexp.MustCompile(`(\d{1,4})\.(\d{1,4})`)

// ParseVersion finds a version in a text.
func ParseVersion(text string) (Version, bool) {
	found := versionPattern.FindStringSubmatch(text)
	if found == nil {
		return Version{}, false
	}
	major, _ := strconv.Atoi(found[1]) // four digits at most
	minor, _ := strconv.Atoi(found[2])
	return Version{major, minor}, true
}

// Type is the name of a machine type, such as q35 or pc-q35-7.2.
type Type string

// In is what a name without a version means in a version of QEMU; others mean themselves.
func (n Type) In(v Version) Type {
	switch n {
	case "q35":
		return Type(fmt.Sprintf("pc-q35-%d.%d", v.Major, v.Minor))
	case "pc":
		return Type(fmt.Sprintf("pc-i440fx-%d.%d", v.Major, v.Minor))
	}
	return n
}

var versionedPattern = regexp.MustCompile(`^pc-(q35|i440fx)-\d+\.\d+$`)

// Versioned is whether a machine type is the same in every QEMU that has it, and is one that QEMU itself names.
func (n Type) Versioned() bool { return versionedPattern.MatchString(string(n)) }

// MachineType is the option that chooses a machine type, and the name that it has. Without one it is QEMU's own choice.
func MachineType(args []string) (option string, name Type) {
	option, name = "the machine without -M", "pc"
	for i := 0; i+1 < len(args); i++ {
		if o := optionName(args[i]); o != "M" && o != "machine" {
			continue
		}
		for j, s := range strings.Split(args[i+1], ",") {
			key, value, has := strings.Cut(s, "=")
			switch {
			case j == 0 && !has:
				option, name = args[i]+" "+key, Type(key)
			case key == "type":
				option, name = args[i]+" "+value, Type(value)
			}
		}
	}
	return option, name
}

// OtherType says that a snapshot is of another machine type than a command line makes a machine of, as QEMU loads none of those, and what
// to write; empty if it is not, or that cannot be told. saved is the type that the snapshot is of, and here the version of QEMU.
func OtherType(saved string, args []string, here Version) string {
	option, wanted := MachineType(args)
	if meant := wanted.In(here); Type(saved).Versioned() && meant.Versioned() && string(meant) != saved {
		return fmt.Sprintf("its snapshot is of the machine type %s, and %s is %s in QEMU %d.%d, which does not load it; write \"-M\", %q",
			saved, option, meant, here.Major, here.Minor, saved)
	}
	return ""
}

// optionName is the name of an option of QEMU, which may have one dash or two; empty for what is none.
func optionName(arg string) string {
	if name, is := strings.CutPrefix(arg, "-"); is {
		return strings.TrimPrefix(name, "-")
	}
	return ""
}
