package pcap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/machineries/machineries/internal/require"
)

// ip builds an IP packet with ports.
func ip(protocol byte, from, to string, body ...byte) []byte {
	a, b := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)
	ports := binary.BigEndian.AppendUint16(nil, a.Port())
	ports = binary.BigEndian.AppendUint16(ports, b.Port())
	rest := append(ports, make([]byte, 16)...)
	rest[12] = 0x50 // TCP's header has no options
	rest = append(rest, body...)
	var h []byte
	if a.Addr().Is4() {
		h = make([]byte, 20)
		h[0], h[8], h[9] = 0x45, 64, protocol
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(rest)))
	} else {
		h = make([]byte, 8)
		h[0], h[6], h[7] = 0x60, protocol, 64
		binary.BigEndian.PutUint16(h[4:], uint16(len(rest)))
	}
	if a.Addr().Is4() {
		copy(h[12:], a.Addr().AsSlice())
		copy(h[16:], b.Addr().AsSlice())
	} else {
		h = append(append(h, a.Addr().AsSlice()...), b.Addr().AsSlice()...)
	}
	return append(h, rest...)
}

// ether puts a packet into a frame, behind tags.
func ether(packet []byte, tags ...uint16) []byte {
	f := append([]byte{2, 0, 0, 0, 0, 1}, 2, 0, 0, 0, 0, 2)
	for _, t := range tags {
		f = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(f, t), 7)
	}
	kind := uint16(typeIPv4)
	if packet[0]>>4 == 6 {
		kind = typeIPv6
	}
	return append(binary.BigEndian.AppendUint16(f, kind), packet...)
}

func file(t testing.TB, h Header, packets ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, h)
	for i, data := range packets {
		if err == nil {
			err = w.Write(&Packet{Seconds: 100 + uint32(i), Nanos: 5000, Length: uint32(len(data)), Data: data})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func packets(t testing.TB, data []byte) (Header, [][]byte) {
	t.Helper()
	r, err := NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r.Header, all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, bytes.Clone(p.Data))
	}
}

var plain = Header{SnapLen: 65536, Link: LinkEthernet}

func TestWhatWasWrittenIsReadAgain(t *testing.T) {
	for _, h := range []Header{plain, {Nano: true, SnapLen: 100, Link: LinkCooked}} {
		data := file(t, h, []byte("one"), nil, []byte("three"))
		got, all := packets(t, data)
		if got != h || len(all) != 3 || string(all[0]) != "one" || string(all[2]) != "three" {
			t.Errorf("read %+v %q", got, all)
		}
	}
}

func TestTheOtherByteOrderIsRead(t *testing.T) {
	big := binary.BigEndian.AppendUint32(nil, magicNano)
	big = append(big, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)
	big = append(big, 0, 0, 0, 9, 0, 0, 0, 8, 0, 0, 0, 2, 0, 0, 0, 3, 'a', 'b')
	r, err := NewReader(bytes.NewReader(big))
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Next()
	if err != nil || p.Seconds != 9 || p.Nanos != 8 || p.Length != 3 || string(p.Data) != "ab" || !r.Nano || r.SnapLen != 256 {
		t.Errorf("read %+v %+v, %v", r.Header, p, err)
	}
}

func TestWhatIsNoRecordingIsRefused(t *testing.T) {
	whole := file(t, plain, []byte("one"))
	huge := slices.Clone(whole)
	binary.LittleEndian.PutUint32(huge[HeaderSize+8:], 1<<31)
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"nothing", nil, "EOF"},
		{"half a header", whole[:10], ErrCut.Error()},
		{"pcapng", append([]byte{0x0A, 0x0D, 0x0D, 0x0A}, make([]byte, 30)...), "no pcap file"},
		{"a packet of gigabytes", huge, "longer than any"},
		{"half a record header", whole[:HeaderSize+5], ErrCut.Error()},
		{"a packet without a byte of data", whole[:HeaderSize+RecordSize], ErrCut.Error()},
		{"half a packet", whole[:len(whole)-1], ErrCut.Error()},
	} {
		r, err := NewReader(bytes.NewReader(c.data))
		if err == nil {
			_, err = r.Next()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", c.name, err, c.want)
		}
	}
}

