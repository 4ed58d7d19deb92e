package rpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"

	libvirt "github.com/digitalocean/go-libvirt"
)

// A procedure is what the guard knows of one number: what it returns and whether a stream follows.
type procedure struct {
	name    string
	result  reflect.Type // of what a good answer carries; nil: nothing
	in, out bool         // a stream comes from, or goes to, the daemon
}

// readOnly tells whether a procedure changes nothing, so that it may be called twice.
func (p *procedure) readOnly() bool {
	name := strings.TrimPrefix(p.name, "QEMU")
	for _, noun := range []string{"Connect", "Domain", "Node", "Network", "Storage", "Interface", "Secret", "Nwfilter"} {
		name = strings.TrimPrefix(name, noun)
	}
	name = strings.TrimPrefix(name, "Snapshot")
	for _, verb := range []string{"Get", "List", "Lookup", "Num", "Is", "Has", "Current", "Supports"} {
		if strings.HasPrefix(name, verb) {
			return true
		}
	}
	return false
}

// The programs of the protocol that this package calls (libvirt's remote_protocol.x, qemu_protocol.x and
// virkeepaliveprotocol.x); each is of version 1.
const (
	remoteProgram    uint32 = 0x20008086
	qemuProgram      uint32 = 0x20008087
	keepaliveProgram uint32 = 0x6b656570
	protocolVersion  uint32 = 1
)

// lookup finds a procedure that can be called; nil if there is none of that number.
func lookup(program, number uint32) *procedure {
	if events(program)[number] != nil {
		return nil
	}
	switch program {
	case remoteProgram:
		return remoteProcedures[number]
	case qemuProgram:
		return qemuProcedures[number]
	}
	return nil
}

func events(program uint32) map[uint32]*procedure {
	if program == remoteProgram {
		return remoteEvents
	}
	return nil
}

// check tells whether payload is exactly what a value of type t looks like in XDR, without decoding it.
//
// The library's decoder allocates what a length field says before it looks whether so much is there: four
// bytes make it ask for 2³¹ elements. Here every count is held against the bytes that are left.
func check(t reflect.Type, payload []byte) error {
	rest := payload
	if t != nil {
		var err error
		if rest, err = shapeOf(t).walk(payload); err != nil {
			return err
		}
	}
	if len(rest) != 0 {
		return fmt.Errorf("%d bytes too many", len(rest))
	}
	return nil
}

// A shape is how a type looks in XDR.
type shape struct {
	least int                            // the fewest bytes a value has
	walk  func(b []byte) ([]byte, error) // past one value
}

var (
	shapes    sync.Map // reflect.Type → *shape
	typeParam = reflect.TypeFor[libvirt.TypedParam]()
	errShort  = errors.New("it ends too early")
)

func shapeOf(t reflect.Type) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	s := newShape(t)
	shapes.Store(t, s)
	return s
}

func fixed(n int) *shape {
	return &shape{n, func(b []byte) ([]byte, error) {
		if len(b) < n {
			return nil, errShort
		}
		return b[n:], nil
	}}
}

// opaque is bytes with their count before them, filled up to a multiple of four.
var opaque = &shape{4, func(b []byte) ([]byte, error) {
	n, b, err := count(b)
	if err != nil {
		return nil, err
	}
	padded := (uint64(n) + 3) &^ 3
	if padded > uint64(len(b)) {
		return nil, fmt.Errorf("a text or an opaque value of %d bytes where %d are left", n, len(b))
	}
	return b[padded:], nil
}}

func count(b []byte) (uint32, []byte, error) {
	if len(b) < 4 {
		return 0, nil, errShort
	}
	return binary.BigEndian.Uint32(b), b[4:], nil
}

func newShape(t reflect.Type) *shape {
	if t == typeParam {
		return &shape{12, walkTypedParam}
	}
	switch t.Kind() {
	case reflect.Int64, reflect.Uint64, reflect.Float64:
		return fixed(8)
	case reflect.Int, reflect.Uint, reflect.Int32, reflect.Uint32, reflect.Float32:
		return fixed(4)
	case reflect.Bool, reflect.Uint8, reflect.Uint16, reflect.Int8, reflect.Int16:
		return &shape{4, narrow(t)}
	case reflect.String:
		return opaque
	case reflect.Struct:
		return structure(t)
	case reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return fixed((t.Len() + 3) &^ 3)
		}
		element := shapeOf(t.Elem())
		return &shape{t.Len() * element.least, func(b []byte) (_ []byte, err error) {
			for range t.Len() {
				if b, err = element.walk(b); err != nil {
					return nil, err
				}
			}
			return b, nil
		}}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return opaque
		}
		return list(t)
	}
	panic("rpc: no XDR for " + t.String()) // held by a test over all procedures
}

