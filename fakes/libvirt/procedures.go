package libvirt

import (
	"fmt"
	"slices"
)

// procedure is one that the fake answers.
type procedure struct {
	// Name is libvirt's, without REMOTE_PROC_, such as "DomainGetState".
	Name    string
	program uint32
	number  int32
	early   bool // may be called before the connection is open
	decode  func([]byte) (any, error)
	run     func(*call, any) (any, error)
	nothing func() any // a return value without content
}

// none is what a procedure without arguments takes, and one without a value
// returns.
type none struct{}

// remote makes the entry of a procedure of the remote program.
func remote[A, R any](number int32, name string, run func(*call, *A) (R, error)) procedure {
	return procedure{
		Name: name, program: programRemote, number: number,
		decode: func(b []byte) (any, error) {
			var a A
			return &a, decodeXDR(b, &a)
		},
		run:     func(c *call, a any) (any, error) { return run(c, a.(*A)) },
		nothing: func() any { var r R; return r },
	}
}

// early marks a procedure as one that may be called before the connection is open.
func early(p procedure) procedure {
	p.early = true
	return p
}

// qemuOnly marks a procedure as one of the QEMU program.
func qemuOnly(p procedure) procedure {
	p.program = programQEMU
	return p
}

// procedures is every procedure of the fake, by what it is about.
var procedures []procedure

func init() {
	procedures = slices.Concat(connectProcedures, domainProcedures, powerProcedures, snapshotProcedures, saveProcedures, jobProcedures, dumpProcedures, watchProcedures, lookProcedures)
}

// Procedures are the names of the procedures that the fake answers; any other
// gets libvirt's answer to a procedure that it does not know.
func Procedures() []string {
	var names []string
	for _, p := range procedures {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	return names
}

func findProcedure(program uint32, number int32) *procedure {
	for i := range procedures {
		if p := &procedures[i]; p.number == number && p.program == program {
			return p
		}
	}
	return nil
}

func unknownName(p packet) string {
	if p.Program == programQEMU {
		return fmt.Sprintf("QEMU%d", p.Procedure)
	}
	return fmt.Sprint(p.Procedure)
}
