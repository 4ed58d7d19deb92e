//go:build linux

package qemu

import (
	"fmt"
	"math"
	"slices"
)

// request is a message of a client that was looked at.
type request struct {
	name  string
	oob   bool
	args  *dict
	id    any
	hasID bool
	err   *qerror // what is wrong with it already
}

// newRequest looks at a message in the way and order of QEMU, so that of several
// mistakes it names the same one.
func newRequest(v any, oobEnabled func() bool) request {
	var r request
	o, ok := v.(*dict)
	if !ok {
		r.err = generic("QMP input must be a JSON object")
		return r
	}
	r.id, r.hasID = o.get("id")
	member := ""
	for _, k := range o.byOrder() {
		v, _ := o.get(k)
		switch {
		case k == "execute" || k == "exec-oob" && oobEnabled():
			if member != "" {
				r.err = generic("QMP input member '%s' clashes with '%s'", k, member)
				return r
			}
			if r.name, ok = v.(string); !ok {
				r.err = generic("QMP input member '%s' must be a string", k)
				return r
			}
			member, r.oob = k, k == "exec-oob"
		case k == "arguments":
			if r.args, ok = v.(*dict); !ok {
				r.err = generic("QMP input member 'arguments' must be an object")
				return r
			}
		case k == "id":
		default:
			r.err = generic("QMP input member '%s' is unexpected", k)
			return r
		}
	}
	if member == "" {
		r.err = generic("QMP input lacks member 'execute'")
	}
	return r
}

// dispatch carries a request out and returns its answer. The machine is locked.
func (m *machine) dispatch(s *session, r request) *dict {
	v, err := m.perform(s, r)
	if err != nil {
		return errorReply(err, r.id, r.hasID)
	}
	answer := d("return", v)
	if r.hasID {
		answer.set("id", r.id)
	}
	return answer
}

func (m *machine) perform(s *session, r request) (any, *qerror) {
	if r.err != nil {
		return nil, r.err
	}
	switch {
	case !s.negotiated && r.name != "qmp_capabilities":
		return nil, notFound("Expecting capabilities negotiation with 'qmp_capabilities'")
	case s.negotiated && r.name == "qmp_capabilities":
		return nil, notFound("Capabilities negotiation is already complete, command ignored")
	}
	c, ok := commandTable[r.name]
	if !ok {
		return nil, notFound("The command %s has not been found", r.name)
	}
	if r.oob && !c.oob {
		return nil, generic("The command %s does not support OOB", r.name)
	}
	if r.args == nil {
		r.args = d()
	}
	if err := checkArgs(r.args, c.args, ""); err != nil {
		return nil, err
	}
	v, err := c.run(m, s, r.args)
	if err != nil {
		return nil, asQError(err)
	}
	if v == nil {
		v = d()
	}
	return v, nil
}

// arg is one argument of a command.
type arg struct {
	name     string
	kind     kind
	optional bool
	values   []string // of an enumeration
	members  []arg    // of an object, or of the objects in a list
}

type kind byte

const (
	kindString kind = iota
	kindBool
	kindInt    // int64
	kindUint64 // uint64
	kindUint8
	kindUint32
	kindSize
	kindEnum
	kindList // of objects with members
	kindEnums
	kindAny
	kindIntOrAny
)

var typeNames = map[kind]string{kindString: "string", kindBool: "boolean", kindList: "array", kindEnums: "array", kindEnum: "string"}

// checkArgs says what is wrong with arguments, in QEMU's order and words: those that
// are declared first, then those that are not.
func checkArgs(o *dict, declared []arg, path string) *qerror {
	for _, a := range declared {
		v, ok := o.get(a.name)
		if !ok {
			if a.optional {
				continue
			}
			return generic("Parameter '%s' is missing", path+a.name)
		}
		if err := a.check(v, path+a.name); err != nil {
			return err
		}
	}
	for _, k := range o.byOrder() {
		if !slices.ContainsFunc(declared, func(a arg) bool { return a.name == k }) {
			return generic("Parameter '%s' is unexpected", path+k)
		}
	}
	return nil
}

func (a arg) check(v any, path string) *qerror {
	wrong := func() *qerror {
		return generic("Invalid parameter type for '%s', expected: %s", path, typeNames[a.kind])
	}
	switch a.kind {
	case kindString:
		if _, ok := v.(string); !ok {
			return wrong()
		}
	case kindBool:
		if _, ok := v.(bool); !ok {
			return wrong()
		}
	case kindEnum:
		s, ok := v.(string)
		if !ok {
			return wrong()
		}
		if !slices.Contains(a.values, s) {
			return generic("Parameter '%s' does not accept value '%s'", a.name, s)
		}
	case kindEnums:
		list, ok := v.([]any)
		if !ok {
			return wrong()
		}
		for i, e := range list {
			if err := (arg{name: "null", kind: kindEnum, values: a.values}).check(e, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	case kindList:
		list, ok := v.([]any)
		if !ok {
			return wrong()
		}
		for i, e := range list {
			at := fmt.Sprintf("%s[%d]", path, i)
			o, ok := e.(*dict)
			if !ok {
				return generic("Invalid parameter type for '%s', expected: object", at)
			}
			if err := checkArgs(o, a.members, at+"."); err != nil {
				return err
			}
		}
	case kindInt, kindUint64, kindSize, kindUint8, kindUint32:
		return a.checkNumber(v, path)
	}
	return nil
}

func (a arg) checkNumber(v any, path string) *qerror {
	switch a.kind {
	case kindUint64, kindSize:
		switch v.(type) {
		case int64, uint64: // negative ones wrap around, as they do in QEMU
			return nil
		}
		return generic("Parameter '%s' expects uint64", path)
	}
	n, ok := v.(int64)
	if !ok {
		return generic("Invalid parameter type for '%s', expected: integer", path)
	}
	switch {
	case a.kind == kindUint8 && (n < 0 || n > math.MaxUint8):
		return generic("Parameter '%s' expects uint8_t", path)
	case a.kind == kindUint32 && (n < 0 || n > math.MaxUint32):
		return generic("Parameter '%s' expects uint32_t", path)
	}
	return nil
}

// Reading arguments that were checked.

func (o *dict) str(key string) string {
	v, _ := o.get(key)
	s, _ := v.(string)
	return s
}

func (o *dict) flag(key string) bool {
	v, _ := o.get(key)
	b, _ := v.(bool)
	return b
}

func (o *dict) num(key string) int64 {
	v, _ := o.get(key)
	switch n := v.(type) {
	case int64:
		return n
	case uint64:
		return int64(n)
	}
	return 0
}

func (o *dict) has(key string) bool {
	_, ok := o.get(key)
	return ok
}
