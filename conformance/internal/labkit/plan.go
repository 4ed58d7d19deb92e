//go:build linux

package labkit

import (
	"github.com/machineries/machineries/conformance"
	fakeqemu "github.com/machineries/machineries/fakes/qemu"
)

// plans says how each fault that strikes at a start is made. The command that
// the faults on the monitor need to be seen is the fake emulator's, or the
// interposer's before a real one.
var plans = map[conformance.FaultKind]func(f conformance.Fault) fakeqemu.Fault{
	conformance.FaultSlowStart: func(f conformance.Fault) fakeqemu.Fault {
		return fakeqemu.Fault{Point: fakeqemu.PointStart, Action: fakeqemu.Delay, Delay: f.Delay}
	},
	conformance.FaultRefuseStart: func(f conformance.Fault) fakeqemu.Fault {
		return fakeqemu.Fault{Point: fakeqemu.PointStart, Action: fakeqemu.Exit, Code: 1, Text: "qemu-system-x86_64: " + f.Text + "\n"}
	},
	conformance.FaultNeverReady: func(conformance.Fault) fakeqemu.Fault {
		return fakeqemu.Fault{Point: fakeqemu.PointStart, Action: fakeqemu.Hang}
	},
	conformance.FaultNoise: func(conformance.Fault) fakeqemu.Fault {
		return fakeqemu.Fault{Point: fakeqemu.PointStart, Action: fakeqemu.Noise, Bytes: 1 << 20}
	},
	conformance.FaultRefuseResume: func(f conformance.Fault) fakeqemu.Fault {
		return fakeqemu.Fault{Point: fakeqemu.PointCommand, Command: "cont", Action: fakeqemu.Refuse, Text: f.Text}
	},
	conformance.FaultRefuseQuit: func(conformance.Fault) fakeqemu.Fault {
		return fakeqemu.Fault{Point: fakeqemu.PointExit, Action: fakeqemu.Stay, Deaf: true}
	},
	conformance.FaultRefuseDump: func(f conformance.Fault) fakeqemu.Fault {
		return fakeqemu.Fault{Point: fakeqemu.PointCommand, Command: "dump-guest-memory", Action: fakeqemu.Refuse, Text: f.Text}
	},
	conformance.FaultSlowDump: func(f conformance.Fault) fakeqemu.Fault {
		return fakeqemu.Fault{Point: fakeqemu.PointCommand, Command: "dump-guest-memory", Action: fakeqemu.Delay, Delay: f.Delay}
	},
	// Someone who pauses the machine needs a way in: the interposer stays if
	// any fault on the wire is planned, and this one does nothing.
	conformance.FaultStrangerPause: func(conformance.Fault) fakeqemu.Fault {
		return fakeqemu.Fault{Point: fakeqemu.PointReply, Command: "query-machines", Action: fakeqemu.Delay}
	},
}

// Planned translates the faults of a machine's spec that strike at its starts.
func Planned(faults []conformance.Fault) []fakeqemu.Fault {
	var all []fakeqemu.Fault
	for _, f := range faults {
		if plan := plans[f.Kind]; plan != nil {
			all = append(all, plan(f))
		}
	}
	return all
}
