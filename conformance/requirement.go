package conformance

import (
	"github.com/machineries/machineries/machinery"
)

// Level says how binding a requirement is, in the words of RFC 2119.
type Level string

// The levels. Only a MUST that is not kept makes a driver not conformant.
const (
	Must   Level = "MUST"
	Should Level = "SHOULD"
	May    Level = "MAY"
)

// Requirement is one rule that a driver keeps or breaks. It is data: specs,
// labels, documentation and the commands that list and explain come from it.
type Requirement struct {
	// ID is the requirement's name for good, such as "MM-RESTORE-003".
	ID string `json:"id"`
	// Level is how binding it is.
	Level Level `json:"level"`
	// Op is the operation it is about.
	Op machinery.Op `json:"operation"`
	// Capability is the optional operation that a driver must have for the
	// requirement to apply; empty for what every driver must do.
	Capability machinery.Capability `json:"capability,omitempty"`
	// Needs are the features that the lab must offer to test it.
	Needs []Feature `json:"needs,omitempty"`
	// Rule is the rule in one sentence.
	Rule string `json:"rule"`
	// Why says what happens to a sandbox whose driver breaks the rule.
	Why string `json:"why"`
	// Source is where the rule comes from.
	Source string `json:"source"`
}

// spec is a requirement with the check that tests it.
type spec struct {
	Requirement
	check func(w *World)
}

// Requirements returns every requirement, in the order of the catalogue.
func Requirements() []Requirement {
	specs := catalogue()
	all := make([]Requirement, len(specs))
	for i, s := range specs {
		all[i] = s.Requirement
	}
	return all
}

// Find returns the requirement with that id.
func Find(id string) (Requirement, bool) {
	for _, r := range Requirements() {
		if r.ID == id {
			return r, true
		}
	}
	return Requirement{}, false
}

// catalogue joins the tables of all areas. This is the order in which
// requirements are listed and run.
func catalogue() []spec {
	var all []spec
	for _, area := range [][]spec{
		loadSpecs, stateSpecs, restoreSpecs, startFailureSpecs, stopSpecs, pausedSpecs,
		mediaSpecs, bootSpecs, acpiSpecs, dumpSpecs, screenshotSpecs, captureSpecs, versionSpecs, dependencySpecs, watchSpecs,
		errorSpecs, optionalSpecs, queueSpecs, ownershipSpecs, daemonSpecs, hardeningSpecs, cleanSpecs, configSpecs,
	} {
		all = append(all, area...)
	}
	return all
}
