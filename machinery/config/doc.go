// Package config reads the YAML files that describe machines, such as qemu.yaml.
//
// A driver declares the keys of its file once, as data: a [Schema], which is a table of [Field], each with a type that
// says what the value must be. [Load] holds a file against it and gives a [Document] with typed values.
//
// Everything that is wrong with a file comes in one go, as [Problems]. Each is placed, shows its line, and says what to do:
//
//	qemu.yaml:16:17: machines.win10_1.agent_port: "eight" is not a whole number
//	   16 |     agent_port: eight
//	      |                 ^
//	      hint: write a whole number from 1 to 65535
//
// # What a value is
//
// Files that Cuckoo3 loads are loaded, and mean the same, but nothing is lost or let pass in silence on the way:
//
//   - A text is kept as it was written. 18.10 is "18.10" and no is "no", with or without quotes; Cuckoo3 reads 18.1 and False.
//   - A falsy value is a value. 0, false and "" never turn into the default; a bound of 0 is a bound.
//   - An absent optional key has its default. A key that is present but null does not: null, blank text and the empty
//     list are errors unless the field has AllowEmpty.
//   - A number that is none is an error: 8000.9, true, 010. "8000" is a number. Cuckoo3 reads 8000.9 as 8000.
//   - Unknown keys are warnings with the nearest known one, because Cuckoo3 ignores them and files must keep loading;
//     [Options] can make them errors. "enabled: false" is such a key: Cuckoo3 stops checking below it, and loads the
//     machine all the same, which helps nobody.
//   - Duplicate keys are errors. Cuckoo3 takes the last, and a machine vanishes.
//   - A single text is a list of one. An element that is null or "" is left out, as in Cuckoo3, but with a warning; 0 and
//     false stay.
//   - A directory is not a file, and rights are those of the effective user. Paths keep their white space.
//   - Values that must be unique are compared by what they mean: addresses in their canonical form, paths after symbolic
//     links. A value that is absent or empty is never a duplicate.
//   - Anchors, aliases and merge keys ("<<: *name") work. Tags of one's own do not.
//
// # Bad input
//
// Files are read whole and have a bound ([MaxSize]). Nesting, references and the number of problems have bounds as well, so
// that no file, however made, takes much time or memory. Messages are safe to print on a terminal; values of sensitive
// fields are not in them, nor the lines that hold them.
//
// A Schema is also meant to be turned into documentation, templates and JSON Schema, which is why its types are a closed set.
package config
