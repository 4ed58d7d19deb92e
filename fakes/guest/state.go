package guest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A saved state is: the magic, a checksum (CRC-32, IEEE) of the rest, and the program's fields in their
// order, little endian. The magic ends in the format's version.
const stateMagic = "MMGUEST\x01"

// ErrBadState is matched by the errors of Load about bytes that Save did not write.
var ErrBadState = errors.New("this is not the saved state of a guest")

// Save returns the machine's memory and devices as they are, all that a snapshot holds: marks, counter,
// button and what it is doing, not the disk. Pause the machine first, or the disk may be ahead of what is
// saved. A machine that is off has nothing to save.
func (m *Model) Save() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.on {
		return nil, errors.New("cannot save the guest: the machine is off")
	}
	g := m.guest
	g.Elapsed = m.elapsed()
	body, err := binary.Append(nil, binary.LittleEndian, &g)
	if err != nil {
		return nil, fmt.Errorf("cannot save the guest: %w", err)
	}
	out := binary.LittleEndian.AppendUint32([]byte(stateMagic), crc32.ChecksumIEEE(body))
	return append(out, body...), nil
}

// Load puts the machine into a saved state: on, and paused. Its serial port stays attached. What the
// machine was before is lost, as if its power had been cut. On an error, which matches ErrBadState, nothing
// has changed.
func (m *Model) Load(state []byte) error {
	rest, ok := bytes.CutPrefix(state, []byte(stateMagic))
	var g program
	size := binary.Size(&g)
	switch {
	case !ok:
		return fmt.Errorf("%w: it does not start as one", ErrBadState)
	case len(rest) != 4+size:
		return fmt.Errorf("%w: it has %d bytes, not %d", ErrBadState, len(state), len(stateMagic)+4+size)
	case crc32.ChecksumIEEE(rest[4:]) != binary.LittleEndian.Uint32(rest):
		return fmt.Errorf("%w: its checksum is wrong", ErrBadState)
	}
	if _, err := binary.Decode(rest[4:], binary.LittleEndian, &g); err != nil {
		return fmt.Errorf("%w: %w", ErrBadState, err)
	}
	if g.Phase > phaseLast || g.End > endLast || g.Button > ButtonLate || g.FrameLen >= FrameSize || g.Elapsed < 0 {
		return fmt.Errorf("%w: a value in it is out of range", ErrBadState)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.halt()
	if m.closed {
		return errors.New("cannot load the guest: the machine is closed")
	}
	m.cold()
	m.guest = g
	m.on, m.held = true, true
	m.changed.Broadcast()
	return nil
}
