package guest

import "errors"

// receive takes one byte from the serial port.
func (m *Model) receive(b byte, now uint32) {
	g := &m.guest
	if g.FrameLen > 0 && now-g.FrameTick > FrameTimeout {
		g.FrameLen = 0
	}
	if g.FrameLen == 0 && b != RequestMark {
		return
	}
	g.Frame[g.FrameLen] = b
	g.FrameLen++
	g.FrameTick = now
	if g.FrameLen == FrameSize {
		g.FrameLen = 0
		r, _ := ParseRequest(g.Frame)
		m.obey(r, now)
	}
}

// slots is how many values the slot of a request may have, for the ops that look at it.
var slots = map[Op]byte{
	OpGetMemory: Slots, OpSetMemory: Slots, OpGetDisk: SecondDisk + Slots, OpSetDisk: SecondDisk + Slots, OpButton: byte(ButtonLate) + 1,
}

// obey carries a request out and answers it.
func (m *Model) obey(r Request, now uint32) {
	g := &m.guest
	reply := Reply{Op: r.Op, Tag: r.Tag, Value: r.Value}
	if n, looked := slots[r.Op]; looked && r.Slot >= n {
		reply.Status = StatusBadSlot
		m.send(reply)
		return
	}
	switch r.Op {
	case OpIdentify:
		reply.Value = Version
	case OpCounter:
		reply.Value = now
	case OpGetMemory:
		reply.Value = g.Marks[r.Slot]
	case OpSetMemory:
		g.Marks[r.Slot] = r.Value
	case OpGetDisk:
		m.access(func() {
			var err error
			if reply.Value, err = m.readDisk(int(r.Slot)); err != nil {
				reply.Status = StatusDiskError
			}
		})
	case OpSetDisk:
		m.access(func() {
			if err := m.writeDisk(int(r.Slot), r.Value); err != nil {
				reply.Status = StatusDiskError
			}
		})
	case OpButton:
		g.Button, g.Delay, g.Late = ButtonMode(r.Slot), r.Value, false
	case OpPresses:
		reply.Value = g.Presses
	case OpHang:
		g.Elapsed = m.elapsed()
		g.Phase = phaseHung
		m.publish(Event{Kind: Hung, Guest: true})
	case OpReset:
		m.endWith(endReset)
	case OpPowerOff:
		m.endWith(endOff)
	default:
		reply.Status = StatusUnknownOp
	}
	m.send(reply)
}

// errNoDisk is the BIOS's answer where there is no second disk.
var errNoDisk = errors.New("the machine has no such disk")

// diskOf is the disk of a mark, and the mark's slot on it.
func (m *Model) diskOf(slot int) (Disk, int, error) {
	disk := m.opts.Disk
	if slot >= SecondDisk {
		disk, slot = m.opts.Second, slot-SecondDisk
	}
	if disk == nil {
		return nil, 0, errNoDisk
	}
	return disk, slot, nil
}

func (m *Model) readDisk(slot int) (uint32, error) {
	disk, slot, err := m.diskOf(slot)
	if err != nil {
		return 0, err
	}
	return ReadDiskMark(disk, slot)
}

func (m *Model) writeDisk(slot int, value uint32) error {
	disk, slot, err := m.diskOf(slot)
	if err != nil {
		return err
	}
	return WriteDiskMark(disk, slot, value)
}
