// Package machinery is the contract between a malware sandbox and the drivers
// of its virtual machines: what a machinery driver must do, as a Go interface.
//
// A sandbox restores a machine to its snapshot, lets a sample run in it, stops
// it, and starts over. A driver does that for one kind of hypervisor.
// [Machinery] has what every driver must do; the optional operations have an
// interface of their own each ([MemoryDumper], [Watcher], …) and a package
// function that returns an error matching [ErrUnsupported] where a driver does
// not have them. A program finds drivers by name ([Open]) or makes one by the
// driver's own constructor.
//
// # What a driver author writes
//
// The methods of [Machinery], those optional ones that the hypervisor can
// do, and a [Driver] with the schema and the template of the configuration
// file. The example of this package is a complete small driver. The
// conformance suite of this module shows, requirement by requirement, whether
// a driver keeps what follows.
//
// # States
//
// A machine is in one of seven states. These are the steps it may take; an
// observer that polls may miss some of them.
//
//	from       to         because
//	poweroff   starting   a start begins
//	starting   running    the snapshot was saved running
//	starting   paused     the snapshot was saved paused
//	starting   stopping   Stop cancels the start
//	starting   poweroff   Stop cancelled the start
//	starting   error      the start failed
//	running    paused     the driver dumps the memory
//	running    stopping   the machine is being stopped, or its power button was pressed
//	running    poweroff   the guest switched itself off
//	running    suspended  the guest went to sleep
//	running    error      the guest or the hypervisor broke down, or someone else paused the machine
//	paused     running    HandlePaused, or the end of a memory dump
//	paused     stopping   the machine is being stopped
//	paused     poweroff   the hypervisor ended
//	paused     error      the hypervisor broke down
//	suspended  running    the guest woke up
//	suspended  stopping   the machine is being stopped
//	suspended  poweroff   the hypervisor ended
//	suspended  error      the hypervisor broke down
//	stopping   poweroff   the machine is off
//	stopping   running    the guest ignored the power button
//	stopping   paused     the driver dumps the memory of a guest that ignores the power button
//	stopping   suspended  the guest took the power button for sleep
//	stopping   error      the machine could not be stopped
//	error      stopping   the machine is being stopped
//	error      poweroff   Stop, or the hypervisor ended
//	error      starting   a start after a failed start
//	error      running    what was wrong is over
//	error      paused     what was wrong is over
//
// # What each operation promises
//
// RestoreStart means restore: memory and every writable medium are the
// snapshot's, and nothing of the previous run can be seen. In any state but
// poweroff it fails with [ErrUnexpectedState] and touches nothing. A machine
// in the error state whose start failed is off, and may be started again. One
// whose configuration is wrong stays in the error state for as long as the
// driver is open, and to start it is [ErrConfig]. RestoreStart returns when
// the machine is settled: running, or paused if the snapshot was saved paused;
// it never resumes by itself. A driver may return earlier; what fails later
// must then be readable from State. [Start] is the helper that restores, waits
// and resumes. A snapshot that was asked for by name is never replaced by
// another: if it is missing, the machine is in the error state from opening
// on.
//
// A failed start leaves nothing but its reason: no process, socket, overlay or
// capture. The error carries the hypervisor's own words. The machine is then
// in the error state, with that reason, until Stop or the next start.
//
// Stop is synchronous: nil means off. It works from every state, known or not,
// paused, starting, with a hung monitor or a dead connection. It never asks
// the guest. It cancels an operation that is running on the machine. Once it
// has begun, a context that ends makes it kill at once instead of giving up.
// Where even that is impossible it returns an error in bounded time and never
// says poweroff. A machine that goes off by itself meanwhile is a success. On
// a machine that is off it returns [ErrStateReached]; on one whose start
// failed it clears the error and returns nil.
//
// State takes no lock that an operation holds, changes nothing, is bounded in
// time, and tells the truth or returns an error. A hypervisor that does not
// answer though its process lives, an I/O error, a guest panic, a watchdog and
// a pause by someone else are the error state, with the reason, and are never
// resumed. What the driver does itself is never reported as an error. A guest
// that switched itself off is poweroff.
//
// HandlePaused resumes a machine that RestoreStart left paused, and no other.
//
// DumpMemory writes the whole file or none, and leaves the run state as it
// was. Watch sends the present status first and then changes; it may merge
// them, but the latest always arrives.
//
// # Functions of several operations
//
// [Start] restores a machine and sees to it that it runs; [StopGently] presses
// its power button and falls back on Stop; [WaitState] waits for a state, and
// [WaitReady] for the agent in its guest. They work with every driver.
//
// # Concurrency and contexts
//
// The same machine runs one operation at a time; others wait their turn for as
// long as their context lets them. Stop does not wait: it ends the operation
// that has the turn and goes before those in line, which go on after it; whoever
// wants a machine to stay off cancels them too. Different machines never wait for
// each other. State and Machines wait for nothing. A context that has ended on
// entry does nothing at all. What has to be cleared up is cleared up, in
// bounded time, whatever became of the caller's context.
//
// # Ownership
//
// Shutdown stops the machines that the driver holds. Close lets them run on;
// whoever opens the same configuration next takes them over. While a driver
// holds a machine, another one that tries to change it fails with [ErrBusy],
// naming the holder; reading is free. Nothing is ever left unaccounted for.
//
// # Errors
//
// Every error is a [*Error] of exactly one kind ([Kinds]), except for those of
// Shutdown, which joins one for each machine that failed. Its cause may match
// other errors as well: EOPNOTSUPP from a system call matches
// [errors.ErrUnsupported], though the operation exists. [KindOf] tells the
// kind and nothing else.
package machinery
