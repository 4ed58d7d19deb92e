//go:build race

package edit

// trials is how many random configurations are edited. With the race detector each takes ten times as long, and there is no
// race to be had in one goroutine: "make test" does them all without it.
const trials = 1_000
