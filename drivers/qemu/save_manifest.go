//go:build linux

package qemu

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"time"
)

// manifestSuffix is what a manifest's name has behind that of the snapshot that it belongs to.
const manifestSuffix = ".manifest.json"

// savedManifest is the manifest of a saved machine: which files belong together.
type savedManifest struct {
	Version int         `json:"version"`
	Files   []savedFile `json:"files"`
	// Hypervisor is the QEMU that saved the machine, such as "QEMU 7.2.22".
	Hypervisor string `json:"hypervisor"`
	// Arguments is the sha256 of the machine's start_args, each with a NUL behind it.
	Arguments string `json:"arguments"`
}

// savedFile is a file of it, by its path relative to the manifest's directory.
type savedFile struct {
	Path     string    `json:"path"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	SHA256   string    `json:"sha256"`
}

// writeManifest writes the manifest and returns its name.
func (s *saving) writeManifest(ctx context.Context) (string, error) {
	m := savedManifest{Version: 1, Hypervisor: "QEMU " + s.version, Arguments: digest(s.v.args.args)}
	for _, name := range []string{savedDisk, s.snapshotName()} {
		f, err := sumOf(ctx, filepath.Join(s.part, name))
		if err != nil {
			return "", err
		}
		m.Files = append(m.Files, f)
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return "", err
	}
	name := s.snapshotName() + manifestSuffix
	return name, os.WriteFile(filepath.Join(s.part, name), append(data, '\n'), 0o600)
}

// sumOf reads a file through, for as long as ctx lets it.
func sumOf(ctx context.Context, path string) (savedFile, error) {
	f, err := openRegular(path)
	if err != nil {
		return savedFile{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return savedFile{}, err
	}
	h := sha256.New()
	for buffer := make([]byte, 1<<20); ; {
		n, err := f.Read(buffer)
		_, _ = h.Write(buffer[:n])
		if err == io.EOF {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return savedFile{}, err
		}
	}
	return savedFile{filepath.Base(path), info.Size(), info.ModTime().UTC(), hex.EncodeToString(h.Sum(nil))}, nil
}
