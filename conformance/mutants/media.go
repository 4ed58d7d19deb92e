//go:build linux

package mutants

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
)

// secondDisk is the second disk of a machine of the QEMU lab; it may be none.
func secondDisk(m qemu.MachineConfig) string {
	return filepath.Join(filepath.Dir(m.Disk), "second.raw")
}

func mediaMutants() []Mutant {
	return []Mutant{
		rewire("gives machines an empty second disk", func(c *qemu.Config, _ *machinery.Options) error {
			for i := range c.Machines {
				if err := emptySecond(&c.Machines[i], c.DisposableDir); err != nil {
					return err
				}
			}
			return nil
		}, nil, "MM-MEDIA-001"),
		rewire("merges what was written into the second disk", nil, func(inner *qemu.Machinery, c qemu.Config) machinery.Machinery {
			return &broken{Machinery: inner, stop: func(ctx context.Context, name string) error {
				if err := inner.Stop(ctx, name); err != nil {
					return err
				}
				disk, err := os.OpenFile(secondDisk(machine(c, name)), os.O_WRONLY, 0)
				if os.IsNotExist(err) {
					return nil
				}
				if err != nil {
					return err
				}
				defer disk.Close()
				_, err = disk.WriteAt([]byte("written by a guest"), 0)
				return err
			}}
		}, "MM-MEDIA-001", "MM-MEDIA-003"),
	}
}

// emptySecond has a machine use another second disk than its own, if it has one.
func emptySecond(m *qemu.MachineConfig, dir string) error {
	second := secondDisk(*m)
	if _, err := os.Stat(second); err != nil {
		return nil
	}
	text, err := os.ReadFile(m.Info)
	if err != nil {
		return err
	}
	var info struct {
		Machine struct {
			Args []string `json:"start_args"`
		} `json:"machine"`
	}
	if err := json.Unmarshal(text, &info); err != nil {
		return err
	}
	empty := filepath.Join(dir, "empty.raw")
	if err := os.WriteFile(empty, make([]byte, 1<<20), 0o600); err != nil {
		return err
	}
	for _, arg := range info.Machine.Args {
		m.Args = append(m.Args, strings.ReplaceAll(arg, second, empty))
	}
	return nil
}
