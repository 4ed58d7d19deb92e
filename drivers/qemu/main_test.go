//go:build linux

package qemu

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	fakeqemu "github.com/machineries/machineries/fakes/qemu"
	"github.com/machineries/machineries/machinery"
	"go.uber.org/goleak"
)

// childEnv makes the test binary another process with a driver: its value is the site's directory and what to do there.
const childEnv = "MACHINERIES_TEST_CHILD"

func TestMain(m *testing.M) {
	fakeqemu.Main() // some tests run the fake emulator, which is this program again
	if task := os.Getenv(childEnv); task != "" {
		child(task)
		return
	}
	goleak.VerifyTestMain(m)
}

// child opens the site's machines, does what it is told, says so, and waits to be killed.
func child(task string) {
	dir, what, _ := strings.Cut(task, "|")
	s := &site{dir: dir, runtime: dir + "/run", config: readSite(dir)}
	m, err := New(context.Background(), s.config, machinery.Options{RuntimeDir: s.runtime, EndMachines: what == "restore and end"})
	if err == nil {
		switch what {
		case "restore", "restore and end":
			err = m.RestoreStart(context.Background(), "vm")
		case "record":
			if err = m.StartCapture(context.Background(), "vm", machinery.Capture{Path: dir + "/x.pcap"}); err == nil {
				go m.RestoreStart(context.Background(), "vm")
			}
		case "dump":
			if err = m.NoRestoreStart(context.Background(), "vm"); err == nil {
				go m.DumpMemoryFormat(context.Background(), "vm", dir+"/dumps/dump", "kdump-zlib")
				err = untilDumping(m)
			}
		case "start for ever":
			go m.RestoreStart(context.Background(), "vm")
		}
	}
	fmt.Println("done:", err)
	select {}
}
