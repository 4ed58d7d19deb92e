package rpc

import (
	"bytes"
	"errors"
	"io"
	"net"
	"reflect"
	"testing"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
)

// What go-libvirt would decode for every procedure has a shape here, or its answers could not be checked.
func TestEveryProcedureAndEventHasAShape(t *testing.T) {
	n := 0
	for _, table := range []map[uint32]*procedure{remoteProcedures, qemuProcedures, remoteEvents} {
		for _, p := range table {
			n++
			if p.result == nil {
				continue
			}
			if s := shapeOf(p.result); s.least == 0 && p.result.NumField() > 0 {
				t.Errorf("%s: an answer of no bytes", p.name)
			}
			if err := check(p.result, bytes.Repeat([]byte{0xff}, 61)); err == nil {
				t.Errorf("%s: 61 bytes of ones are taken for %v", p.name, p.result)
			}
		}
	}
	if n < 450 || lookup(remoteProgram, procDomainGetState).name != "DomainGetState" || lookup(remoteProgram, procEventLifecycle) != nil {
		t.Errorf("%d procedures; is the table whole?", n)
	}
	for name, want := range map[string]bool{"DomainGetState": true, "ConnectListAllDomains": true, "DomainLookupByName": true, "DomainSnapshotCurrent": true,
		"ConnectGetAllDomainStats": true, "DomainSnapshotLookupByName": true, "DomainDestroy": false, "DomainRevertToSnapshot": false, "DomainCreate": false,
		"DomainSnapshotCreateXML": false, "DomainCoreDumpWithFormat": false, "QEMUDomainMonitorCommand": false, "DomainScreenshot": false} {
		if got := (&procedure{name: name}).readOnly(); got != want {
			t.Errorf("%s changes nothing: %v", name, got)
		}
	}
}

func TestATypedParameterOfEveryTypeIsLetThrough(t *testing.T) {
	var b []byte
	b = append(b, number(1)...) // one record
	b = append(appendText(b, "a"), make([]byte, 16)...)
	b = append(b, number(0xffffffff, 7)...)
	for kind, size := range map[uint32]int{1: 4, 2: 4, 3: 8, 4: 8, 5: 8, 6: 4, 7: 4} {
		b = append(appendText(b, "state.state"), number(kind)...)
		b = append(b, make([]byte, size)...)
	}
	if err := check(reflect.TypeFor[libvirt.ConnectGetAllDomainStatsRet](), b); err != nil {
		t.Error(err)
	}
	if err := check(reflect.TypeFor[libvirt.ConnectGetAllDomainStatsRet](), append(number(1), number(0, 0, 0, 0, 0, 0, 1, 0, 8, 0)...)); err == nil {
		t.Error("a typed parameter of type 8 is let through")
	}
}

// FuzzGuard lets a daemon send anything at all in answer to a call. Whatever it is, the call ends, and where it ends well the
// bytes were an answer to it.
func FuzzGuard(f *testing.F) {
	answer := func(change func(*packet)) []byte {
		p := &packet{program: remoteProgram, version: 1, procedure: procDomainGetState, kind: typeReply, serial: 1, payload: number(1, 5)}
		change(p)
		return p.bytes()
	}
	f.Add(answer(func(*packet) {}))
	f.Add(append(answer(func(*packet) {}), answer(func(*packet) {})...))
	f.Add([]byte{0, 0, 0, 4, 0, 0, 0, 0})
	f.Add(answer(func(p *packet) { p.kind, p.procedure, p.payload = typeEvent, procEventLifecycle, number(1, 0x7fffffff) }))
	f.Add(answer(func(p *packet) {
		p.status = statusError
		p.payload = append(appendText(number(42, 10, 1), "Domain not found"), number(2, 0, 0, 0, 0, 0, 0, 0)...)
	}))
	f.Add(answer(func(p *packet) { p.program, p.kind, p.procedure, p.payload = keepaliveProgram, typeEvent, 1, nil }))
	f.Add(answer(func(p *packet) { p.kind = typeStream }))
	f.Fuzz(func(t *testing.T, sent []byte) {
		ours, theirs := net.Pipe()
		c := newConn(ours, nil, nil)
		l, err := newLane(c)
		if err != nil {
			t.Fatal(err)
		}
		u := l.begin()
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer theirs.Close()
			if _, err := readPacket(theirs); err != nil {
				return
			}
			go io.Copy(io.Discard, theirs)
			theirs.Write(sent)
		}()
		state, reason, err := l.lib.DomainGetState(libvirt.Domain{Name: "a"}, 0)
		<-done
		<-c.reader
		<-l.lib.Disconnected()
		if err == nil && !bytes.Contains(sent, number(uint32(state), uint32(reason))) {
			t.Errorf("state %d, reason %d: nobody said so", state, reason)
		}
		var refused libvirt.Error
		if errors.As(err, &refused) && u.failure == nil {
			t.Errorf("an error of libvirt's that it did not send: %v", err)
		}
		if c.cause() == nil {
			t.Error("the connection has no end")
		}
	})
}

// FuzzShape holds that what the guard lets through, the library's decoder takes without allocating for more than is there.
func FuzzShape(f *testing.F) {
	f.Add(uint32(procDomainGetState), number(1, 5))
	f.Add(uint32(344), number(0))
	f.Add(uint32(273), number(0x7fffffff, 1))
	f.Fuzz(func(t *testing.T, number uint32, payload []byte) {
		p := lookup(remoteProgram, number)
		if p == nil || len(payload) > 1<<16 {
			return
		}
		began := time.Now()
		_ = check(p.result, payload)
		_, _ = parseError(payload)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: %d bytes were looked at for %v", p.name, len(payload), took)
		}
	})
}
