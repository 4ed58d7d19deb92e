//go:build linux

package kvm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/internal/qcow2"
	"github.com/machineries/machineries/machinery"
)

// BenchmarkState measures State against the round trip itself: the same bytes written to a connection of their own, and as many read as come
// back. Beside them is the same question by go-libvirt as it is. All take turns, each first in its turn, so that what else the host does hits all
// alike. It reports the medians in microseconds and their ratio to the round trip's.
//
// QEMU is asked too whether it answers, unless it has answered in the last 20 ms: "looked at again" is of a machine whose
// last State is longer ago than that, beside the two questions one after the other by go-libvirt.
func BenchmarkState(b *testing.B) {
	for _, driver := range []string{"qemu", "fake"} {
		b.Run(driver, func(b *testing.B) {
			s := newSite(b, driver, conformance.MachineSpec{Name: "a"})
			d := s.open()
			f := s.newFloor()
			state := func() {
				_, err := d.State(context.Background(), "a")
				must(b, err)
			}
			take := func(b *testing.B) {
				state() // its snapshot is looked at the first time
				r := &race{b: b, ways: []way{{name: "state", do: state}, {name: "round-trip", do: f.exchangeState}, {name: "go-libvirt", do: f.askState}}}
				for b.Loop() {
					r.run()
				}
				r.report(time.Microsecond, "µs")
			}
			b.Run("off", take)
			must(b, d.RestoreStart(limit(b), "a"))
			b.Run("running", take)
			b.Run("looked at again", func(b *testing.B) {
				r := &race{b: b, ways: []way{{name: "state", do: state}, {name: "both-questions", do: func() { f.askState(); f.askQEMU() }}}}
				for b.Loop() {
					time.Sleep(probeAgain) // so long it counts that QEMU has answered
					r.run()
				}
				r.report(time.Microsecond, "µs")
			})
		})
	}
}

// BenchmarkRestore measures RestoreStart against libvirt's own revert to the same snapshot, or restore of the same memory image above overlays that
// are there already: go-libvirt's call alone, on a connection of its own, and one look at the state. They take turns, and the driver stops the
// machine after both. It reports the medians and the shortest in milliseconds, and how much longer the driver takes.
func BenchmarkRestore(b *testing.B) {
	for _, spec := range []conformance.MachineSpec{{Name: "running"}, {Name: "paused", SavedPaused: true}, {Name: "memory image", Kind: conformance.SnapshotMemory}} {
		b.Run(spec.Name, func(b *testing.B) {
			want := libvirt.DomainRunning
			if spec.SavedPaused {
				want = libvirt.DomainPaused
			}
			spec.Name = "a"
			s := newSite(b, "qemu", spec)
			d := s.open()
			f := s.newFloor()
			var own func()
			before := func() {}
			if spec.Kind == conformance.SnapshotMemory {
				before, own = f.restore(s.dir)
			} else {
				own = f.revert(want)
			}
			r := &race{b: b, ways: []way{{name: "restore", do: func() { must(b, d.RestoreStart(limit(b), "a")) }}, {name: "libvirt", do: own}}}
			r.between = func() {
				must(b, d.Stop(limit(b), "a"))
				before()
			}
			before()
			for b.Loop() {
				r.run()
			}
			r.report(time.Millisecond, "ms")
			b.ReportMetric(r.median(0, time.Millisecond)-r.median(1, time.Millisecond), "more-ms")
		})
	}
}

