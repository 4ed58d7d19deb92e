//go:build linux

package qemu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/machineries/machineries/internal/pcap"
)

// netdev is a network backend. The fake connects those of the type stream to a unix socket; nothing is behind the others.
type netdev struct {
	id, kind, info string
	card           string // the line of the card that it is connected to; empty for none
	conn           net.Conn
	filters        []*filter
}

// filter is a filter-dump.
type filter struct {
	id, file string
	maxlen   int64
	out      *os.File
	to       *pcap.Writer
}

// nicModels are the network cards that "info network" tells of.
var nicModels = strings.Fields("e1000 e1000e rtl8139 pcnet ne2k_pci virtio-net-pci vmxnet3")

// setUpNetwork makes the backends. One that finds nobody to connect to stays without a connection, as in QEMU 7.2.
func (m *machine) setUpNetwork() {
	for _, v := range m.netdevOpts {
		n := &netdev{id: v.get("id"), kind: v.get("type")}
		switch n.kind {
		case "user":
			n.info = "net=10.0.2.0,restrict=off"
		case "stream":
			if path := v.get("addr.path"); v.get("addr.type") == "unix" && v.get("server") == "off" {
				n.info = "unix:" + path
				n.conn, _ = net.Dial("unix", path)
			}
		}
		m.network = append(m.network, n)
	}
	counts := map[string]int{}
	for i, dev := range m.devices {
		model := dev.opts.get("driver")
		if !slices.Contains(nicModels, model) {
			continue
		}
		name := dev.opts.get("id")
		if name == "" {
			name = model + "." + strconv.Itoa(counts[model])
			counts[model]++
		}
		mac := dev.opts.get("mac")
		if mac == "" {
			mac = fmt.Sprintf("52:54:00:12:34:%02x", 0x56+i)
		}
		if n := m.backend(dev.opts.get("netdev")); n != nil {
			n.card = fmt.Sprintf("%s: index=0,type=nic,model=%s,macaddr=%s\r\n", name, model, mac)
		}
	}
}

// listen takes in what comes over the network, from when filters are there.
func (m *machine) listen() {
	for _, n := range m.network {
		if n.conn != nil {
			go m.hear(n)
		}
	}
}

// hear reads frames, each with its length before it.
func (m *machine) hear(n *netdev) {
	var head [4]byte
	for {
		if _, err := io.ReadFull(n.conn, head[:]); err != nil {
			return
		}
		length := binary.BigEndian.Uint32(head[:])
		if length > 65536+100 {
			return
		}
		frame := make([]byte, length)
		// The frame is taken out of the socket and recorded as one: whoever sees that it was read may ask for it.
		m.mu.Lock()
		_, err := io.ReadFull(n.conn, frame)
		if err == nil {
			for _, f := range n.filters {
				f.write(frame)
			}
		}
		m.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (m *machine) backend(id string) *netdev {
	i := slices.IndexFunc(m.network, func(n *netdev) bool { return n.id == id })
	if i < 0 {
		return nil
	}
	return m.network[i]
}

func (f *filter) write(frame []byte) {
	if f.to == nil {
		return
	}
	now := time.Now()
	data := frame[:min(int64(len(frame)), f.maxlen)]
	err := f.to.Write(&pcap.Packet{Seconds: uint32(now.Unix()), Nanos: uint32(now.Nanosecond()), Length: uint32(len(frame)), Data: data})
	if err != nil {
		fmt.Fprintln(os.Stderr, "network dump write error - stopping dump")
		f.close()
	}
}

func (f *filter) close() {
	f.out.Close()
	f.to = nil
}

var objectCommands = map[string]command{
	"object-add": {args: []arg{{name: "qom-type", kind: kindEnum, values: []string{"filter-dump"}}, {name: "id", kind: kindString},
		{name: "netdev", kind: kindString}, {name: "file", kind: kindString}, {name: "maxlen", kind: kindUint64, optional: true}}, run: objectAdd},
	"object-del": {args: []arg{{name: "id", kind: kindString}}, run: objectDel},
}

func objectAdd(m *machine, _ *session, args *dict) (any, error) {
	f := &filter{id: args.str("id"), file: args.str("file"), maxlen: 65536}
	if args.has("maxlen") {
		f.maxlen = args.num("maxlen")
	}
	if err := m.addFilter(f, args.str("netdev")); err != nil {
		return nil, generic("%s", err.Error())
	}
	return nil, nil
}

// addFilter makes the checks in QEMU's order.
func (m *machine) addFilter(f *filter, backend string) error {
	if !identifier(f.id) {
		return errors.New("Parameter 'id' expects an identifier")
	}
	for _, n := range m.network {
		if slices.ContainsFunc(n.filters, func(g *filter) bool { return g.id == f.id }) {
			return fmt.Errorf("attempt to add duplicate property '%s' to object (type 'container')", f.id)
		}
	}
	n := m.backend(backend)
	if n == nil {
		return errors.New("Parameter 'netdev' expects a network backend id")
	}
	var err error
	if f.out, err = os.OpenFile(f.file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644); err != nil {
		return fmt.Errorf("net dump: can't open %s: %s", f.file, strerror(err))
	}
	if f.to, err = pcap.NewWriter(f.out, pcap.Header{SnapLen: uint32(f.maxlen), Link: pcap.LinkEthernet}); err != nil {
		f.out.Close()
		return fmt.Errorf("net dump write error: %s", strerror(err))
	}
	n.filters = append(n.filters, f)
	return nil
}

func objectDel(m *machine, _ *session, args *dict) (any, error) {
	id := args.str("id")
	for _, n := range m.network {
		for i, f := range n.filters {
			if f.id == id {
				f.close()
				n.filters = slices.Delete(n.filters, i, i+1)
				return nil, nil
			}
		}
	}
	return nil, generic("object '%s' not found", id)
}

// setUpObjects makes the objects of the command line. Only filter-dump is acted upon.
func (m *machine) setUpObjects() error {
	for _, o := range m.objects {
		v := parseOpts(o.arg, "qom-type", nil)
		if v.get("qom-type") != "filter-dump" {
			continue
		}
		for _, k := range strings.Fields("id netdev file") {
			if !v.has(k) {
				return failAt(o, fmt.Errorf("Parameter '%s' is missing", k))
			}
		}
		if err := m.addFilter(&filter{id: v.get("id"), file: v.get("file"), maxlen: 65536}, v.get("netdev")); err != nil {
			return failAt(o, err)
		}
	}
	return nil
}

// networkInfo is "info network".
func (m *machine) networkInfo() string {
	var b strings.Builder
	for _, n := range m.network {
		if n.card == "" {
			continue
		}
		b.WriteString(n.card)
		fmt.Fprintf(&b, " \\ %s: index=0,type=%s,%s\r\n", n.id, n.kind, n.info)
		for i, f := range n.filters {
			if i == 0 {
				b.WriteString("filters:\r\n")
			}
			fmt.Fprintf(&b, "  - %s: type=filter-dump,file=%s,maxlen=%d,position=tail,status=on,insert=behind,netdev=%s,queue=all\r\n", f.id, f.file, f.maxlen, n.id)
		}
	}
	return b.String()
}

// closeNetwork lets go of the network. The machine is locked.
func (m *machine) closeNetwork() {
	for _, n := range m.network {
		if n.conn != nil {
			n.conn.Close()
		}
		for _, f := range n.filters {
			f.close()
		}
	}
}
