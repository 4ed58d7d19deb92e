// Package conformance is the suite that shows, requirement by requirement,
// whether a machinery driver keeps the contract of package machinery.
//
// # Three ways in
//
// In a Go test, three lines:
//
//	func TestConformance(t *testing.T) {
//		conformance.Run(t, conformance.Subject{Driver: mydriver.Driver(), Lab: lab})
//	}
//
// In an existing Ginkgo tree, [Register]. On the command line,
//
//	machinery conformance run --driver qemu --lab fake
//
// # What it is made of
//
// A [Requirement] is a rule with an id, as data; [Requirements] has them all. A
// [Lab] is the suite's own view of the hypervisor under the driver: it makes
// machines, tells the truth about them without asking the driver, makes things
// go wrong, and accounts for what is left. Package qemulab has the labs for
// drivers that run QEMU, on a fake emulator and on a real one.
//
// [Run] and [Runner] execute requirements in worker processes, so a driver that
// panics in a goroutine, hangs or calls os.Exit costs one requirement, and the
// report is whole.
//
// # Outcomes
//
// A requirement passes or fails; it is a known failure if the author said so
// beforehand, unsupported if it is about an optional operation that the driver
// does not have, not applicable if the hypervisor has no such thing, excluded if
// the user left it out, not run if the lab cannot test it, and an error if the
// suite itself failed. Only a pass is a pass, and
// the verdict counts each: "qemu: conformant on fake-qemu: 70 passed, 3 not
// run". A run in which nothing was run has no verdict.
//
// # What it cannot see
//
// It sees what a driver does in the situations that it makes, at the times at
// which it looks. That something does not happen is watched for a moment only
// ([Timing], Quiet). It does not look into the guest beyond marks in sixteen
// places of memory and disk, does not watch what a driver does to machines that
// are not the lab's, and judges speed only by limits that are far too wide for
// any benchmark. When it is in doubt, it does not fail the driver.
package conformance
