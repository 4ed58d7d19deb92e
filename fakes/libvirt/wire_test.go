package libvirt

import (
	"bytes"
	"encoding/binary"
	"io"
	"reflect"
	"testing"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// FuzzDecoder gives the decoder what may come over the wire. What it takes has to
// come back as it was when it is encoded again.
func FuzzDecoder(f *testing.F) {
	for _, args := range []any{
		golibvirt.ConnectOpenArgs{Name: golibvirt.OptString{"qemu:///system"}},
		golibvirt.DomainSnapshotCreateXMLArgs{Dom: golibvirt.Domain{Name: "a", ID: -1}, XMLDesc: "<domainsnapshot/>", Flags: 3},
		golibvirt.ConnectGetAllDomainStatsArgs{Doms: []golibvirt.Domain{{Name: "a"}, {Name: "b"}}},
	} {
		p := packet{header: header{Program: programRemote, Version: 1, Procedure: 1, Serial: 7}, payload: encodeXDR(nil, reflect.ValueOf(args))}
		f.Add(p.encode())
	}
	f.Add([]byte{0, 0, 0, 4})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1, 2, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := readPacket(bytes.NewReader(data))
		if err != nil {
			return
		}
		if again, err := readPacket(bytes.NewReader(p.encode())); err != nil || again.header != p.header || !bytes.Equal(again.payload, p.payload) {
			t.Fatalf("%+v became %+v, %v", p, again, err)
		}
		for i := range procedures {
			args, err := procedures[i].decode(p.payload)
			if err != nil {
				continue
			}
			domainOf(args)
			once := encodeXDR(nil, reflect.ValueOf(args))
			second, err := procedures[i].decode(once)
			if err != nil {
				t.Fatalf("%s: what was encoded does not decode: %v", procedures[i].Name, err)
			}
			if twice := encodeXDR(nil, reflect.ValueOf(second)); !bytes.Equal(once, twice) {
				t.Fatalf("%s: %x, then %x", procedures[i].Name, once, twice)
			}
		}
	})
}

func TestPacketsOfWrongLengthsAreRefused(t *testing.T) {
	for _, n := range []uint32{0, 4, 27, lengthSize + maxPacket + 1, 1 << 31, 1<<32 - 1} {
		b := append(binary.BigEndian.AppendUint32(nil, n), make([]byte, 64)...)
		if p, err := readPacket(bytes.NewReader(b)); err == nil {
			t.Errorf("length %d: %+v", n, p)
		}
	}
	whole := packet{header: header{Program: programRemote}, payload: make([]byte, 100)}.encode()
	for i := range whole {
		want := io.ErrUnexpectedEOF
		if i == 0 {
			want = io.EOF
		}
		if _, err := readPacket(bytes.NewReader(whole[:i])); err != want {
			t.Errorf("%d of %d bytes: %v", i, len(whole), err)
		}
	}
}

func TestAListThatIsLongerThanItsPacketCostsNothing(t *testing.T) {
	b := binary.BigEndian.AppendUint32(nil, maxList)
	b = append(b, make([]byte, 64)...)
	allocated := testing.AllocsPerRun(10, func() {
		var args golibvirt.ConnectGetAllDomainStatsArgs
		if err := decodeXDR(b, &args); err == nil {
			t.Error("it was taken")
		}
	})
	if allocated > 20 {
		t.Errorf("%v allocations", allocated)
	}
}

// Answers of libvirt 9.0.0, byte by byte.
func TestAnswersAreThoseOfLibvirt(t *testing.T) {
	s, _ := started(t, Options{}, "a")
	for _, c := range []struct {
		name       string
		call       packet
		unanswered bool
		status     int32
		text       string
	}{
		{"unknown procedure", packet{header{programRemote, 1, 9999, typeCall, 2, statusOK}, nil}, false, 1, "unknown procedure: 9999"},
		{"no procedure", packet{header{programRemote, 1, -1, typeCall, 2, statusOK}, nil}, false, 1, "unknown procedure: -1"},
		{"arguments", packet{header{programRemote, 1, 23, typeCall, 2, statusOK}, []byte{255, 255, 255, 255}}, false, 1, "Unable to decode message payload"},
		{"program", packet{header{0x12345678, 1, 1, typeCall, 2, statusOK}, nil}, false, 1, "Cannot find program 305419896 version 1"},
		{"version", packet{header{programRemote, 7, 66, typeCall, 2, statusOK}, nil}, false, 1, "Cannot find program 536903814 version 7"},
		{"status", packet{header{programRemote, 1, 66, typeCall, 2, statusError}, nil}, false, 1, "Unexpected message status 1"},
		{"opened again", packet{header{programRemote, 1, 1, typeCall, 2, statusOK}, make([]byte, 8)}, false, 1, "internal error: connection already open"},
		{"more than arguments", packet{header{programRemote, 1, 3, typeCall, 2, statusOK}, make([]byte, 4)}, false, 0, ""},
		{"reply", packet{header{programRemote, 1, 66, typeReply, 2, statusOK}, nil}, true, 0, ""},
		{"event", packet{header{programRemote, 1, 66, typeEvent, 2, statusOK}, nil}, true, 0, ""},
		{"type", packet{header{programRemote, 1, 66, 7, 2, statusOK}, nil}, true, 0, ""},
		{"no stream", packet{header{programRemote, 1, 211, typeStream, 2, statusOK}, nil}, true, 0, ""},
		{"ping", packet{header{programKeepalive, 1, procPing, typeEvent, 0, statusOK}, nil}, false, 0, ""},
		{"no ping", packet{header{programKeepalive, 1, 5, typeEvent, 0, statusOK}, nil}, true, 0, ""},
	} {
		client := dial(t, s)
		if _, err := client.conn.Write(c.call.encode()); err != nil {
			t.Fatal(err)
		}
		client.serial++
		if !c.unanswered {
			var p packet
			var err error
			if c.call.Program == programKeepalive {
				p, err = readPacket(client.conn)
			} else {
				p, err = client.receive()
			}
			if err != nil || p.Status != c.status || p.Serial != c.call.Serial || p.Program == programKeepalive && p.Procedure != procPong {
				t.Errorf("%s: %+v, %v", c.name, p, err)
			} else if e := asAnswer(p); e != nil && e.Error() != c.text {
				t.Errorf("%s: %q", c.name, e)
			}
		}
		client.serial += 5
		client.send(version, none{})
		client.right()
	}
}

// The error that libvirtd 9.0.0 sent for a procedure that it does not know.
func TestAnErrorIsLaidOutAsLibvirtsIs(t *testing.T) {
	const want = "\x00\x00\x00\x27\x00\x00\x00\x07\x00\x00\x00\x01\x00\x00\x00\x17unknown procedure: 9999\x00" +
		"\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x02%s\x00\x00\x00\x00\x00\x01\x00\x00\x00\x17unknown procedure: 9999\x00" +
		"\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00"
	if got := encodeXDR(nil, reflect.ValueOf(fail(codeRPC, fromRPC, "unknown procedure: 9999").wire())); string(got) != want {
		t.Errorf("%x, want %x", got, want)
	}
}
