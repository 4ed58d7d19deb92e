//go:build linux

package process

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shell starts a script whose end the test sees to.
func shell(t *testing.T, script string, by *Starter) *Process {
	t.Helper()
	p, err := Spawn("/bin/sh", []string{"-c", script}, nil, by)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if !p.Wait(10 * time.Second) {
			t.Errorf("process %d does not end", p.PID)
		}
		p.Release()
	})
	return p
}

func TestHowAProgramEndedAndWhatItSaidIsKept(t *testing.T) {
	p := shell(t, "echo no such disk >&2; exit 3", nil)
	if !p.Wait(10 * time.Second) {
		t.Fatal("it does not end")
	}
	if !p.Ending.Known || p.Ending.Code != 3 || p.Ending.String() != "exit status 3" {
		t.Errorf("it ended with %v", p.Ending)
	}
	if said := p.Tail(); strings.TrimSpace(said) != "no such disk" {
		t.Errorf("it said %q", said)
	}
}

func TestAProgramIsFoundAgainByItsIDAndStartTimeAlone(t *testing.T) {
	p := shell(t, "sleep 60", nil)
	again, err := Attach(p.PID, p.Start)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Release()
	if other, err := Attach(p.PID, p.Start+1); err != os.ErrProcessDone {
		if err == nil {
			other.Release()
		}
		t.Errorf("one that was started at another time is found: %v", err)
	}
	p.Kill()
	if !again.Wait(10*time.Second) || !p.Wait(10*time.Second) {
		t.Fatal("it does not end")
	}
	// Both are of the process that started it, and only one of them can ask how it ended.
	if again.Ending.Known == p.Ending.Known || again.Ending.Signal+p.Ending.Signal != syscall.SIGKILL {
		t.Errorf("for who found it it ended with %v, for who started it with %v", again.Ending, p.Ending)
	}
	if _, err := Attach(p.PID, p.Start); err != os.ErrProcessDone {
		t.Errorf("one that has ended is found: %v", err)
	}
}

func TestAProgramEndsWithItsStarter(t *testing.T) {
	by := NewStarter()
	p := shell(t, "sleep 60", by)
	by.Stop()
	if !p.Wait(10*time.Second) || p.Ending.Signal != syscall.SIGKILL {
		t.Errorf("it ended with %v", p.Ending)
	}
}

func TestAnInterruptedProgramMayEndInGoodOrder(t *testing.T) {
	p := shell(t, `trap 'exit 0' INT; echo ready; while :; do sleep 0.01; done`, nil)
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(p.Tail(), "ready"); time.Sleep(2 * time.Millisecond) { // between two looks at what has no event
		if time.Now().After(deadline) {
			t.Fatalf("after 10 s it has said %q", p.Tail())
		}
	}
	p.Interrupt()
	if !p.Wait(10*time.Second) || !p.Ending.Known || p.Ending.Code != 0 || p.Ending.Signal != 0 {
		t.Errorf("it ended with %v", p.Ending)
	}
}
