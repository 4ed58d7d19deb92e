//go:build linux

package kvm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/machineries/machineries/drivers/internal/capture"
)

// ledgerFile is the file in a machine's runtime directory that says what belongs to its run besides the domain.
const ledgerFile = "state.json"

// ledgerVersion is of what follows; others are not understood.
const ledgerVersion = 1

// ledger is what the next driver has to know of a machine's run. What the machine does it asks libvirt.
type ledger struct {
	Version int `json:"version"`
	// Machine, Label and URI say which machine this is, for people and for Account.
	Machine string `json:"machine"`
	Label   string `json:"label"`
	URI     string `json:"uri"`
	// Owner is the process of the driver that wrote this last.
	Owner int `json:"owner"`
	// Overlays are the disposable disks of the run. They are removed when it is over.
	Overlays []string `json:"overlays,omitempty"`
	// Capture is the recording of its traffic that is under way.
	Capture *capture.Recording `json:"capture,omitempty"`
}

// empty is whether there is nothing in it that is not known without it.
func (l ledger) empty() bool { return len(l.Overlays) == 0 && l.Capture == nil }

// readLedger reads the ledger in a machine's runtime directory; nil if there is none.
func readLedger(dir string) (*ledger, error) {
	path := filepath.Join(dir, ledgerFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var l ledger
	if err == nil {
		err = json.Unmarshal(data, &l)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("the ledger %s cannot be read: %w", path, err)
	case l.Version != ledgerVersion:
		return nil, fmt.Errorf("the ledger %s is of version %d, and this driver knows %d; another version of the driver wrote it", path, l.Version, ledgerVersion)
	}
	return &l, nil
}

// write writes the ledger, whole or not at all.
func (h *hold) write() error {
	h.ledger.Version, h.ledger.Owner = ledgerVersion, os.Getpid()
	data, err := json.MarshalIndent(h.ledger, "", "  ")
	if err != nil {
		return err
	}
	if err := h.Dir.WriteFile(ledgerFile+".new", append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("the machine's ledger cannot be written: %w", err)
	}
	if err := h.Dir.Rename(ledgerFile+".new", ledgerFile); err != nil {
		return fmt.Errorf("the machine's ledger cannot be written: %w", err)
	}
	return nil
}

// files are the paths outside of the runtime directory that belong to the run.
func (l *ledger) files() []string {
	if l.Capture == nil {
		return l.Overlays
	}
	return slices.Concat(l.Overlays, l.Capture.Raw)
}
