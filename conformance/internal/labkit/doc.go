// Package labkit is what the suite's labs have in common: the process table,
// the guest's side of a machine, its disk and its marks.
package labkit
