package conformance

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/machineries/machineries/conformance/report"
)

// Runner runs the suite in worker processes. A driver that panics, hangs or
// ends the process costs one requirement, and no more.
type Runner struct {
	// Subject is what is tested.
	Subject Subject
	// Command makes the command of a worker: this program again, in such a
	// way that it calls [Worker] with the same subject. The environment and
	// the inherited files are added to it.
	Command func() *exec.Cmd
	// Index is the subject's index for [Worker].
	Index int
	// Progress, if not nil, is told of each result as it comes, one at a
	// time.
	Progress func(report.Result)
	// Begun, if not nil, is told of each requirement as it begins.
	Begun func(id string)
}

// Worker makes this process a worker if it was started as one, and then does
// not return. subjects are the same, in the same order, as in the process that
// runs the [Runner]; one is made when it is asked for.
func Worker(subject func(index int) (Subject, error)) {
	o, err := workerOrder()
	if o == nil && err == nil {
		return
	}
	if err == nil {
		var s Subject
		if s, err = subject(o.Subject); err == nil {
			work(&s, o)
			os.Exit(0)
		}
	}
	fmt.Fprintln(os.Stderr, "conformance worker:", err)
	os.Exit(2)
}

// Run runs the suite and returns its report. An error means that the suite
// could not be run at all; everything else is in the report.
func (r *Runner) Run(ctx context.Context) (*report.Report, error) {
	s := &r.Subject
	if err := s.check(); err != nil {
		return nil, err
	}
	s.Timing = s.Timing.withDefaults()
	dir, err := newRunDir()
	if err != nil {
		return nil, err
	}
	run := &running{Runner: r, dir: dir.path, results: make(map[string]report.Result), crashes: make(map[string]string)}
	began := time.Now()
	run.all(ctx)
	rep := run.report(ctx, began)
	if err := run.clear(dir); err != nil {
		return rep, fmt.Errorf("clearing up after the run: %w", err)
	}
	return rep, nil
}

// running is one run.
type running struct {
	*Runner
	dir string

	mu           sync.Mutex
	results      map[string]report.Result
	crashes      map[string]string // how the hypervisor crashed in a requirement that is run once more
	lab          *LabInfo
	capabilities []string
}

// all runs every selected requirement, spread over the workers.
func (r *running) all(ctx context.Context) {
	specs, left := r.Subject.selected()
	for id, reason := range left {
		r.add(ctx, outcome{ID: id, Outcome: report.Excluded, Reason: reason}, 0)
	}
	n := r.Subject.Parallel
	if n <= 0 {
		n = runtime.NumCPU()
	}
	n = min(n, len(specs))
	// Requirements of one area take about as long as each other, so dealing
	// them out in turn gives every worker about the same to do. A worker is
	// not given them piece by piece, because a new process has to make the
	// lab's snapshots anew.
	parts := make([][]string, n)
	for i, sp := range specs {
		parts[i%n] = append(parts[i%n], sp.ID)
	}
	var wg sync.WaitGroup
	for i, ids := range parts {
		wg.Go(func() {
			for part := 0; len(ids) > 0; part++ {
				ids = r.process(ctx, filepath.Join(r.dir, fmt.Sprintf("%d.%d", i, part)), ids)
			}
		})
	}
	wg.Wait()
}

// process runs one worker process and returns the requirements that it did not
// come to. It always makes progress: a process that dies before it begins a
// requirement takes the first one with it.
func (r *running) process(ctx context.Context, dir string, ids []string) (rest []string) {
	if ctx.Err() != nil {
		for _, id := range ids {
			r.add(ctx, outcome{ID: id, Outcome: report.NotRun, Reason: "the run was interrupted"}, 0)
		}
		return nil
	}
	p := &process{running: r, dir: dir, ids: ids, at: time.Now()}
	err := p.run(ctx)
	defer r.sweep(dir)
	rest = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return p.ended[id] })
	if len(rest) == 0 || p.retired {
		return rest
	}
	id := p.current
	if id == "" {
		id = rest[0]
	}
	o := outcome{ID: id, Outcome: report.Fail}
	switch {
	case ctx.Err() != nil:
		o.Outcome, o.Reason = report.NotRun, "the run was interrupted"
	case p.overdue:
		o.Message = fmt.Sprintf("the driver did not return within %v and the process had to be killed; what its goroutines did is below", r.Subject.Timing.Spec)
		o.Log = p.tail()
	case p.current == "":
		o.Outcome, o.Message = report.Broken, fmt.Sprintf("the worker process ended before it began: %v", err)
		o.Log = p.tail()
	default:
		o.Message = fmt.Sprintf("the driver ended the process that it ran in (%s)", ending(err))
		o.Log = p.tail()
	}
	r.add(ctx, o, time.Since(p.at).Seconds())
	return slices.DeleteFunc(rest, func(other string) bool { return other == id })
}

