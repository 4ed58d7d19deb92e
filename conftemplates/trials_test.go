//go:build !race

package conftemplates

// trials is how many random configurations are rendered.
const trials = 10_000
