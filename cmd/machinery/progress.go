package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/machineries/machineries/conformance/report"
)

// progress prints results as they come and, on a terminal, a line below them
// that says what runs now.
type progress struct {
	printer *report.Printer
	term    terminal

	mu      sync.Mutex
	done    int
	running []runningSpec
	stop    chan struct{}
	stopped sync.WaitGroup
}

// runningSpec is a requirement that is being tested.
type runningSpec struct {
	id    string
	since time.Time
}

func newProgress(printer *report.Printer, term terminal) *progress {
	p := &progress{printer: printer, term: term, stop: make(chan struct{})}
	if term.live {
		p.stopped.Go(p.tick)
	}
	return p
}

// tick keeps the seconds of the live line going.
func (p *progress) tick() {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.mu.Lock()
			p.draw()
			p.mu.Unlock()
		case <-p.stop:
			return
		}
	}
}

// begun notes that a requirement is being tested now.
func (p *progress) begun(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = append(p.running, runningSpec{id, time.Now()})
	p.draw()
}

// result prints a result.
func (p *progress) result(r report.Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	p.running = slices.DeleteFunc(p.running, func(s runningSpec) bool { return s.id == r.ID })
	p.erase()
	p.printer.Result(r)
	p.draw()
}

// close takes the live line away.
func (p *progress) close() {
	close(p.stop)
	p.stopped.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
}

// erase removes the live line; the cursor stays at its beginning.
func (p *progress) erase() {
	if p.term.live {
		fmt.Fprint(p.printer.Out, "\r\x1b[K")
	}
}

// draw writes the live line anew. It ends before the terminal's last column:
// a terminal that wraps there could not be erased again.
func (p *progress) draw() {
	if !p.term.live {
		return
	}
	line := fmt.Sprintf("%d done", p.done)
	for i, s := range p.running {
		line += fmt.Sprintf("%s %s %.0fs", []string{";", ","}[min(i, 1)], s.id, time.Since(s.since).Seconds())
	}
	if most := p.term.width - 1; len(line) > most {
		line = line[:max(most-3, 0)] + strings.Repeat(".", min(3, most))
	}
	p.erase()
	fmt.Fprint(p.printer.Out, line)
}
