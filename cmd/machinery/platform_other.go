//go:build !linux

package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/machinery"
)

func platformMain() {}

func platformDrivers() []machinery.Driver { return nil }

func platformFakes() []fakeProgram { return nil }

func platformLabs(string) []labKind { return nil }

func platformSweeper(context.Context) (conformance.Lab, error) {
	return nil, errors.New("there is no lab on this system")
}

func platformBare(context.Context, string, machinery.Options) (machinery.Machinery, error) {
	return nil, errors.New("there is no driver on this system that can be opened without a configuration file")
}

func platformVM(*app) []*cobra.Command { return nil }

func platformReview(string, []string) func([]string, string) []string { return nil }
