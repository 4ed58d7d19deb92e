//go:build !race

package edit

// trials is how many random configurations are edited.
const trials = 10_000
