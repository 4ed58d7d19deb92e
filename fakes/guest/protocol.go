package guest

import (
	"encoding/binary"
	"fmt"
)

// The serial protocol, version 1.
//
// A request is 8 bytes: 0xA5, op, tag, slot, value (uint32, little endian). The guest skips bytes until
// 0xA5, and forgets a request that it has begun to read when [FrameTimeout] ticks pass without its next
// byte. A reply is 8 bytes: 0x5A, op, tag, status, value. The tag is the request's, so that a late reply
// can be told from the one that is waited for. Bytes which are no frame may stand between frames (a BIOS
// can print on the same port), so a reader looks for the next 8 bytes that make one; see [DecodeReply].
// What is sent before the guest has booted waits for it, unless the BIOS has its console on the port
// (qemu -nographic) and takes it; what is on its way when the machine is reset can be lost.
//
// Events are reply frames that nobody asked for; their tag is [EventTag], which no request uses.

// First bytes of a frame, and its length.
const (
	RequestMark = 0xA5
	ReplyMark   = 0x5A
	FrameSize   = 8
)

// EventTag is the tag of events. Requests use the tags below it.
const EventTag = 0xFF

// Version is the value of the reply to [OpIdentify] and of the event [OpBooted]: "MM" and version 1.
const Version uint32 = 0x4D4D0001

// TicksPerSecond is the rate of the guest's counter. The real guest divides the PC timer's 1193182 Hz by
// 4773, which is 249.99.
const TicksPerSecond = 250

// FrameTimeout is the number of ticks after which a request that was begun and not finished is forgotten.
const FrameTimeout = TicksPerSecond

// Slots is the number of memory marks, and of the marks of each disk. The slot of a mark on the machine's second disk is SecondDisk
// more than that of the same mark on the first.
const (
	Slots      = 16
	SecondDisk = Slots
)

// Op says what a request asks for, what a reply answers, or what an event tells.
type Op byte

// Requests. Where nothing is said of it, slot is not looked at and the reply's value is the request's.
const (
	OpIdentify  Op = 'i' // value: Version
	OpCounter   Op = 'c' // value: ticks since boot; stands still while paused, goes on from a snapshot's value
	OpGetMemory Op = 'g' // value: memory mark slot; 0 since boot until set
	OpSetMemory Op = 's' // sets memory mark slot to value
	OpGetDisk   Op = 'r' // value: disk mark slot as it is on the disk; 0 where none was written. Without a second disk its slots are StatusDiskError
	OpSetDisk   Op = 'w' // writes value to disk mark slot
	OpButton    Op = 'b' // slot is a ButtonMode, value the ticks to wait in ButtonLate; ends a wait under way
	OpPresses   Op = 'p' // value: presses of the power button that the guest has seen since boot
	OpHang      Op = 'h' // replies, then halts with interrupts off, for ever
	OpReset     Op = 'x' // replies, then resets the machine
	OpPowerOff  Op = 'o' // replies, then switches the machine off
)

// Events.
const (
	OpBooted Op = 'B' // the guest has booted; value: Version
	OpPower  Op = 'P' // the guest has seen the power button pressed, whatever its mode; value: presses since boot
)

// opNames is every op of the protocol, in one place; a byte that is not here begins no reply frame.
var opNames = map[Op]string{
	OpIdentify: "identify", OpCounter: "counter", OpGetMemory: "get memory mark", OpSetMemory: "set memory mark",
	OpGetDisk: "read disk mark", OpSetDisk: "write disk mark", OpButton: "set button mode", OpPresses: "presses",
	OpHang: "hang", OpReset: "reset", OpPowerOff: "power off", OpBooted: "booted", OpPower: "power button",
}

// String returns the op's name in words, for messages.
func (o Op) String() string {
	if s, ok := opNames[o]; ok {
		return s
	}
	return fmt.Sprintf("unknown operation %#02x", byte(o))
}

// Event tells whether the op is one of the events.
func (o Op) Event() bool { return o == OpBooted || o == OpPower }

// Status is the outcome of a request.
type Status byte