// BenchmarkThousandMachines measures New and States with a thousand machines against the one call of each that tells of all domains, by go-libvirt as
// it is on a connection that is there already. New connects too.
func BenchmarkThousandMachines(b *testing.B) {
	const n = 1000
	s := newSite(b, "qemu", conformance.MachineSpec{Name: "a"})
	f := s.newFloor()
	for i := 1; i < n; i++ {
		name := fmt.Sprintf("%s-%d", f.dom.Name, i)
		dom, err := f.lib.DomainDefineXML("<domain type='qemu'><name>" + name + "</name><memory unit='MiB'>16</memory><os><type arch='x86_64' machine='q35'>hvm</type></os></domain>")
		must(b, err)
		b.Cleanup(func() { must(b, f.lib.DomainUndefine(dom)) })
		s.config.Machines = append(s.config.Machines, MachineConfig{Name: name, Label: name})
	}
	b.Run("New", func(b *testing.B) {
		r := &race{b: b, ways: []way{{name: "new", do: func() {
			d, err := New(limit(b), s.config, machinery.Options{RuntimeDir: s.bench.RuntimeDir()})
			must(b, err)
			must(b, d.Close())
		}}, {name: "list", do: func() {
			all, _, err := f.lib.ConnectListAllDomains(1, 0)
			must(b, err)
			if len(all) < n {
				b.Fatalf("libvirt has %d domains", len(all))
			}
		}}}}
		for b.Loop() {
			r.run()
		}
		r.report(time.Millisecond, "ms")
	})
	b.Run("States", func(b *testing.B) {
		d := s.open()
		r := &race{b: b, ways: []way{{name: "states", do: func() {
			all, err := d.States(limit(b))
			must(b, err)
			if len(all) != n || all["a"].State != machinery.StatePoweroff {
				b.Fatalf("%d states; that of a is %s", len(all), all["a"])
			}
		}}, {name: "stats", do: func() {
			_, err := f.lib.ConnectGetAllDomainStats(nil, uint32(libvirt.DomainStatsState), 0)
			must(b, err)
		}}}}
		for b.Loop() {
			r.run()
		}
		r.report(time.Millisecond, "ms")
	})
}

// race is several ways to do the same, which are timed in turns. The first is the driver's.
type race struct {
	b       *testing.B
	ways    []way
	began   int    // which was the first last time
	between func() // what follows each of them, untimed; nil for nothing
}

type way struct {
	name string
	do   func()
	took []time.Duration
}

// run runs each once. Another one begins each time, so that none always finds the caches warm.
func (r *race) run() {
	r.began++
	for i := range r.ways {
		w := &r.ways[(i+r.began)%len(r.ways)]
		began := time.Now()
		w.do()
		w.took = append(w.took, time.Since(began))
		if r.between != nil {
			r.between()
		}
	}
}

// median is that of one way.
func (r *race) median(i int, unit time.Duration) float64 {
	took := r.ways[i].took
	slices.Sort(took)
	return float64(took[len(took)/2]) / float64(unit)
}

// report reports the medians and the shortest, and how the median of the first stands to the others'.
func (r *race) report(unit time.Duration, name string) {
	for i, w := range r.ways {
		r.b.ReportMetric(r.median(i, unit), w.name+"-"+name)
		r.b.ReportMetric(float64(slices.Min(w.took))/float64(unit), w.name+"-min-"+name)
		if i > 0 {
			r.b.ReportMetric(r.median(0, unit)/r.median(i, unit), r.ways[0].name+"/"+w.name)
		}
	}
	r.b.ReportMetric(0, "ns/op") // all together, which says nothing
}

// floor speaks to the site's libvirt with as little as possible around it.
type floor struct {
	t     testing.TB
	conf  MachineConfig
	lib   *libvirt.Libvirt
	dom   libvirt.Domain
	raw   net.Conn
	state []byte // the call for the state, for raw
}

// newFloor connects, for the first machine.
func (s *site) newFloor() *floor {
	f := &floor{t: s.t, conf: s.config.Machines[0], lib: libvirt.NewWithDialer(dialers.NewLocal(dialers.WithSocket(s.lab.Socket())))}
	must(s.t, f.lib.ConnectToURI(libvirt.ConnectURI(s.lab.URI())))
	s.t.Cleanup(func() { must(s.t, f.lib.Disconnect()) })
	var err error
	f.dom, err = f.lib.DomainLookupByName(f.conf.Label)
	must(s.t, err)
	f.raw, err = net.Dial("unix", s.lab.Socket())
	must(s.t, err)
	s.t.Cleanup(func() { f.raw.Close() })
	f.exchange(call(66, nil)) // the ways of authentication; there is none
	f.exchange(call(1, bytes.Join([][]byte{{0, 0, 0, 1}, text(s.lab.URI()), {0, 0, 0, 0}}, nil)))
	f.state = call(212, bytes.Join([][]byte{text(f.dom.Name), f.dom.UUID[:], {255, 255, 255, 255}, {0, 0, 0, 0}}, nil))
	return f
}

