//go:build race

package conftemplates

// trials is how many random configurations are rendered. With the race detector each takes ten times as long, and there is no
// race to be had in one goroutine: "make test" does them all without it.
const trials = 1_000
