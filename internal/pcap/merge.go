package pcap

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
)

// Options say what Merge leaves out.
type Options struct {
	// Exclude leaves out what goes to or comes from these; see Excluded.
	Exclude []netip.AddrPort
	// MaxBytes is the most that the file may have, its header included; 0 means no bound. Only whole packets are written.
	MaxBytes int64
}

// Result is what Merge has done.
type Result struct {
	// Packets is how many were written, Left how many were left out for their endpoints.
	Packets, Left int
	// Size is the file's size in bytes.
	Size int64
	// Full is set if packets were left out because the file may have no more bytes.
	Full bool
	// Cut is set if a source ended within a packet, which was left out.
	Cut bool
}

// Merge writes recordings of the same kind of network as one, by time. Packets of one source stay in their order. A source
// without a byte is one without packets; without any packet the result is a file with a header alone, for Ethernet if no
// source says otherwise.
func Merge(out io.Writer, sources []io.Reader, o Options) (Result, error) {
	var res Result
	type stream struct {
		r    *Reader
		next *Packet
	}
	var streams []*stream
	h := Header{SnapLen: MaxPacket, Link: LinkEthernet}
	advance := func(s *stream) error {
		p, err := s.r.Next()
		s.next = p
		switch {
		case err == nil, errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, ErrCut):
			res.Cut = true
			return nil
		}
		return err
	}
	for i, source := range sources {
		r, err := NewReader(source)
		switch {
		case errors.Is(err, io.EOF):
			continue
		case errors.Is(err, ErrCut):
			res.Cut = true
			continue
		case err != nil:
			return res, fmt.Errorf("recording %d: %w", i+1, err)
		}
		if len(streams) == 0 {
			h = r.Header
		} else if r.Link != h.Link {
			return res, fmt.Errorf("recordings of different kinds of network (%d and %d) do not go into one file", h.Link, r.Link)
		}
		h.Nano, h.SnapLen = h.Nano || r.Nano, max(h.SnapLen, r.SnapLen)
		s := &stream{r: r}
		if err := advance(s); err != nil {
			return res, fmt.Errorf("recording %d: %w", i+1, err)
		}
		streams = append(streams, s)
	}
	w, err := NewWriter(out, h)
	for err == nil {
		var first *stream
		for _, s := range streams {
			if s.next != nil && (first == nil || s.next.before(first.next)) {
				first = s
			}
		}
		if first == nil {
			break
		}
		switch p := first.next; {
		case Excluded(h.Link, p.Data, o.Exclude):
			res.Left++
		case o.MaxBytes > 0 && w.Size()+RecordSize+int64(len(p.Data)) > o.MaxBytes:
			res.Full = true
		default:
			err = w.Write(p)
			res.Packets++
		}
		if err == nil && !res.Full {
			err = advance(first)
		}
		if res.Full {
			break
		}
	}
	res.Size = w.Size()
	return res, err
}