// call is a call as remote_protocol.x of libvirt has it: the length, the program and its version, the procedure, a call (0), its number, no status.
func call(procedure uint32, payload []byte) []byte {
	p := make([]byte, 0, 128)
	for _, n := range []uint32{uint32(28 + len(payload)), 0x20008086, 1, procedure, 0, 1, 0} {
		p = binary.BigEndian.AppendUint32(p, n)
	}
	return append(p, payload...)
}

func text(s string) []byte {
	t := binary.BigEndian.AppendUint32(nil, uint32(len(s)))
	t = append(t, s...)
	return append(t, make([]byte, (4-len(s)%4)%4)...)
}

// exchange sends a call and reads the answer, which has to be a good one.
func (f *floor) exchange(p []byte) {
	if _, err := f.raw.Write(p); err != nil {
		f.t.Fatal(err)
	}
	var answer [256]byte
	n, err := io.ReadAtLeast(f.raw, answer[:], 28)
	if err != nil {
		f.t.Fatal(err)
	}
	length := int(binary.BigEndian.Uint32(answer[:]))
	if n < length {
		_, err = io.ReadFull(f.raw, answer[n:length])
	}
	if status := binary.BigEndian.Uint32(answer[24:]); err != nil || status != 0 {
		f.t.Fatalf("the answer to %x has status %d: %v", p, status, err)
	}
}

func (f *floor) exchangeState() { f.exchange(f.state) }

func (f *floor) askState() {
	_, _, err := f.lib.DomainGetState(f.dom, 0)
	must(f.t, err)
}

func (f *floor) askQEMU() {
	_, _, err := f.lib.DomainGetDiskErrors(f.dom, 1, 0)
	must(f.t, err)
}

// revert is a function that reverts to the snapshot and sees that the machine stands as it should.
func (f *floor) revert(want libvirt.DomainState) func() {
	snap, err := f.lib.DomainSnapshotCurrent(f.dom, 0)
	must(f.t, err)
	return func() {
		must(f.t, f.lib.DomainRevertToSnapshot(snap, 0))
		f.mustBe(want)
	}
}

// restore is a function that restores the memory image, above overlays that before makes.
func (f *floor) restore(dir string) (before, restore func()) {
	definition, err := f.lib.DomainSaveImageGetXMLDesc(f.conf.Memory, uint32(libvirt.DomainXMLSecure))
	must(f.t, err)
	overlays := map[string]string{} // to what is below them
	definition, err = replaceDisks(definition, func(d diskXML) (string, bool) {
		path := filepath.Join(dir, d.Target.Dev+".overlay")
		overlays[path] = d.Source.File
		return path, true
	})
	must(f.t, err)
	f.t.Cleanup(func() {
		for path := range overlays {
			must(f.t, os.Remove(path))
		}
	})
	before = func() {
		for path, below := range overlays {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				f.t.Fatal(err)
			}
			base, err := qcow2.Inspect(below)
			must(f.t, err)
			must(f.t, qcow2.CreateOverlay(path, below, base.Format, base.VirtualSize))
		}
	}
	return before, func() {
		must(f.t, f.lib.DomainRestoreFlags(f.conf.Memory, libvirt.OptString{definition}, 0))
		f.mustBe(libvirt.DomainRunning)
	}
}

func (f *floor) mustBe(want libvirt.DomainState) {
	state, reason, err := f.lib.DomainGetState(f.dom, 0)
	if err != nil || libvirt.DomainState(state) != want {
		f.t.Fatalf("the machine is %s after libvirt's own restore, %v", inWords(state, reason), err)
	}
}
