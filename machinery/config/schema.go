package config

// Schema is the declaration of one configuration file: its keys in the order in which documentation and templates
// show them. It is data; a driver declares it once, as a package variable, and never changes it afterwards.
type Schema struct {
	// Name is the stem of the file's name: "qemu" for qemu.yaml.
	Name string
	// Doc says in one or two sentences what the file configures.
	Doc string
	// Fields are the keys at the top of the file.
	Fields []Field
}

// Field is one key of a Schema, a Section, a Machines or a DictList. The zero value of each flag is the strict one:
// a key is required and may not be empty unless its Field says otherwise.
type Field struct {
	// Key is the key as it stands in the file.
	Key string
	// Doc says in one sentence what the key is for. It is shown with the message when the key is missing.
	Doc string
	// Type is what the value must be.
	Type Type
	// Optional keys may be absent. The value is then Default.
	Optional bool
	// Default is the value of an optional key that the file does not have; nil means the zero value of the type.
	// It is a string, int, bool, time.Duration or []string, as Type wants, and must keep Type's own constraint.
	// A key that is present but null does not get its default.
	Default any
	// Example is a value that messages, documentation and templates show. It is never used as a value.
	// Same Go types as Default; nil means that Default is shown.
	Example any
	// AllowEmpty permits null, the empty text, the empty list and the section without keys. They read as the zero value, not as Default.
	AllowEmpty bool
	// Sensitive values are never shown in messages, nor are the lines that hold them.
	Sensitive bool
}