func TestRecordingsAreJoinedByTimeAndHalfAPacketIsLeftOut(t *testing.T) {
	a := file(t, plain, []byte("a0"), []byte("a1"), []byte("a2"))
	b := file(t, Header{Nano: true, SnapLen: 99999, Link: LinkEthernet}, []byte("b0"), []byte("b1"))
	binary.LittleEndian.PutUint32(b[HeaderSize+4:], 5001) // a moment after a0
	var out bytes.Buffer
	res, err := Merge(&out, []io.Reader{bytes.NewReader(a[:len(a)-1]), bytes.NewReader(b), bytes.NewReader(nil)}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	h, all := packets(t, out.Bytes())
	if got := string(bytes.Join(all, []byte(" "))); got != "a0 b0 a1 b1" || !res.Cut || res.Full || res.Packets != 4 || !h.Nano || h.SnapLen != 99999 {
		t.Errorf("joined to %q (%+v, %+v)", got, res, h)
	}
	if res.Size != int64(out.Len()) {
		t.Errorf("said to have %d bytes, has %d", res.Size, out.Len())
	}
}

func TestNothingIsStillARecording(t *testing.T) {
	var out bytes.Buffer
	if _, err := Merge(&out, []io.Reader{bytes.NewReader(nil)}, Options{}); err != nil {
		t.Fatal(err)
	}
	if h, all := packets(t, out.Bytes()); len(all) != 0 || h.Link != LinkEthernet {
		t.Errorf("%+v, %d packets", h, len(all))
	}
}

func TestAFileHasWholePacketsUpToItsBound(t *testing.T) {
	in := file(t, plain, make([]byte, 100), make([]byte, 100), make([]byte, 1))
	for _, c := range []struct {
		max  int64
		want int
		full bool
	}{{int64(len(in)), 3, false}, {int64(len(in)) - 1, 2, true}, {HeaderSize + 116, 1, true}, {HeaderSize + 115, 0, true}, {0, 3, false}} {
		var out bytes.Buffer
		res, err := Merge(&out, []io.Reader{bytes.NewReader(in)}, Options{MaxBytes: c.max})
		if err != nil || res.Packets != c.want || res.Full != c.full || c.max > 0 && int64(out.Len()) > c.max {
			t.Errorf("at most %d: %+v, %v; want %d packets", c.max, res, err, c.want)
		}
	}
}

func TestRecordingsOfDifferentNetworksAreNotJoined(t *testing.T) {
	_, err := Merge(io.Discard, []io.Reader{bytes.NewReader(file(t, plain)), bytes.NewReader(file(t, Header{Link: LinkRaw}))}, Options{})
	if err == nil {
		t.Error("they were")
	}
}

var (
	agent  = netip.MustParseAddrPort("192.0.2.7:8000")
	agent6 = netip.MustParseAddrPort("[2001:db8::7]:8000")
)

// sides are packets, each with whether it is to be left out.
func sides() []struct {
	name string
	data []byte
	tags []uint16
	left bool
} {
	fragment := ip(17, "192.0.2.7:8000", "192.0.2.1:9")
	fragment[7] = 1
	first := ip(17, "192.0.2.7:8000", "192.0.2.1:9")
	first[6] = 0x20
	extended := ip(0, "[2001:db8::7]:8000", "[2001:db8::1]:9")
	return []struct {
		name string
		data []byte
		tags []uint16
		left bool
	}{
		{"from it", ip(6, "192.0.2.7:8000", "192.0.2.1:5"), nil, true},
		{"to it", ip(6, "192.0.2.1:5", "192.0.2.7:8000"), nil, true},
		{"by UDP", ip(17, "192.0.2.1:5", "192.0.2.7:8000"), nil, true},
		{"by SCTP", ip(132, "192.0.2.1:5", "192.0.2.7:8000"), nil, true},
		{"from its address to that port of another", ip(6, "192.0.2.7:5", "192.0.2.1:8000"), nil, false},
		{"from that port of another to its address", ip(6, "192.0.2.1:8000", "192.0.2.7:5"), nil, false},
		{"another port", ip(6, "192.0.2.7:8001", "192.0.2.1:5"), nil, false},
		{"another address", ip(6, "192.0.2.8:8000", "192.0.2.1:5"), nil, false},
		{"ICMP has no ports", ip(1, "192.0.2.7:8000", "192.0.2.1:5"), nil, false},
		{"by IPv6", ip(6, "[2001:db8::1]:5", "[2001:db8::7]:8000"), nil, true},
		{"by IPv6 from another port", ip(17, "[2001:db8::7]:5", "[2001:db8::1]:8000"), nil, false},
		{"the first fragment", first, nil, true},
		{"a later fragment", fragment, nil, false},
		{"an extension header", extended, nil, false},
		{"in a VLAN", ip(6, "192.0.2.1:5", "192.0.2.7:8000"), []uint16{0x8100}, true},
		{"in a VLAN in a VLAN", ip(6, "192.0.2.1:5", "192.0.2.7:8000"), []uint16{0x88A8, 0x8100}, true},
	}
}

func TestWhatGoesToOrComesFromAnEndpointIsLeftOut(t *testing.T) {
	for _, c := range sides() {
		if got := Excluded(LinkEthernet, ether(c.data, c.tags...), []netip.AddrPort{agent, agent6}); got != c.left {
			t.Errorf("%s: left out %v; want %v", c.name, got, c.left)
		}
		if len(c.tags) > 0 {
			continue
		}
		cooked := append(append(make([]byte, 14), ether(c.data)[12:14]...), c.data...)
		cooked2 := append(append(ether(c.data)[12:14:14], make([]byte, 18)...), c.data...)
		for link, data := range map[uint32][]byte{LinkRaw: c.data, LinkCooked: cooked, LinkCooked2: cooked2} {
			if got := Excluded(link, data, []netip.AddrPort{agent, agent6}); got != c.left {
				t.Errorf("%s, link type %d: left out %v; want %v", c.name, link, got, c.left)
			}
		}
	}
}

func TestTcpdumpsFilterLeavesOutTheSame(t *testing.T) {
	require.Tool(t, "tcpdump")
	for _, c := range sides() {
		if len(c.tags) > 0 {
			continue // its filter does not look into them
		}
		path := filepath.Join(t.TempDir(), "a.pcap")
		if err := os.WriteFile(path, file(t, plain, ether(c.data)), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("tcpdump", "-nr", path, "--", Expression([]netip.AddrPort{agent, agent6})).Output()
		if err != nil {
			t.Fatal(err)
		}
		if left := len(out) == 0; left != c.left {
			t.Errorf("%s: tcpdump leaves it out: %v; want %v", c.name, left, c.left)
		}
	}
}

func TestTcpdumpAndTsharkReadWhatIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.pcap")
	var out bytes.Buffer
	in := file(t, plain, ether(ip(17, "192.0.2.1:5", "192.0.2.9:9")), ether(ip(17, "192.0.2.1:5", "192.0.2.7:8000")))
	if _, err := Merge(&out, []io.Reader{bytes.NewReader(in)}, Options{Exclude: []netip.AddrPort{agent}}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tool := range [][]string{{"tcpdump", "-nr", path}, {"tshark", "-nr", path}} {
		t.Run(tool[0], func(t *testing.T) {
			require.Tool(t, tool[0])
			text, err := exec.Command(tool[0], tool[1:]...).Output()
			if lines := strings.Count(string(text), "\n"); err != nil || lines != 1 || !strings.Contains(string(text), "192.0.2.9") {
				t.Errorf("%v, %d lines:\n%s", err, lines, text)
			}
		})
	}
}

func FuzzMerge(f *testing.F) {
	whole := file(f, plain, ether(ip(6, "192.0.2.1:5", "192.0.2.7:8000")), ether(ip(17, "[2001:db8::1]:5", "[2001:db8::7]:8000"), 0x8100))
	f.Add(whole, whole[:len(whole)-3])
	f.Add([]byte(nil), file(f, Header{Nano: true, Link: LinkCooked}, []byte{1}))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var out bytes.Buffer
		res, err := Merge(&out, []io.Reader{bytes.NewReader(a), bytes.NewReader(b)}, Options{Exclude: []netip.AddrPort{agent, agent6}, MaxBytes: 1 << 20})
		if err != nil {
			return
		}
		h, all := packets(t, out.Bytes())
		if len(all) != res.Packets || out.Len() > 1<<20 {
			t.Fatalf("%d packets in %d bytes, said to be %s", len(all), out.Len(), strconv.Itoa(res.Packets))
		}
		for _, p := range all {
			if Excluded(h.Link, p, []netip.AddrPort{agent, agent6}) {
				t.Fatal("an excluded packet was written")
			}
		}
	})
}
