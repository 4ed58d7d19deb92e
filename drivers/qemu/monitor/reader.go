package monitor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// reader cuts what QEMU sends into messages. It goes by JSON values and not by lines, so that it does not
// depend on line ends (CRLF on QEMU 7.2.22, several lines for one message under "pretty=on") and finds what
// is not JSON at its first wrong byte instead of waiting for the end of the line.
type reader struct {
	src   io.Reader
	dec   *json.Decoder
	limit int
	total int64 // bytes read from src
}

var errTooLong = errors.New("message over the size limit")

func newReader(src io.Reader, limit int) *reader {
	r := &reader{src: src, limit: limit}
	r.dec = json.NewDecoder((*limited)(r))
	return r
}

// slack allows for the white space between messages, which the decoder counts to the one that follows.
const slack = 64

// limited is the reader as its own decoder's source. The decoder asks for more only while the message it
// holds is incomplete, so whatever it holds by then is the length of that message so far.
type limited reader

func (l *limited) Read(p []byte) (int, error) {
	if l.total-l.dec.InputOffset() > int64(l.limit)+slack {
		return 0, errTooLong
	}
	n, err := l.src.Read(p)
	l.total += int64(n)
	return n, err
}

// next returns the next message, a JSON object in memory of its own. At the end between two messages the
// error is io.EOF itself; the end inside a message matches io.ErrUnexpectedEOF; what is no message matches
// ErrProtocol; any other error is the source's.
func (r *reader) next() ([]byte, error) {
	var raw json.RawMessage // a new one each time: Decode would write into an old one, which others still hold
	err := r.dec.Decode(&raw)
	var syntax *json.SyntaxError
	switch {
	case err == nil && len(raw) > r.limit, errors.Is(err, errTooLong):
		return nil, fmt.Errorf("%w: a message has more than %d bytes", ErrProtocol, r.limit)
	case err == nil && raw[0] != '{':
		return nil, fmt.Errorf("%w: a message is not a JSON object: %s", ErrProtocol, excerpt(raw))
	case err == nil:
		return raw, nil
	case errors.As(err, &syntax):
		return nil, fmt.Errorf("%w: not JSON (%w): %s", ErrProtocol, syntax, r.rest())
	case err == io.EOF:
		return nil, err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("%w in the middle of a message: %s", err, r.rest())
	}
	if rest := r.rest(); rest != `""` {
		return nil, fmt.Errorf("%w (%w) in the middle of a message: %s", io.ErrUnexpectedEOF, err, rest)
	}
	return nil, err
}

// rest shows the beginning of what was read and not returned.
func (r *reader) rest() string {
	head := make([]byte, TraceTextLimit+1)
	n, _ := io.ReadFull(r.dec.Buffered(), head)
	return excerpt(bytes.TrimSpace(head[:n]))
}
