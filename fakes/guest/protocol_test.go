package guest

import (
	"bytes"
	"testing"
)

func TestFramesReadBackAsTheyWereWritten(t *testing.T) {
	for op := range opNames {
		if op.Event() {
			want := Reply{Op: op, Tag: EventTag, Value: 0x5A5A5A5A}
			f := want.Encode()
			if n, ok, got := DecodeReply(f[:]); n != FrameSize || !ok || got != want {
				t.Errorf("%v: %d, %v, %+v, want %+v", op, n, ok, got, want)
			}
			continue
		}
		req := Request{Op: op, Tag: 7, Slot: 9, Value: 0xA55A0102}
		if got, ok := ParseRequest(req.Encode()); !ok || got != req {
			t.Errorf("%v: %+v, %v, want %+v", op, got, ok, req)
		}
		for _, s := range []Status{StatusOK, StatusBadSlot, StatusDiskError} {
			want := Reply{Op: op, Tag: 7, Status: s, Value: 0x04030201}
			f := want.Encode()
			if n, ok, got := DecodeReply(f[:]); n != FrameSize || !ok || got != want {
				t.Errorf("%v: %d, %v, %+v, want %+v", op, n, ok, got, want)
			}
		}
	}
}

func TestFramesHaveTheDocumentedBytes(t *testing.T) {
	req := Request{Op: OpSetMemory, Tag: 2, Slot: 3, Value: 0x04030201}.Encode()
	if want := []byte{0xA5, 's', 2, 3, 1, 2, 3, 4}; !bytes.Equal(req[:], want) {
		t.Errorf("request % x, want % x", req, want)
	}
	rep := Reply{Op: OpBooted, Tag: EventTag, Value: Version}.Encode()
	if want := []byte{0x5A, 'B', 0xFF, 0, 1, 0, 'M', 'M'}; !bytes.Equal(rep[:], want) {
		t.Errorf("event % x, want % x", rep, want)
	}
}

func TestDecodeReplyFindsTheNextFrame(t *testing.T) {
	good := Reply{Op: OpCounter, Tag: 1, Value: 42}
	f := good.Encode()
	frame := f[:]
	for _, tt := range []struct {
		name string
		in   []byte
		n    int
		ok   bool
	}{
		{"nothing", nil, 0, false},
		{"noise alone", []byte("SeaBIOS"), 7, false},
		{"half a frame is kept", frame[:5], 0, false},
		{"noise before half a frame is not kept", append([]byte("xy"), frame[:5]...), 2, false},
		{"a frame", frame, 8, true},
		{"a frame after text with its first byte", append([]byte("ZZ Top, Zorro"), frame...), 21, true},
		{"a frame right after its first byte", append([]byte{0x5A}, frame...), 9, true},
		{"a frame after the tail of another", append([]byte{7, 0, 1, 0x5A, 0}, frame...), 13, true},
		{"a frame after one with an unknown status", append([]byte{0x5A, 'c', 1, 9, 0, 0, 0, 0}, frame...), 16, true},
		{"a frame after a reply with an event's tag", append([]byte{0x5A, 'c', 0xFF, 0, 0, 0, 0, 0}, frame...), 16, true},
		{"a frame after an event with a request's tag", append([]byte{0x5A, 'B', 1, 0, 0, 0, 0, 0}, frame...), 16, true},
		{"a frame after one that is unknown and carried out", append([]byte{0x5A, 'q', 1, 0, 0, 0, 0, 0}, frame...), 16, true},
	} {
		n, ok, got := DecodeReply(tt.in)
		if n != tt.n || ok != tt.ok || ok && got != good {
			t.Errorf("%s: %d, %v, %+v, want %d, %v", tt.name, n, ok, got, tt.n, tt.ok)
		}
	}
}

func FuzzDecodeReply(f *testing.F) {
	frame := Reply{Op: OpCounter, Tag: 1, Value: 42}.Encode()
	f.Add(frame[:])
	f.Add([]byte("Z noise Z"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, ok, r := DecodeReply(b)
		if n < 0 || n > len(b) || len(b)-n >= FrameSize && !ok {
			t.Fatalf("used %d of %d bytes, frame %v", n, len(b), ok)
		}
		if ok {
			if again := r.Encode(); !bytes.Equal(again[:], b[n-FrameSize:n]) {
				t.Fatalf("frame % x reads as %+v", b[n-FrameSize:n], r)
			}
		}
		// Whatever came first, two frames in a row are not both missed.
		stream := append(append(bytes.Clone(b[n:]), frame[:]...), frame[:]...)
		for {
			n, ok, r := DecodeReply(stream)
			if !ok {
				t.Fatalf("two frames after % x were missed", b)
			}
			if r.Op == OpCounter && r.Value == 42 {
				return
			}
			stream = stream[n:]
		}
	})
}