// ending says how a process ended.
func ending(err error) string {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "exit status 0, as os.Exit(0) would"
	case errors.As(err, &exit):
		return exit.String()
	}
	return err.Error()
}

// process is one worker process at work.
type process struct {
	*running
	dir     string
	ids     []string
	ended   map[string]bool
	current string
	at      time.Time
	overdue bool
	retired bool
	output  *tailBuffer
}

// grace is how long a worker may take beyond a requirement's own limit to say
// that it was exceeded.
func (p *process) grace() time.Duration {
	return p.Subject.Timing.Prompt + p.Subject.Timing.Stop + p.Subject.Timing.Clean
}

func (p *process) run(ctx context.Context) error {
	p.ended = make(map[string]bool)
	p.output = &tailBuffer{limit: 64 << 10}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	text, err := json.Marshal(order{Subject: p.Index, IDs: p.ids, Dir: p.dir, Timing: p.Subject.Timing})
	if err != nil {
		return err
	}
	eventsR, eventsW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer eventsR.Close()
	leashR, leashW, err := os.Pipe()
	if err != nil {
		eventsW.Close()
		return err
	}
	defer leashW.Close()
	cmd := p.Command()
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, workerEnv+"="+string(text))
	cmd.ExtraFiles = []*os.File{eventsW, leashR}
	cmd.Stdout, cmd.Stderr = p.output, p.output
	// A process that the driver left behind may hold our pipe open.
	cmd.WaitDelay = time.Second
	ownGroup(cmd)
	err = cmd.Start()
	eventsW.Close()
	leashR.Close()
	if err != nil {
		return err
	}
	events := make(chan event)
	go readEvents(eventsR, events)
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	return p.follow(ctx, cmd, events, exited)
}

// readEvents decodes a worker's events until its end.
func readEvents(from *os.File, to chan<- event) {
	defer close(to)
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) == nil {
			to <- e
		}
	}
}

// follow takes the events of a worker until its process has ended, and kills
// it when a requirement takes too long.
func (p *process) follow(ctx context.Context, cmd *exec.Cmd, events <-chan event, exited <-chan error) error {
	limit := p.Subject.Timing.Spec + p.grace()
	watchdog := time.NewTimer(limit)
	defer watchdog.Stop()
	var ended error
	waiting := true
	cancelled := ctx.Done()
	for waiting || events != nil {
		select {
		case e, open := <-events:
			if !open {
				events = nil
				continue
			}
			p.take(ctx, e)
			watchdog.Reset(limit)
		case ended = <-exited:
			waiting, exited = false, nil
			// What a leaked process holds of our pipe must not hold us up.
			if events != nil {
				events = drain(events, func(e event) { p.take(ctx, e) })
			}
		case <-watchdog.C:
			p.overdue = true
			p.dump(cmd, exited, &waiting, &ended)
		case <-cancelled:
			cancelled = nil
			_ = cmd.Process.Kill()
		}
	}
	return ended
}

// dump makes a stuck worker print its goroutines, then kills it.
func (p *process) dump(cmd *exec.Cmd, exited <-chan error, waiting *bool, ended *error) {
	quit(cmd)
	select {
	case *ended = <-exited:
		*waiting = false
	case <-time.After(5 * time.Second):
		_ = cmd.Process.Kill()
	}
}

// drain takes the events which a process that has ended left in the pipe.
func drain(events <-chan event, take func(event)) <-chan event {
	for {
		select {
		case e, open := <-events:
			if !open {
				return nil
			}
			take(e)
		case <-time.After(time.Second):
			return nil
		}
	}
}

// take handles one event.
func (p *process) take(ctx context.Context, e event) {
	switch e.Type {
	case "lab":
		p.mu.Lock()
		p.lab = e.Lab
		p.mu.Unlock()
	case "driver":
		p.mu.Lock()
		p.capabilities = e.Capabilities
		p.mu.Unlock()
	case "begin":
		p.current, p.at = e.ID, time.Now()
		if p.Begun != nil {
			p.mu.Lock()
			p.Begun(e.ID)
			p.mu.Unlock()
		}
	case "end":
		p.current = ""
		p.retired = e.Outcome.Stuck || e.Outcome.Crash != ""
		if p.again(e.Outcome) {
			return
		}
		p.ended[e.ID] = true
		p.add(ctx, *e.Outcome, e.Seconds)
	case "done":
		if e.Error != "" {
			for _, id := range p.ids {
				if !p.ended[id] {
					p.ended[id] = true
					p.add(ctx, outcome{ID: id, Outcome: report.Broken, Message: e.Error}, 0)
				}
			}
		}
	}
}