// narrow is a number of less than four bytes, sent as one of four.
func narrow(t reflect.Type) func(b []byte) ([]byte, error) {
	least, most := int64(0), int64(1)
	switch bits := t.Bits; t.Kind() {
	case reflect.Int8, reflect.Int16:
		least, most = -1<<(bits()-1), 1<<(bits()-1)-1
	case reflect.Uint8, reflect.Uint16:
		most = 1<<bits() - 1
	}
	return func(b []byte) ([]byte, error) {
		u, rest, err := count(b)
		if err != nil {
			return nil, err
		}
		if n := int64(int32(u)); n < least || n > most {
			return nil, fmt.Errorf("%d where %d to %d can be", n, least, most)
		}
		return rest, nil
	}
}

func structure(t reflect.Type) *shape {
	s := &shape{}
	var fields []*shape
	var names []string
	for i := range t.NumField() {
		f := shapeOf(t.Field(i).Type)
		s.least += f.least
		fields, names = append(fields, f), append(names, t.Field(i).Name)
	}
	s.walk = func(b []byte) (_ []byte, err error) {
		for i, f := range fields {
			if b, err = f.walk(b); err != nil {
				return nil, fmt.Errorf("%s: %w", names[i], err)
			}
		}
		return b, nil
	}
	return s
}

// list is elements with their count before them; the library's Opt… types are XDR's optional values.
func list(t reflect.Type) *shape {
	element := shapeOf(t.Elem())
	optional := strings.HasPrefix(t.Name(), "Opt")
	return &shape{4, func(b []byte) ([]byte, error) {
		n, b, err := count(b)
		if err != nil {
			return nil, err
		}
		if optional && n > 1 {
			return nil, fmt.Errorf("%d where 0 or 1 can be", n)
		}
		if uint64(n)*uint64(max(element.least, 1)) > uint64(len(b)) {
			return nil, fmt.Errorf("a list of %d in %d bytes", n, len(b))
		}
		for range n {
			if b, err = element.walk(b); err != nil {
				return nil, err
			}
		}
		return b, nil
	}}
}

// walkTypedParam goes past a remote_typed_param: a name, a number for the type, a value of that type.
func walkTypedParam(b []byte) ([]byte, error) {
	b, err := opaque.walk(b)
	if err != nil {
		return nil, err
	}
	kind, b, err := count(b)
	if err != nil {
		return nil, err
	}
	switch kind {
	case 1, 2, 6: // int, unsigned int, boolean
		return fixed(4).walk(b)
	case 3, 4, 5: // long long, unsigned long long, double
		return fixed(8).walk(b)
	case 7: // string
		return opaque.walk(b)
	}
	return nil, fmt.Errorf("a typed parameter of type %d", kind)
}

// parseError reads a remote_error as libvirt sends it (seen on libvirt 9.0.0): code, domain, message, level,
// domain object, three texts, two numbers, network; all but the numbers may be absent.
func parseError(b []byte) (*remoteError, error) {
	var head struct {
		number [2]int32
	}
	for i := range head.number {
		n, rest, err := count(b)
		if err != nil {
			return nil, err
		}
		head.number[i], b = int32(n), rest
	}
	e := &remoteError{code: head.number[0], domain: head.number[1]}
	text, b, err := optionalText(b)
	if err != nil {
		return nil, err
	}
	e.message = text
	level, b, err := count(b)
	if err != nil {
		return nil, err
	}
	e.level = int32(level)
	if b, err = shapeOf(reflect.TypeFor[libvirt.OptDomain]()).walk(b); err != nil {
		return nil, err
	}
	for range 3 {
		if _, b, err = optionalText(b); err != nil {
			return nil, err
		}
	}
	if b, err = fixed(8).walk(b); err != nil {
		return nil, err
	}
	if b, err = shapeOf(reflect.TypeFor[libvirt.OptNetwork]()).walk(b); err != nil {
		return nil, err
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%d bytes too many", len(b))
	}
	if e.code == 0 {
		return nil, errors.New("an error with the number of success") // the library would take it for success
	}
	return e, nil
}

func optionalText(b []byte) (string, []byte, error) {
	n, rest, err := count(b)
	if err != nil || n == 0 {
		return "", rest, err
	}
	if n != 1 {
		return "", nil, fmt.Errorf("%d where 0 or 1 can be", n)
	}
	size, _, err := count(rest)
	if err != nil {
		return "", nil, err
	}
	after, err := opaque.walk(rest)
	if err != nil {
		return "", nil, err
	}
	return string(rest[4 : 4+size]), after, nil
}
