//go:build linux

package mutants

import (
	"context"
	"os/exec"
	"path/filepath"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
)

func hardeningMutants() []Mutant {
	return []Mutant{
		rewire("starts a program for each machine that gets all that it has itself", nil, func(inner *qemu.Machinery, c qemu.Config) machinery.Machinery {
			return &broken{Machinery: inner, restoreStart: func(ctx context.Context, name string) error {
				if err := inner.RestoreStart(ctx, name); err != nil {
					return err
				}
				return accompany(c, name)
			}}
		}, "MM-HARD-001", "MM-HARD-002"),
		rewire("takes every argument of a machine as meant", func(c *qemu.Config, _ *machinery.Options) error {
			c.AllowArguments = []string{"all"}
			return nil
		}, nil, "MM-HARD-003"),
	}
}

// accompany starts a program that belongs to a machine: its command line has
// a file of the machine in it, by which the lab knows it, and ends it. Go
// gives it what is not marked, and the environment.
func accompany(c qemu.Config, name string) error {
	socket := filepath.Join(filepath.Dir(c.DisposableDir), "0.g")
	for i, m := range c.Machines {
		if m.Name == name {
			socket = filepath.Join(filepath.Dir(c.DisposableDir), string(rune('0'+i))+".g")
		}
	}
	// It waits for its input, which ends with this process.
	cmd := exec.Command("sh", "-c", "read line", socket)
	input, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		_ = cmd.Wait()
		_ = input.Close()
	}()
	return nil
}
