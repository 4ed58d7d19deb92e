// Package edit changes a user's configuration file where it has to change, and nowhere else: a machine is added to it or
// removed from it by splicing bytes. Comments, order, quotes, indentation, line ends and everything else that a YAML library
// would lose or rearrange stay as they are.
//
//	err := edit.Update("/etc/cuckoo/qemu.yaml", qemu.Schema(), func(f *edit.File) error {
//		return f.AddMachine("win10_2", []edit.Setting{
//			{Key: "ip", Value: "192.168.30.102"},
//			{Key: "tags", Value: []string{"office", "dotnet"}},
//			…
//		})
//	})
//
// What is added is laid out like what is there: indentation, kind of lists, quotes, empty lines between machines, braces. A
// machine that is added and removed again leaves the same bytes. Only in a file without any machine is that not always
// so: one that lacked the key "machines" may have it then, and "machines: null" is "machines:".
//
// # No edit without proof
//
// After each edit the new text is parsed and held against what was meant: the old tree with exactly this machine more
// or less. If anything else comes out, nothing is changed and the error says where a person has to help. So it is where
// machines come from another section by an alias or a merge key, where others refer to a machine that is to be removed, and
// where a key stands twice.
//
// # Files
//
// Save is atomic and looks first whether somebody else has changed the file. Update locks as well, so that of several at
// once each sees what the one before it did.
package edit
