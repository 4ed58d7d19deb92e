//go:build linux

package ordeal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// childEnv makes the test binary a program with drivers, which works until it is killed. Its value is a task.
const childEnv = "MACHINERY_ORDEAL_TASK"

// wrongMark is what a line of the program begins with that tells of something wrong.
const wrongMark = "wrong: "

// child works at every machine of a configuration, with a driver for each, and never ends.
func child(text string) {
	var t task
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		panic(err)
	}
	os.Unsetenv(childEnv) // for the emulators, which are this program again
	doc, err := config.Load(t.Config, qemu.Schema())
	if err != nil {
		panic(err)
	}
	c := qemu.FromDocument(doc)
	fmt.Println("begins")
	for i, m := range c.Machines {
		w := &worker{task: t, config: c, name: m.Name, random: rand.New(rand.NewPCG(t.Seed, uint64(i)))}
		go w.work()
	}
	select {}
}

// recorded is the machine that has a network.
const recorded = "a"

// savedSuffix is what the directory of a saved machine ends with.
const savedSuffix = ".saved"

// worker works at one machine.
type worker struct {
	task
	config qemu.Config
	name   string
	random *rand.Rand
	m      *qemu.Machinery
	dumps  int
}

// operations are all that a driver can do to a machine. A start has several places, or the machine would be off most of the time.
var operations = []struct {
	name string
	do   func(w *worker, ctx context.Context) error
}{
	{"restore", func(w *worker, ctx context.Context) error { return w.m.RestoreStart(ctx, w.name) }},
	{"restore", func(w *worker, ctx context.Context) error { return w.m.RestoreStart(ctx, w.name) }},
	{"start", func(w *worker, ctx context.Context) error { return machinery.Start(ctx, w.m, w.name) }},
	{"boot", func(w *worker, ctx context.Context) error { return w.m.NoRestoreStart(ctx, w.name) }},
	{"resume", func(w *worker, ctx context.Context) error { return w.m.HandlePaused(ctx, w.name) }},
	{"dump", (*worker).dump},
	{"dump", (*worker).dump},
	{"screenshot", func(w *worker, ctx context.Context) error { _, err := w.m.Screenshot(ctx, w.name); return err }},
	{"power button", func(w *worker, ctx context.Context) error { return w.m.ACPIStop(ctx, w.name) }},
	{"watch", (*worker).watch},
	{"state", func(w *worker, ctx context.Context) error { _, err := w.m.State(ctx, w.name); return err }},
	{"version", func(w *worker, ctx context.Context) error { _, err := w.m.Version(ctx); return err }},
	{"stop", func(w *worker, ctx context.Context) error { return w.m.Stop(ctx, w.name) }},
	{"stop", func(w *worker, ctx context.Context) error { return w.m.Stop(ctx, w.name) }},
	{"record", (*worker).record},
	{"record", (*worker).record},
	{"end recording", func(w *worker, ctx context.Context) error { return w.m.StopCapture(ctx, w.name) }},
	{"save", (*worker).save},
	{"save", (*worker).save},
	{"open again", (*worker).openAgain},
	{"interrupted start", (*worker).interrupted},
}

func (w *worker) work() {
	if err := w.openAgain(context.Background()); err != nil {
		panic(err)
	}
	for {
		op := operations[w.random.IntN(len(operations))]
		err := op.do(w, context.Background())
		switch machinery.KindOf(err) {
		case nil, machinery.ErrStateReached, machinery.ErrUnexpectedState, machinery.ErrInterrupted:
			fmt.Printf("%s %s: %v\n", w.name, op.name, err)
		case machinery.ErrHypervisor, machinery.ErrConnection, machinery.ErrCapture:
			// A guest whose power button was pressed may switch itself off in the middle of any operation.
			fmt.Printf("%s %s: %v\n", w.name, op.name, err)
		default:
			fmt.Printf("%s%s %s: %v\n", wrongMark, w.name, op.name, err)
		}
	}
}

// openAgain lets go of the machine, which may run on, and finds it again.
func (w *worker) openAgain(ctx context.Context) (err error) {
	if w.m != nil {
		if err := w.m.Close(); err != nil {
			return err
		}
	}
	w.m, err = qemu.New(ctx, w.config, machinery.Options{RuntimeDir: w.Runtime})
	return err
}

func (w *worker) dump(ctx context.Context) error {
	w.dumps++
	return w.m.DumpMemory(ctx, w.name, filepath.Join(w.Out, fmt.Sprintf("%s-%d-%d", w.name, w.Seed, w.dumps)))
}

// save makes a new machine of this one, which is off then.
func (w *worker) save(ctx context.Context) error {
	w.dumps++
	o := qemu.SaveOptions{Dir: filepath.Join(w.Out, fmt.Sprintf("%s-%d-%d%s", w.name, w.Seed, w.dumps, savedSuffix)), Paused: w.random.IntN(2) == 0}
	if w.random.IntN(2) == 0 {
		o.Compress = "zstd"
	}
	_, err := w.m.SaveSnapshot(ctx, w.name, o)
	return err
}

// record records the traffic of the present run, or of the next. Only one of the machines has a network.
func (w *worker) record(ctx context.Context) error {
	if w.name != recorded {
		return nil
	}
	w.dumps++
	return w.m.StartCapture(ctx, w.name, machinery.Capture{Path: filepath.Join(w.Out, fmt.Sprintf("%s-%d-%d.pcap", w.name, w.Seed, w.dumps))})
}

// watch watches the machine for as long as the next two changes take, or a moment.
func (w *worker) watch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	events, err := w.m.Watch(ctx, w.name)
	if err != nil {
		return err
	}
	for range events {
	}
	return nil
}

// interrupted starts the machine with a context that ends at a random moment.
func (w *worker) interrupted(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(w.random.Int64N(int64(60*time.Millisecond))))
	defer cancel()
	err := w.m.RestoreStart(ctx, w.name)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}
