// Package reasons has the words that more than one driver gives as the reason of a machine's status, so that whoever reads them of one knows those of the
// other. They are part of what a driver promises: programs compare them.
package reasons

// Reasons of a machine's status, each with the states that it is given for.
const (
	Config       = "wrong configuration"     // error
	StartFailed  = "start failed"            // error, of a machine that is off
	Loading      = "loading the snapshot"    // starting
	Booting      = "booting"                 // starting
	Dump         = "memory dump"             // paused
	Saving       = "being saved"             // paused
	FromSnapshot = "from snapshot"           // paused
	Stranger     = "paused by someone else"  // error
	NoAnswer     = "monitor does not answer" // error
)
