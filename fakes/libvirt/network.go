package libvirt

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/machineries/machineries/internal/pcap"
)

// maxFrame is the longest frame that QEMU takes from a socket (NET_BUFSIZE).
const maxFrame = 4096 + 65536

// card is a network card and the backend that it has in QEMU: one that is connected
// to a TCP port (<interface type='client'>), over which frames go with their
// length before them, or one with nothing behind it.
type card struct {
	backend string // "hostnet0"
	conn    net.Conn

	mu      sync.Mutex // what follows, and the taking of a frame
	heard   bool       // somebody listens
	closed  bool
	filters []*filter
}

// filter is a filter-dump.
type filter struct {
	id  string
	max int
	out *os.File
	to  *pcap.Writer
}

// nameDevices gives the devices of a run the names that libvirt gives them.
func nameDevices(live *element) {
	for kind, name := range map[string]string{"interface": "net", "serial": "serial", "video": "video"} {
		for i, e := range live.child("devices").all(kind) {
			e.ensure("alias", "", "").setAttr("name", name+strconv.Itoa(i))
		}
	}
}

// openNetwork connects the cards of a run.
func (d *Domain) openNetwork(def *element) error {
	for i, e := range def.child("devices").all("interface") {
		c := &card{backend: "hostnet" + strconv.Itoa(i)}
		if e.attr("type") == "client" {
			source := e.child("source")
			address := net.JoinHostPort(source.attr("address"), source.attr("port"))
			conn, err := net.Dial("tcp", address)
			if err != nil {
				return exited("-netdev socket,connect=%s,id=%s: can't connect socket: %s", address, c.backend, systemText(err))
			}
			c.conn = conn
		}
		d.cards = append(d.cards, c)
	}
	return nil
}

// listenNetwork takes in what comes over the network, from when the machine runs
// on: what a machine has not begun to take may still be recorded.
func (d *Domain) listenNetwork() {
	for _, c := range d.cards {
		c.mu.Lock()
		if c.conn != nil && !c.heard {
			c.heard = true
			d.server.leaving.Go(c.hear)
		}
		c.mu.Unlock()
	}
}

// hear reads frames until the connection ends.
func (c *card) hear() {
	var head [4]byte
	for {
		if _, err := io.ReadFull(c.conn, head[:]); err != nil {
			return
		}
		length := binary.BigEndian.Uint32(head[:])
		if length > maxFrame || !c.record(int(length)) {
			return
		}
	}
}

// record takes a frame out of the socket and writes it down as one: whoever sees that
// it was read may ask for it.
func (c *card) record(length int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	frame := make([]byte, length)
	if _, err := io.ReadFull(c.conn, frame); err != nil {
		return false
	}
	now := time.Now()
	for _, f := range c.filters {
		if f.to == nil {
			continue
		}
		data := frame[:min(len(frame), f.max)]
		if err := f.to.Write(&pcap.Packet{Seconds: uint32(now.Unix()), Nanos: uint32(now.Nanosecond()), Length: uint32(length), Data: data}); err != nil {
			f.close() // as QEMU, which goes on without
		}
	}
	return true
}

func (f *filter) close() {
	f.out.Close()
	f.to = nil
}

// closeNetwork ends the connections and recordings of a run.
func (d *Domain) closeNetwork() {
	for _, c := range d.cards {
		if c.conn != nil {
			c.conn.Close() // before the lock: a frame may be on its way
		}
		c.mu.Lock()
		c.closed = true
		for _, f := range c.filters {
			f.close()
		}
		c.filters = nil
		c.mu.Unlock()
	}
	d.cards = nil
}

var identifier = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]*$`)

// objectAdd is QEMU's command of that name, for a filter-dump.
func objectAdd(d *Domain, arguments json.RawMessage) error {
	var a struct {
		Type   string `json:"qom-type"`
		ID     string `json:"id"`
		Netdev string `json:"netdev"`
		File   string `json:"file"`
		Maxlen *int   `json:"maxlen"`
	}
	if err := json.Unmarshal(arguments, &a); err != nil {
		return err
	}
	if a.Type != "filter-dump" {
		return fmt.Errorf("Parameter 'qom-type' does not accept value '%s'", a.Type)
	}
	if !identifier.MatchString(a.ID) {
		return errors.New("Parameter 'id' expects an identifier")
	}
	if c, _ := d.filter(a.ID); c != nil {
		return fmt.Errorf("attempt to add duplicate property '%s' to object (type 'container')", a.ID)
	}
	i := slices.IndexFunc(d.cards, func(c *card) bool { return c.backend == a.Netdev })
	if i < 0 {
		return errors.New("Parameter 'netdev' expects a network backend id")
	}
	f := &filter{id: a.ID, max: maxFrame}
	if a.Maxlen != nil {
		f.max = *a.Maxlen
	}
	var err error
	if f.out, err = os.OpenFile(a.File, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644); err != nil {
		return fmt.Errorf("net dump: can't open %s: %s", a.File, systemText(err))
	}
	if f.to, err = pcap.NewWriter(f.out, pcap.Header{SnapLen: uint32(f.max), Link: pcap.LinkEthernet}); err != nil {
		f.out.Close()
		return fmt.Errorf("net dump write error: %s", systemText(err))
	}
	c := d.cards[i]
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		f.close()
		return errors.New("the machine has ended")
	}
	c.filters = append(c.filters, f)
	return nil
}

// objectDel is QEMU's command of that name.
func objectDel(d *Domain, arguments json.RawMessage) error {
	var a struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(arguments, &a); err != nil {
		return err
	}
	c, i := d.filter(a.ID)
	if c == nil {
		return fmt.Errorf("object '%s' not found", a.ID)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.filters[i].close()
	c.filters = slices.Delete(c.filters, i, i+1)
	return nil
}

// filter finds a filter by its id.
func (d *Domain) filter(id string) (*card, int) {
	for _, c := range d.cards {
		c.mu.Lock()
		i := slices.IndexFunc(c.filters, func(f *filter) bool { return f.id == id })
		c.mu.Unlock()
		if i >= 0 {
			return c, i
		}
	}
	return nil, 0
}
