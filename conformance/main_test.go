//go:build linux

package conformance_test

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"testing"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/libvirtlab"
	"github.com/machineries/machineries/conformance/qemulab"
	"github.com/machineries/machineries/conformance/report"
	fakeqemu "github.com/machineries/machineries/fakes/qemu"
)

func TestMain(m *testing.M) {
	fakeqemu.Main()
	libvirtlab.Main()
	os.Exit(m.Run())
}

// fakeLab is the lab on the fake emulator.
func fakeLab(t *testing.T) conformance.Lab {
	t.Helper()
	lab, err := qemulab.New(context.Background(), qemulab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return lab
}

// fakeLibvirtLab is the lab on the fake libvirtd.
func fakeLibvirtLab(t *testing.T) conformance.Lab {
	t.Helper()
	lab, err := libvirtlab.New(context.Background(), libvirtlab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return lab
}

// worker makes the process a worker where it was started as one; the test that
// calls it is run again in each worker.
func worker(t *testing.T, subjects ...conformance.Subject) {
	t.Helper()
	conformance.Worker(func(i int) (conformance.Subject, error) { return subjects[i], nil })
}

// run runs one of the subjects that worker was called with.
func run(t *testing.T, s conformance.Subject, index int) *report.Report {
	t.Helper()
	name := regexp.MustCompile(`^[^/]*`).FindString(t.Name())
	r := conformance.Runner{Subject: s, Index: index, Command: func() *exec.Cmd {
		cmd := exec.Command(os.Args[0], "-test.run=^"+name+"$", "-test.count=1", "-test.timeout=0")
		cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
		return cmd
	}}
	rep, err := r.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// results are a report's, by id.
func results(r *report.Report) map[string]report.Result {
	byID := make(map[string]report.Result)
	for _, result := range r.Results {
		byID[result.ID] = result
	}
	return byID
}
