package libvirt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// The protocol's limits (REMOTE_STRING_MAX and what bounds its lists). A value
// beyond them ends the connection that it came on, as libvirtd does with
// arguments that it cannot decode.
const (
	maxString = 4 << 20
	maxList   = 65536
)

// errArguments is what decoding says of bytes that are not what a procedure
// takes.
var errArguments = errors.New("the arguments do not decode")

// typedParam is an entry of a list of named values, of the kind that
// go-libvirt has no encoder for that is open to others.
type typedParam struct {
	Field string
	// Value is an int32, uint32, int64, uint64, float64, bool or string.
	Value any
}

// paramKind is the discriminant of a typed parameter's value, as libvirt
// numbers them (VIR_TYPED_PARAM_INT and so on).
func paramKind(v any) uint32 {
	switch v.(type) {
	case int32:
		return 1
	case uint32:
		return 2
	case int64:
		return 3
	case uint64:
		return 4
	case float64:
		return 5
	case bool:
		return 6
	default:
		return 7
	}
}

// encodeXDR appends the XDR form of v: integers, booleans, floats, strings,
// fixed and variable arrays, structures of these. Optional values are slices of
// at most one element, whose form is the same.
func encodeXDR(b []byte, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return encodeXDR(b, v.Elem())
	case reflect.Struct:
		if p, ok := v.Interface().(typedParam); ok {
			b = encodeString(b, p.Field)
			b = binary.BigEndian.AppendUint32(b, paramKind(p.Value))
			return encodeXDR(b, reflect.ValueOf(p.Value))
		}
		for i := range v.NumField() {
			b = encodeXDR(b, v.Field(i))
		}
		return b
	case reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			for i := range v.Len() {
				b = append(b, byte(v.Index(i).Uint()))
			}
			return pad(b, v.Len())
		}
		for i := range v.Len() {
			b = encodeXDR(b, v.Index(i))
		}
		return b
	case reflect.Slice:
		b = binary.BigEndian.AppendUint32(b, uint32(v.Len()))
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return pad(append(b, v.Bytes()...), v.Len())
		}
		for i := range v.Len() {
			b = encodeXDR(b, v.Index(i))
		}
		return b
	case reflect.String:
		return encodeString(b, v.String())
	case reflect.Bool:
		n := uint32(0)
		if v.Bool() {
			n = 1
		}
		return binary.BigEndian.AppendUint32(b, n)
	case reflect.Int8, reflect.Int16, reflect.Int32:
		return binary.BigEndian.AppendUint32(b, uint32(v.Int()))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return binary.BigEndian.AppendUint32(b, uint32(v.Uint()))
	case reflect.Int64:
		return binary.BigEndian.AppendUint64(b, uint64(v.Int()))
	case reflect.Uint64:
		return binary.BigEndian.AppendUint64(b, v.Uint())
	case reflect.Float64:
		return binary.BigEndian.AppendUint64(b, math.Float64bits(v.Float()))
	}
	panic(fmt.Sprintf("no XDR form of %s", v.Type()))
}

func encodeString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return pad(append(b, s...), len(s))
}

// pad fills what had n bytes up to a multiple of four.
func pad(b []byte, n int) []byte { return append(b, make([]byte, (4-n%4)%4)...) }

// decoder reads XDR. After the first error it returns zero values.
type decoder struct {
	b   []byte
	err error
}

// decodeXDR fills the structure that v points to from b. What comes after it is
// not looked at, as libvirtd 9.0.0 does.
func decodeXDR(b []byte, v any) error {
	d := &decoder{b: b}
	d.value(reflect.ValueOf(v).Elem())
	return d.err
}

func (d *decoder) take(n int) []byte {
	if d.err == nil && n > len(d.b) {
		d.err = fmt.Errorf("%w: they end too early", errArguments)
	}
	if d.err != nil {
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// length reads the length of a string or list.
func (d *decoder) length(limit int) int {
	n := d.uint32()
	if d.err == nil && n > uint32(limit) {
		d.err = fmt.Errorf("%w: a length of %d", errArguments, n)
	}
	if d.err != nil {
		return 0
	}
	return int(n)
}

func (d *decoder) opaque(n int) []byte {
	out := d.take(n)
	d.take((4 - n%4) % 4)
	return out
}

func (d *decoder) value(v reflect.Value) {
	if d.err != nil {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[golibvirt.TypedParam]() {
			d.err = fmt.Errorf("%w: a typed parameter, which no supported procedure takes", errArguments)
			return
		}
		for i := range v.NumField() {
			d.value(v.Field(i))
		}
	case reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			copy(v.Slice(0, v.Len()).Bytes(), d.opaque(v.Len()))
			return
		}
		for i := range v.Len() {
			d.value(v.Index(i))
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(append([]byte(nil), d.opaque(d.length(maxString))...))
			return
		}
		if v.Type() == reflect.TypeFor[golibvirt.OptString]() {
			// Whether there is one is a bool, of which libvirt takes anything but 0
			// for true; go-libvirt opens connections with 0x01000000.
			if d.uint32() != 0 {
				v.Set(reflect.ValueOf(golibvirt.OptString{string(d.opaque(d.length(maxString)))}))
			}
			return
		}
		// Every element takes four bytes at least, so a length that lies is seen
		// before anything is made for it.
		n := d.length(maxList)
		if n*4 > len(d.b) {
			d.take(n * 4)
			return
		}
		for range n {
			e := reflect.New(v.Type().Elem()).Elem()
			d.value(e)
			v.Set(reflect.Append(v, e))
		}
	case reflect.String:
		v.SetString(string(d.opaque(d.length(maxString))))
	case reflect.Bool:
		v.SetBool(d.uint32() != 0)
	case reflect.Int8, reflect.Int16, reflect.Int32:
		v.SetInt(int64(int32(d.uint32())))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(uint64(d.uint32()))
	case reflect.Int64:
		v.SetInt(int64(d.uint64()))
	case reflect.Uint64:
		v.SetUint(d.uint64())
	default:
		d.err = fmt.Errorf("%w: %s", errArguments, v.Type())
	}
}