// again tells whether a requirement is to be run once more, because the hypervisor has crashed in it for the first time. Of one that was
// run once more the outcome gets to say so.
func (r *running) again(o *outcome) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, second := r.crashes[o.ID]
	switch {
	case o.Crash != "" && !second:
		r.crashes[o.ID] = o.Crash
		return true
	case o.Crash != "":
		o.Message = fmt.Sprintf("the hypervisor crashed in it twice: %s, and then %s; %s", before, o.Crash, o.Message)
	case second && o.Outcome == report.Pass:
		o.Reason = "it was run twice, because the hypervisor crashed the first time: " + before
	}
	return false
}

// tail is the last of what the worker printed.
func (p *process) tail() []string {
	text := strings.TrimSpace(p.output.String())
	if text == "" {
		return nil
	}
	lines := strings.Split(text, "\n")
	const most = 120
	if len(lines) > most {
		// A panic says what happened in its first lines.
		lines = slices.Concat(lines[:most/2], []string{"…"}, lines[len(lines)-most/2:])
	}
	return lines
}

// add notes a result.
func (r *running) add(_ context.Context, o outcome, seconds float64) {
	req, ok := Find(o.ID)
	if !ok {
		return
	}
	needs := make([]string, len(req.Needs))
	for i, n := range req.Needs {
		needs[i] = string(n)
	}
	result := report.Result{ID: req.ID, Level: string(req.Level), Operation: string(req.Op), Capability: string(req.Capability), Needs: needs,
		Rule: req.Rule, Outcome: o.Outcome, Reason: o.Reason, Message: o.Message, Seconds: seconds}
	if known, ok := r.Subject.Known[o.ID]; ok {
		switch o.Outcome {
		case report.Fail:
			result.Outcome, result.Reason = report.Known, known
		case report.Pass:
			result.Outcome = report.Fail
			result.Message = fmt.Sprintf("it passes, but is listed as a known failure (%s); take it off the list", known)
		}
	}
	if result.Outcome != report.Pass {
		result.Log = o.Log
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results[o.ID] = result
	if r.Progress != nil && result.Outcome != report.Excluded {
		r.Progress(result)
	}
}

// sweep ends what a worker's machines left running.
func (r *running) sweep(dir string) {
	if r.Subject.Lab == nil {
		_ = os.RemoveAll(dir)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.Subject.Timing.Clean)
	defer cancel()
	if err := r.Subject.Lab.Sweep(ctx, dir); err == nil {
		_ = os.RemoveAll(dir)
	}
}

// clear removes the run's directory. Nothing may be left in it.
func (r *running) clear(dir *runDir) error {
	entries, err := os.ReadDir(dir.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			return fmt.Errorf("%s is still there: processes of the run could not be ended; %q clears it", filepath.Join(dir.path, e.Name()), sweepCommand)
		}
	}
	return dir.remove()
}

// report puts the results together.
func (r *running) report(ctx context.Context, began time.Time) *report.Report {
	rep := &report.Report{
		SchemaVersion: report.Version,
		Driver:        report.Driver{Name: r.Subject.title(), Capabilities: []string{}},
		Lab:           report.Lab{Name: report.NoLab},
		Host:          host(),
		Started:       began.UTC().Truncate(time.Second),
		Seconds:       time.Since(began).Seconds(),
		Interrupted:   ctx.Err() != nil,
	}
	if r.capabilities != nil {
		rep.Driver.Capabilities = r.capabilities
	}
	if r.lab == nil && r.Subject.Lab != nil {
		// No worker came to say it: nothing was run.
		if info, err := r.Subject.Lab.Info(context.WithoutCancel(ctx)); err == nil {
			r.lab = &info
		}
	}
	if r.lab != nil {
		rep.Lab = report.Lab(*r.lab)
	}
	for _, req := range Requirements() {
		if result, ok := r.results[req.ID]; ok {
			rep.Results = append(rep.Results, result)
		}
	}
	rep.Judge(r.Subject.RequireAll)
	return rep
}

// tailBuffer keeps the beginning and the end of what is written to it.
type tailBuffer struct {
	mu         sync.Mutex
	limit      int
	head, tail []byte
}

func (b *tailBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(p)
	if room := b.limit/2 - len(b.head); room > 0 {
		k := min(room, len(p))
		b.head = append(b.head, p[:k]...)
		p = p[k:]
	}
	b.tail = append(b.tail, p...)
	if over := len(b.tail) - b.limit/2; over > 0 {
		b.tail = append(b.tail[:0], b.tail[over:]...)
	}
	return n, nil
}

func (b *tailBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.head) + string(b.tail)
}
