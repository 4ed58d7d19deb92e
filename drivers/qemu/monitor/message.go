package monitor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// kind is what a message from QEMU is.
type kind int

const (
	kindGreeting kind = iota
	kindEvent
	kindAnswer
)

// message is one message from QEMU, taken apart. Which fields mean something depends on kind.
type message struct {
	kind     kind
	greeting greeting
	event    Event

	hasID bool
	id    uint64
	reply reply
}

// reply is the outcome of a command.
type reply struct {
	value   json.RawMessage // of "return"
	refusal *refusal        // instead of value
}

type greeting struct {
	version      Version
	capabilities []string
}

type refusal struct {
	Class, Desc string
}

// result is what a reply means to the caller of command.
func (r reply) result(command string) (json.RawMessage, error) {
	if r.refusal != nil {
		return nil, &CommandError{Command: command, Class: r.refusal.Class, Desc: r.refusal.Desc}
	}
	return r.value, nil
}

// parseMessage takes a JSON object from QEMU apart. Member names are compared exactly and may come once,
// which encoding/json alone does not see to. Values of the result share raw's memory.
func parseMessage(raw []byte) (message, error) {
	var member struct{ greeting, event, data, timestamp, value, refusal, id json.RawMessage }
	err := eachMember(raw, func(key, value []byte) error {
		var field *json.RawMessage
		switch string(key) {
		case "QMP":
			field = &member.greeting
		case "event":
			field = &member.event
		case "data":
			field = &member.data
		case "timestamp":
			field = &member.timestamp
		case "return":
			field = &member.value
		case "error":
			field = &member.refusal
		case "id":
			field = &member.id
		default:
			return nil // QMP allows new members anywhere
		}
		if *field != nil {
			return fmt.Errorf("the member %q comes twice", key)
		}
		*field = value
		return nil
	})
	if err != nil {
		return message{}, err
	}
	kinds := 0
	for _, field := range []json.RawMessage{member.greeting, member.event, member.value, member.refusal} {
		if field != nil {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return message{}, errors.New("neither a greeting nor an event nor an answer, or more than one of them")
	case member.greeting != nil:
		return parseGreeting(member.greeting)
	case member.event != nil:
		return parseEvent(member.event, member.data, member.timestamp, len(raw))
	default:
		return parseAnswer(member.value, member.refusal, member.id)
	}
}

func parseGreeting(raw json.RawMessage) (message, error) {
	var body struct {
		Version struct {
			QEMU    struct{ Major, Minor, Micro int }
			Package string
		}
		Capabilities []json.RawMessage
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		return message{}, fmt.Errorf("a greeting that cannot be read: %w", err)
	}
	g := greeting{version: Version{
		Major:   body.Version.QEMU.Major,
		Minor:   body.Version.QEMU.Minor,
		Micro:   body.Version.QEMU.Micro,
		Package: body.Version.Package,
	}}
	for _, c := range body.Capabilities {
		var name string
		if json.Unmarshal(c, &name) == nil { // the specification has clients pass over what they do not know
			g.capabilities = append(g.capabilities, name)
		}
	}
	return message{kind: kindGreeting, greeting: g}, nil
}

func parseEvent(name, data, timestamp json.RawMessage, size int) (message, error) {
	e := Event{Data: data, size: size}
	if err := json.Unmarshal(name, &e.Name); err != nil || e.Name == "" {
		return message{}, errors.New("an event without a name")
	}
	if data != nil && data[0] != '{' {
		return message{}, errors.New("an event whose data is not an object")
	}
	var at struct{ Seconds, Microseconds int64 }
	// QEMU gives -1 where its clock failed. A time is not worth a connection, so one that cannot be read is none.
	if timestamp != nil && json.Unmarshal(timestamp, &at) == nil && at.Seconds >= 0 && at.Microseconds >= 0 {
		e.Time = time.Unix(at.Seconds, at.Microseconds*int64(time.Microsecond))
	}
	return message{kind: kindEvent, event: e}, nil
}

func parseAnswer(value, failure, id json.RawMessage) (message, error) {
	m := message{kind: kindAnswer, reply: reply{value: value}}
	if failure != nil {
		m.reply.refusal = &refusal{}
		if failure[0] != '{' {
			return message{}, errors.New("an error that is not an object")
		}
		if err := json.Unmarshal(failure, m.reply.refusal); err != nil {
			return message{}, fmt.Errorf("an error that cannot be read: %w", err)
		}
	}
	if id == nil {
		return m, nil
	}
	// QEMU echoes an id as it was sent, so one that is spelled differently is not ours.
	n, err := strconv.ParseUint(string(id), 10, 64)
	if err != nil {
		return message{}, fmt.Errorf("an answer with the id %s, which was never used", excerpt(id))
	}
	m.hasID, m.id = true, n
	return m, nil
}

// eachMember calls fn for each member of the JSON object raw, which must be valid JSON. key is without quotes and
// escapes, value shares raw's memory. The first error ends it.
func eachMember(raw []byte, fn func(key, value []byte) error) error {
	i := skipSpace(raw, 1)
	for raw[i] != '}' {
		if raw[i] == ',' {
			i = skipSpace(raw, i+1)
		}
		keyEnd := skipValue(raw, i)
		key := raw[i+1 : keyEnd-1]
		if bytes.IndexByte(key, '\\') >= 0 {
			var plain string
			if err := json.Unmarshal(raw[i:keyEnd], &plain); err != nil {
				return err
			}
			key = []byte(plain)
		}
		i = skipSpace(raw, keyEnd)
		i = skipSpace(raw, i+1) // the colon
		end := skipValue(raw, i)
		if err := fn(key, raw[i:end:end]); err != nil {
			return err
		}
		i = skipSpace(raw, end)
	}
	return nil
}

func skipSpace(raw []byte, i int) int {
	for raw[i] == ' ' || raw[i] == '\t' || raw[i] == '\r' || raw[i] == '\n' {
		i++
	}
	return i
}

// skipValue is the index behind the JSON value that begins at raw[i].
func skipValue(raw []byte, i int) int {
	depth := 0
	for {
		switch raw[i] {
		case '"':
			for i++; raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
			i++
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\t', '\r', '\n':
			i++
		default: // a number, true, false or null
			for i++; !delimits(raw[i]); i++ {
			}
		}
		if depth == 0 {
			return i
		}
	}
}

func delimits(c byte) bool {
	switch c {
	case ',', ':', '}', ']', ' ', '\t', '\r', '\n':
		return true
	}
	return false
}