// Outcomes.
const (
	StatusOK        Status = 0
	StatusUnknownOp Status = 1
	StatusBadSlot   Status = 2 // no such slot, or no such button mode
	StatusDiskError Status = 3 // the disk refused the read or the write
)

// String returns the status in words.
func (s Status) String() string {
	switch s {
	case StatusOK:
		return "ok"
	case StatusUnknownOp:
		return "unknown operation"
	case StatusBadSlot:
		return "bad slot"
	case StatusDiskError:
		return "disk error"
	}
	return fmt.Sprintf("unknown status %d", byte(s))
}

// ButtonMode is what the guest does when its power button is pressed. In every mode it counts the press
// and sends [OpPower]. It looks at the button once a tick, and two presses between two looks are one.
type ButtonMode byte

// Button modes. After boot the mode is ButtonObey.
const (
	ButtonIgnore ButtonMode = 0
	ButtonObey   ButtonMode = 1 // switch off at once
	ButtonLate   ButtonMode = 2 // switch off after the ticks given with OpButton
)

// String returns the mode in words.
func (b ButtonMode) String() string {
	switch b {
	case ButtonIgnore:
		return "ignore"
	case ButtonObey:
		return "obey"
	case ButtonLate:
		return "late"
	}
	return fmt.Sprintf("unknown button mode %d", byte(b))
}

// Request is a frame from the host to the guest.
type Request struct {
	Op    Op
	Tag   byte
	Slot  byte
	Value uint32
}

// Encode returns the request's frame.
func (r Request) Encode() [FrameSize]byte {
	f := [FrameSize]byte{RequestMark, byte(r.Op), r.Tag, r.Slot}
	binary.LittleEndian.PutUint32(f[4:], r.Value)
	return f
}

// ParseRequest reads the frame f. The second result is false where f does not start with RequestMark.
func ParseRequest(f [FrameSize]byte) (Request, bool) {
	if f[0] != RequestMark {
		return Request{}, false
	}
	return Request{Op: Op(f[1]), Tag: f[2], Slot: f[3], Value: binary.LittleEndian.Uint32(f[4:])}, true
}

// Reply is a frame from the guest to the host: the answer to a request, or an event.
type Reply struct {
	Op     Op
	Tag    byte
	Status Status
	Value  uint32
}

// Event tells whether the frame is an event.
func (r Reply) Event() bool { return r.Tag == EventTag }

// Encode returns the reply's frame.
func (r Reply) Encode() [FrameSize]byte {
	f := [FrameSize]byte{ReplyMark, byte(r.Op), r.Tag, byte(r.Status)}
	binary.LittleEndian.PutUint32(f[4:], r.Value)
	return f
}

// DecodeReply looks for the first reply frame in b. It returns how many bytes of b are used up (what was
// skipped, and the frame), whether there is a frame, and the frame. Without one it asks for more: the
// bytes beyond n may be the start of a frame and must be kept.
//
// Eight bytes are taken for a frame only where they can be one: a known status, an event's tag on events
// and on nothing else, and a known op unless the status is that the guest did not know it (and then not
// the mark itself, which would be the frame that begins one byte later). So text that happens to contain the byte 0x5A, or the tail of a frame whose head went to an earlier connection,
// hides no frame that follows.
func DecodeReply(b []byte) (n int, ok bool, r Reply) {
	for n < len(b) {
		if b[n] != ReplyMark {
			n++
			continue
		}
		if len(b)-n < FrameSize {
			return n, false, Reply{}
		}
		r = Reply{Op: Op(b[n+1]), Tag: b[n+2], Status: Status(b[n+3]), Value: binary.LittleEndian.Uint32(b[n+4:])}
		if r.plausible() {
			return n + FrameSize, true, r
		}
		n++
	}
	return n, false, Reply{}
}

func (r Reply) plausible() bool {
	_, known := opNames[r.Op]
	request := known && !r.Op.Event()
	switch {
	case r.Event():
		return r.Op.Event() && r.Status == StatusOK
	case r.Status == StatusUnknownOp:
		return !request && r.Op != ReplyMark
	default:
		return request && r.Status <= StatusDiskError
	}
}
