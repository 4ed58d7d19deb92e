package monitor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// encodeCommand is a command as it goes to QEMU, up to the id, which appendID adds.
func encodeCommand(command string, args any) ([]byte, error) {
	if !isName(command) {
		return nil, fmt.Errorf("%q cannot be the name of a QMP command", command)
	}
	buf := make([]byte, 0, 128)
	buf = append(buf, `{"execute":"`...)
	buf = append(buf, command...)
	buf = append(buf, '"')
	if args == nil {
		return buf, nil
	}
	encoded, err := json.Marshal(args)
	if err != nil {
		return nil, fmt.Errorf("the arguments of %s cannot be encoded: %w", command, err)
	}
	if encoded[0] != '{' {
		return nil, fmt.Errorf("the arguments of %s are not a JSON object: %s", command, excerpt(encoded))
	}
	if _, raw := args.(json.RawMessage); !raw && hasReplacement(encoded) {
		// encoding/json puts U+FFFD for what is not UTF-8, so QEMU would act on another file than the one named.
		return nil, fmt.Errorf("the arguments of %s hold bytes that are not UTF-8, which QMP cannot carry: %s", command, excerpt(encoded))
	}
	buf = append(buf, `,"arguments":`...)
	return append(buf, encoded...), nil
}

// appendID completes what encodeCommand began. QEMU needs no end of line; people who watch the wire do.
func appendID(buf []byte, id uint64) []byte {
	buf = append(buf, `,"id":`...)
	buf = strconv.AppendUint(buf, id, 10)
	return append(buf, '}', '\n')
}

// isName tells whether s is made of what QAPI allows in names, so that it needs no quoting.
func isName(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return s != ""
}

// hasReplacement finds the escape \ufffd, by which encoding/json stands in for invalid UTF-8; it writes a
// genuine U+FFFD as it is. A backslash that is itself escaped begins no escape.
func hasReplacement(encoded []byte) bool {
	for {
		i := bytes.IndexByte(encoded, '\\')
		if i < 0 {
			return false
		}
		if bytes.HasPrefix(encoded[i:], []byte(`\ufffd`)) {
			return true
		}
		encoded = encoded[i+2:]
	}
}

// splitCommand takes apart a command that a caller encoded. id is nil where it has none.
func splitCommand(encoded []byte) (name string, args any, id json.RawMessage, err error) {
	if !json.Valid(encoded) {
		return "", nil, nil, errors.New("it is not JSON")
	}
	encoded = bytes.TrimSpace(encoded)
	if encoded[0] != '{' {
		return "", nil, nil, errors.New("it is not a JSON object")
	}
	err = eachMember(encoded, func(key, value []byte) error {
		switch string(key) {
		case "execute":
			return json.Unmarshal(value, &name)
		case "arguments":
			args = json.RawMessage(value)
		case "id":
			id = json.RawMessage(value)
		default:
			return fmt.Errorf("its member %q is unknown here", key)
		}
		return nil
	})
	return name, args, id, err
}
