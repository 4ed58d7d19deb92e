package monitor

import (
	"bufio"
	"context"
	"net"
	"slices"
	"testing"
	"time"
)

// BenchmarkQueryStatus measures a round trip of query-status to a real QEMU beside one of a client that writes fixed
// bytes and reads to the end of the line, turn by turn on two QEMUs alike. "ratio" is median by median; the
// rest is the Monitor's.
func BenchmarkQueryStatus(b *testing.B) {
	m := startQEMU(b).dial(b)
	fixed := fixedClient(b, startQEMU(b).path)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	ours, floor := make([]time.Duration, 0, b.N), make([]time.Duration, 0, b.N)
	b.ReportAllocs()
	timed := func(list *[]time.Duration, f func()) {
		begin := time.Now()
		f()
		*list = append(*list, time.Since(begin))
	}
	query := func() {
		var status struct {
			Status  string
			Running bool
		}
		if err := m.Execute(ctx, "query-status", nil, &status); err != nil {
			b.Fatal(err)
		}
	}
	for n := 0; b.Loop(); n++ {
		if n%2 == 0 { // neither always comes second, to find the caches warm
			timed(&ours, query)
			timed(&floor, fixed)
		} else {
			timed(&floor, fixed)
			timed(&ours, query)
		}
	}
	slices.Sort(ours)
	slices.Sort(floor)
	o, f := ours[len(ours)/2], floor[len(floor)/2]
	b.ReportMetric(float64(o.Microseconds()), "us/ours")
	b.ReportMetric(float64(f.Microseconds()), "us/fixed")
	b.ReportMetric(float64(o)/float64(f), "ratio")
}

// fixedClient is a function that asks for the status with as little as is possible.
func fixedClient(b *testing.B, path string) func() {
	conn, err := net.Dial("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	in := bufio.NewReader(conn)
	request := []byte(`{"execute":"query-status"}` + "\n")
	ask := func(line []byte) {
		if _, err := conn.Write(line); err != nil {
			b.Fatal(err)
		}
		if _, err := in.ReadSlice('\n'); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := in.ReadSlice('\n'); err != nil {
		b.Fatal(err)
	}
	ask([]byte(`{"execute":"qmp_capabilities"}` + "\n"))
	return func() { ask(request) }
}

// BenchmarkScripted measures the client alone, against a server that costs nearly nothing.
func BenchmarkScripted(b *testing.B) {
	m := connect(b, Options{}, func(s *server) {
		for n := uint64(2); s.in.Scan(); n++ {
			s.reply(request{ID: n}, `{"status": "prelaunch", "singlestep": false, "running": false}`)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		var status struct{ Status string }
		if err := m.Execute(ctx, "query-status", nil, &status); err != nil {
			b.Fatal(err)
		}
	}
}
