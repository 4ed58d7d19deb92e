package monitor

import (
	"fmt"
	"sync"
	"time"
)

// TraceTextLimit is how many bytes of a message Trace and error texts keep.
const TraceTextLimit = 512

// TraceEntry is one message that went over the wire.
type TraceEntry struct {
	Time time.Time // when it was read, or was about to be written
	Sent bool      // to QEMU; otherwise from it
	Text string    // its first TraceTextLimit bytes
	Size int       // its whole length in bytes
}

// String is the entry as one line: "C" for what the client sent, "S" for what QEMU, the server, sent.
func (e TraceEntry) String() string {
	from := "S"
	if e.Sent {
		from = "C"
	}
	cut := ""
	if e.Size > len(e.Text) {
		cut = fmt.Sprintf("...[%d bytes in all]", e.Size)
	}
	return fmt.Sprintf("%s %s %s%s", e.Time.Format("15:04:05.000000"), from, e.Text, cut)
}

// trace is a ring of the last messages. Its memory is bounded and used again.
type trace struct {
	mu    *sync.Mutex
	slots []traceSlot
	count *uint64 // messages ever added
}

type traceSlot struct {
	time time.Time
	sent bool
	text []byte
	size int
}

func newTrace(length int) trace {
	return trace{mu: new(sync.Mutex), slots: make([]traceSlot, length), count: new(uint64)}
}

func (t trace) add(sent bool, msg []byte) {
	if sent && len(msg) > 0 && msg[len(msg)-1] == '\n' {
		msg = msg[:len(msg)-1]
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.slots[*t.count%uint64(len(t.slots))]
	*t.count++
	s.time, s.sent, s.size = time.Now(), sent, len(msg)
	s.text = append(s.text[:0], msg[:min(len(msg), TraceTextLimit)]...)
}

func (t trace) entries() []TraceEntry {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := uint64(len(t.slots))
	var out []TraceEntry
	for i := *t.count - min(*t.count, n); i < *t.count; i++ {
		s := t.slots[i%n]
		out = append(out, TraceEntry{Time: s.time, Sent: s.sent, Text: string(s.text), Size: s.size})
	}
	return out
}

// excerpt shows the beginning of what was received, with what does not print made visible.
func excerpt(b []byte) string {
	if len(b) <= TraceTextLimit {
		return fmt.Sprintf("%q", b)
	}
	return fmt.Sprintf("%q...", b[:TraceTextLimit])
}
