//go:build linux

package qemu

import (
	"maps"
	"slices"
)

// command is one that the fake knows.
type command struct {
	args []arg
	oob  bool // may be run out of band
	run  func(m *machine, s *session, args *dict) (any, error)
}

// Commands are the names of the QMP commands that the fake emulator knows, sorted.
// query-commands answers exactly these; what is not among them is CommandNotFound, as a command
// that QEMU lacks.
func Commands() []string { return slices.Sorted(maps.Keys(commandTable)) }

// commandTable is filled in init because query-commands looks into it.
var commandTable map[string]command

func init() {
	commandTable = map[string]command{
		"qmp_capabilities": {args: []arg{{name: "enable", kind: kindEnums, optional: true, values: []string{"oob"}}}, run: capabilities},
		"query-commands":   {run: queryCommands},
		"query-qmp-schema": {run: querySchema},
	}
	for _, table := range []map[string]command{runCommands, queryCommandsTable, blockCommands, descriptorCommands, migrationCommands, dumpCommands, displayCommands, objectCommands} {
		maps.Copy(commandTable, table)
	}
}

func capabilities(m *machine, s *session, args *dict) (any, error) {
	list, _ := args.get("enable")
	for range asList(list) {
		s.oob = true
	}
	s.negotiated = true
	return nil, nil
}

func asList(v any) []any {
	l, _ := v.([]any)
	return l
}

func queryCommands(*machine, *session, *dict) (any, error) {
	var list []any
	for _, name := range Commands() {
		list = append(list, d("name", name))
	}
	return list, nil
}

// kindSchema is how query-qmp-schema names the kinds of arguments.
var kindSchema = map[kind]string{kindString: "str", kindBool: "bool", kindInt: "int", kindUint64: "int", kindUint8: "int", kindUint32: "int", kindSize: "int", kindAny: "any"}

// querySchema describes the commands and their arguments. It is reduced: return
// types and events are "any" and have no members.
func querySchema(*machine, *session, *dict) (any, error) {
	list := []any{
		d("name", "any", "meta-type", "any"),
		d("name", "str", "meta-type", "builtin", "json-type", "string"),
		d("name", "bool", "meta-type", "builtin", "json-type", "boolean"),
		d("name", "int", "meta-type", "builtin", "json-type", "int"),
	}
	var object func(name string, args []arg)
	object = func(name string, args []arg) {
		members := []any{}
		for _, a := range args {
			t := name + "-" + a.name
			switch a.kind {
			case kindEnum, kindEnums:
				values := []any{}
				for _, v := range a.values {
					values = append(values, v)
				}
				e := t
				if a.kind == kindEnums {
					e += "-element"
					list = append(list, d("name", t, "meta-type", "array", "element-type", e))
				}
				list = append(list, d("name", e, "meta-type", "enum", "values", values))
			case kindList:
				list = append(list, d("name", t, "meta-type", "array", "element-type", t+"-element"))
				object(t+"-element", a.members)
			default:
				t = kindSchema[a.kind]
			}
			member := d("name", a.name, "type", t)
			if a.optional {
				member.set("default", nil)
			}
			members = append(members, member)
		}
		list = append(list, d("name", name, "meta-type", "object", "members", members))
	}
	for _, name := range Commands() {
		c := commandTable[name]
		object(name+"-arg", c.args)
		e := d("name", name, "meta-type", "command", "arg-type", name+"-arg", "ret-type", "any")
		if c.oob {
			e.set("allow-oob", true)
		}
		list = append(list, e)
	}
	for _, name := range eventNames {
		list = append(list, d("name", name, "meta-type", "event", "arg-type", "any"))
	}
	return list, nil
}

// eventNames are the events that the fake sends.
var eventNames = []string{"BLOCK_IO_ERROR", "DUMP_COMPLETED", "GUEST_PANICKED", "MIGRATION", "MIGRATION_PASS", "POWERDOWN", "RESET", "RESUME", "SHUTDOWN", "STOP", "WATCHDOG"}
