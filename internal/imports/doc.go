// Package imports holds this module's packages to the direction in which they may import each other, and keeps what only
// tests and commands need out of the packages that other programs import. It has no code but its tests.
package imports
