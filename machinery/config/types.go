package config

import "time"

// Type is what the value of a Field must be. The types of this package are all there are: the schema must also be
// expressible as documentation, templates and JSON Schema, which is not possible for arbitrary code.
type Type interface {
	// Describe names the type in the words of a message: "a whole number from 1 to 65535".
	Describe() string
	kind() kind
}

// kind is the way in which a value is read from a Values; each kind has one accessor.
type kind int

const (
	kindText kind = iota
	kindInt
	kindBool
	kindDuration
	kindList
	kindDict
	kindDictList
	kindSection
	kindMachines
)

// accessors names, for each kind, the method of Values that reads it.
var accessors = map[kind]string{
	kindText: "String", kindInt: "Int", kindBool: "Bool", kindDuration: "Duration", kindList: "Strings",
	kindDict: "Dict", kindDictList: "Sections", kindSection: "Section", kindMachines: "Entries",
}

// String is any text. It keeps the text as it was written in the file: 18.10 stays "18.10" and no stays "no",
// which a YAML reader would otherwise turn into 18.1 and false. White space around it is removed.
type String struct {
	// ToLower makes the text lower-case.
	ToLower bool
	// OneOf are the texts that there can be; nil means any.
	OneOf []string
}

// Int is a whole number: 8000, "8000", 8_000 or 0x1f40. A fraction, a truth value or a number with a leading zero
// (which YAML readers disagree about) is an error.
type Int struct {
	// Min and Max are the bounds, both included; nil means none. A bound of 0 is a bound.
	Min, Max *int64
}

// Between is an Int with both bounds, which are included.
func Between(min, max int64) Int { return Int{Min: &min, Max: &max} }

// Bool is a truth value: true, yes, on, false, no or off, in any case, with or without quotes.
type Bool struct{}

// Duration is a length of time: 90s, 1m30s, 250ms; a number alone is seconds. It is never negative.
type Duration struct {
	// Min and Max are the bounds, both included; nil means none.
	Min, Max *time.Duration
}

// FilePath is the path of a file, kept as it was written. A directory, a named pipe or a socket is not a file.
// Relative paths are relative to the working directory of the process. The user asked about is the effective one.
type FilePath struct {
	// MustExist wants the file to be there. Readable, Writable and Executable want that too.
	MustExist bool
	// Readable, Writable and Executable want this right for the process's effective user.
	Readable, Writable, Executable bool
}

// DirectoryPath is the path of a directory, kept as it was written; as FilePath otherwise.
type DirectoryPath struct {
	// MustExist wants the directory to be there. Readable and Writable want that too.
	MustExist bool
	// Readable wants that the effective user may list and enter the directory; Writable that it may make files in it.
	Readable, Writable bool
}

// UnixSocketPath is the path of a unix socket: at most 107 bytes, which is what the kernel takes.
type UnixSocketPath struct {
	// MustExist wants a socket to be there. Readable and Writable want that too.
	MustExist bool
	// Readable and Writable want this right for the process's effective user; to connect needs Writable.
	Readable, Writable bool
}

// NetworkInterface is the name of a network interface of this host. Without MustExist it is free text, because it
// may then name something else, such as a libvirt network.
type NetworkInterface struct {
	// MustExist wants the interface to be there; MustBeUp wants it to be there and up.
	MustExist, MustBeUp bool
}

// MACAddress is an Ethernet address in the form 52:54:00:12:34:56.
type MACAddress struct {
	// ToLower makes the address lower-case.
	ToLower bool
}

// IPAddress is an IPv4 or IPv6 address without mask, port or zone. It reads in its canonical form.
type IPAddress struct {
	// Version is 4 or 6 for that version alone, 0 for either.
	Version int
}

// HypervisorURI is a libvirt connection URI, such as qemu:///system or qemu+ssh://user@host/system, or the path of a socket that libvirt listens
// on, such as /run/libvirt/libvirt-sock. One with a password is refused: it is in too many messages to be kept secret.
type HypervisorURI struct{}

// HTTPUrl is an absolute URL with scheme http or https.
// Mark the Field Sensitive if such a URL may hold a password.
type HTTPUrl struct{}

// List is a list of plain values. A value alone is a list of one, as in Cuckoo3; an element that is null or the
// empty text is left out, with a warning.
type List struct {
	// Of is the type of each element: any type but List, Dict, DictList, Section and Machines. nil means String{}.
	Of Type
}

// Dict is a mapping from names that the file chooses to plain values.
type Dict struct {
	// Of is the type of each value, as in List.
	Of Type
}

// DictList is a list of sections that all have the same keys.
type DictList struct {
	Fields []Field
	// Unique are the keys whose value no two elements may share. Absent and empty values are never duplicates.
	Unique []string
}

// Section is a mapping with keys of its own.
type Section struct {
	Fields []Field
}

// Machines is a mapping from machine names to sections that all have the same keys. The order of the file is kept.
type Machines struct {
	Fields []Field
	// Unique are the keys whose value no two machines may share. Absent and empty values are never duplicates.
	// Paths are compared after symbolic links, addresses in their canonical form.
	Unique []string
	// Example is the machine name that documentation and templates show.
	Example string
}

func (String) kind() kind           { return kindText }
func (Int) kind() kind              { return kindInt }
func (Bool) kind() kind             { return kindBool }
func (Duration) kind() kind         { return kindDuration }
func (FilePath) kind() kind         { return kindText }
func (DirectoryPath) kind() kind    { return kindText }
func (UnixSocketPath) kind() kind   { return kindText }
func (NetworkInterface) kind() kind { return kindText }
func (MACAddress) kind() kind       { return kindText }
func (IPAddress) kind() kind        { return kindText }
func (HypervisorURI) kind() kind    { return kindText }
func (HTTPUrl) kind() kind          { return kindText }
func (List) kind() kind             { return kindList }
func (Dict) kind() kind             { return kindDict }
func (DictList) kind() kind         { return kindDictList }
func (Section) kind() kind          { return kindSection }
func (Machines) kind() kind         { return kindMachines }
