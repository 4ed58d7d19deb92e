//go:build linux

package qemu_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/qemulab"
	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
)

// kept is a log that may be written by many.
type kept struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (k *kept) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.text.Write(p)
}

func (k *kept) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.text.String()
}

// secret is among the machine's arguments.
const secret = "hunter2"

// everyOperation opens a machine on the fake QEMU with a logger and does everything with it that is logged, each once.
func everyOperation(t *testing.T, logger *slog.Logger) (done []machinery.Op) {
	t.Helper()
	lab, err := qemulab.New(t.Context(), qemulab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Close()
	dir, err := os.MkdirTemp("/tmp", "m")
	if err != nil {
		t.Fatal(err)
	}
	b, err := lab.NewBench(t.Context(), dir, []conformance.MachineSpec{{Name: "win10", SavedPaused: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(context.Background())
	files := b.Saved("win10").Files
	info, err := os.ReadFile(files["machineinfo"])
	if err != nil {
		t.Fatal(err)
	}
	info = bytes.Replace(info, []byte(`"start_args":[`), []byte(`"start_args":["-name","`+secret+`",`), 1)
	if !bytes.Contains(info, []byte(secret)) {
		t.Fatal("the machine has no secret argument")
	}
	if err := os.WriteFile(files["machineinfo"], info, 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := qemu.New(t.Context(), qemu.Config{QEMU: files["program"], QEMUImg: filepath.Join(filepath.Dir(files["program"]), "qemu-img"),
		Machines: []qemu.MachineConfig{{Name: "win10", Disk: files["disk"], Snapshot: files["snapshot"], Info: files["machineinfo"]}},
	}, machinery.Options{Logger: logger, RuntimeDir: b.RuntimeDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out := t.TempDir()
	for _, step := range []struct {
		op machinery.Op
		do func() error
	}{
		{machinery.OpRestoreStart, func() error { return m.RestoreStart(ctx, "win10") }},
		{machinery.OpHandlePaused, func() error { return m.HandlePaused(ctx, "win10") }},
		{machinery.OpScreenshot, func() error { _, err := m.Screenshot(ctx, "win10"); return err }},
		{machinery.OpDumpMemory, func() error { return m.DumpMemory(ctx, "win10", filepath.Join(out, "dump")) }},
		{machinery.OpStop, func() error { return m.Stop(ctx, "win10") }},
		{machinery.OpNoRestoreStart, func() error { return m.NoRestoreStart(ctx, "win10") }},
		{qemu.OpSaveSnapshot, func() error {
			_, err := m.SaveSnapshot(ctx, "win10", qemu.SaveOptions{Dir: filepath.Join(out, "new")})
			return err
		}},
		{machinery.OpNoRestoreStart, func() error { return m.NoRestoreStart(ctx, "win10") }},
		{machinery.OpACPIStop, func() error { return m.ACPIStop(ctx, "win10") }},
		{machinery.OpStop, func() error { _ = m.Stop(ctx, "win10"); return nil }}, // the guest may have been quicker
		{machinery.OpRestoreStart, func() error { return m.RestoreStart(ctx, "win10") }},
		{machinery.OpShutdown, func() error { return m.Shutdown(ctx) }},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.op, err)
		}
		done = append(done, step.op)
	}
	return done
}

func TestEveryOperationIsLoggedWithItsMachineAndDurationAndNothingSensitive(t *testing.T) {
	var log kept
	want := everyOperation(t, slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	var got []machinery.Op
	for line := range strings.Lines(log.String()) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line, secret) {
			t.Errorf("an argument is logged: %s", line)
		}
		for key := range record {
			if !slices.Contains(strings.Fields("time level msg machine operation duration waited error pid reason owner from trial completed total"), key) {
				t.Errorf("the key %q is new; is it never sensitive? %s", key, line)
			}
		}
		if record["machine"] != "win10" {
			t.Errorf("the record has not the machine: %s", line)
		}
		if op, is := record["operation"].(string); is && record["trial"] == nil {
			got = append(got, machinery.Op(op))
			if took, is := record["duration"].(float64); !is || took <= 0 {
				t.Errorf("the record has no duration: %s", line)
			}
			if level := record["level"]; level != "INFO" {
				t.Errorf("an operation is logged as %v: %s", level, line)
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("these operations are logged:\n%q\nwant\n%q\n%s", got, want, log.String())
	}
}

func TestWithoutALoggerNothingIsPrinted(t *testing.T) {
	var log kept
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	printed, err := os.Create(filepath.Join(t.TempDir(), "printed"))
	if err != nil {
		t.Fatal(err)
	}
	defer printed.Close()
	stdout, stderr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = printed, printed
	defer func() { os.Stdout, os.Stderr = stdout, stderr }()
	everyOperation(t, nil)
	os.Stdout, os.Stderr = stdout, stderr
	text, err := os.ReadFile(printed.Name())
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 0 || log.String() != "" {
		t.Errorf("it printed %q, and logged %q", text, log.String())
	}
}
