//go:build linux

package qemu

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/machineries/machineries/drivers/internal/hostfile"
)

// manifestSuffix is what a manifest's name has behind that of the snapshot that it belongs to.
const manifestSuffix = ".manifest.json"

// manifestVersion is the version of the format.
const manifestVersion = 1

// The bounds of a manifest: a chain of images has some files, each in some hundred bytes.
const (
	maxManifest      = 1 << 20
	maxManifestFiles = 1000
)

// Manifest says which files make up a saved machine, and what they were like when they were saved. It is a JSON file beside the
// snapshot, named by it: memory.snapshot.manifest.json. With it a disk that was changed since is noticed by whoever restores the
// machine, however much later. SaveSnapshot and SealSnapshot write it.
type Manifest struct {
	Version int            `json:"version"`
	Files   []ManifestFile `json:"files"`
	// Hypervisor is the QEMU that saved the machine, such as "QEMU 7.2.22"; empty if that is not known.
	Hypervisor string `json:"hypervisor,omitempty"`
	// Arguments is the sha256 of the machine's start_args, each with a NUL behind it. Other arguments are no reason to refuse a
	// restore, as not all of them have to be the same; QEMU knows which.
	Arguments string `json:"arguments,omitempty"`
}

// ManifestFile is a file of a saved machine: the snapshot, its disk, or what that is based on.
type ManifestFile struct {
	// Path is absolute, or relative to the manifest's directory.
	Path string `json:"path"`
	// Size is in bytes.
	Size int64 `json:"size"`
	// Modified spares the reading of a file whose time is the same.
	Modified time.Time `json:"modified"`
	// SHA256 is of the content, in hexadecimal digits.
	SHA256 string `json:"sha256"`
}

// ManifestPath is where the manifest of a snapshot is.
func ManifestPath(snapshot string) string { return snapshot + manifestSuffix }

// ReadManifest reads the manifest of a snapshot. The error matches fs.ErrNotExist if there is none. The paths in what it returns
// are absolute.
func ReadManifest(snapshot string) (*Manifest, error) {
	path := ManifestPath(snapshot)
	f, err := hostfile.OpenRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(data)
	if err != nil {
		return nil, fmt.Errorf("the manifest %s is not one: %w; put the right one back, or remove it if nothing is to be compared", path, err)
	}
	for i, file := range m.Files {
		if !filepath.IsAbs(file.Path) {
			m.Files[i].Path = filepath.Join(filepath.Dir(path), file.Path)
		}
	}
	return m, nil
}

// parseManifest reads what a manifest's file holds.
func parseManifest(data []byte) (*Manifest, error) {
	if len(data) > maxManifest {
		return nil, fmt.Errorf("it is longer than %d bytes", maxManifest)
	}
	m := &Manifest{}
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(m); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("there is more behind its end")
	}
	switch {
	case m.Version != manifestVersion:
		return nil, fmt.Errorf("its version is %d, and this driver knows %d", m.Version, manifestVersion)
	case len(m.Files) == 0:
		return nil, errors.New("it names no files")
	case len(m.Files) > maxManifestFiles:
		return nil, fmt.Errorf("it names more than %d files", maxManifestFiles)
	}
	for i, file := range m.Files {
		sum, err := hex.DecodeString(file.SHA256)
		switch {
		case file.Path == "" || bytes.IndexByte([]byte(file.Path), 0) >= 0:
			return nil, fmt.Errorf("its file %d has no path", i+1)
		case file.Size < 0:
			return nil, fmt.Errorf("the size of %q is %d", file.Path, file.Size)
		case err != nil || len(sum) != sha256.Size:
			return nil, fmt.Errorf("the sha256 of %q is none: %q", file.Path, file.SHA256)
		}
	}
	return m, nil
}

// newManifest reads files through and says what they are. Those in dir are named by their path from there.
func newManifest(ctx context.Context, dir string, paths []string) (*Manifest, error) {
	m := &Manifest{Version: manifestVersion}
	for _, path := range paths {
		file, err := sumOf(ctx, path)
		if err != nil {
			return nil, err
		}
		if within, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(within) {
			file.Path = within
		}
		m.Files = append(m.Files, file)
	}
	return m, nil
}

// text is what the manifest's file holds.
func (m *Manifest) text() ([]byte, error) {
	data, err := json.MarshalIndent(m, "", "  ")
	return append(data, '\n'), err
}

// sumOf reads a file through, for as long as ctx lets it. One that changes meanwhile is an error.
func sumOf(ctx context.Context, path string) (ManifestFile, error) {
	f, err := hostfile.OpenRegular(path)
	if err != nil {
		return ManifestFile{}, err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return ManifestFile{}, err
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
			return ManifestFile{}, err
		}
	}
	after, err := f.Stat()
	if err != nil {
		return ManifestFile{}, err
	}
	if hostfile.IdentityOf(before) != hostfile.IdentityOf(after) {
		return ManifestFile{}, &os.PathError{Op: "read", Path: path, Err: errors.New("it changes while it is read")}
	}
	return ManifestFile{path, after.Size(), after.ModTime().UTC(), hex.EncodeToString(h.Sum(nil))}, nil
}

// manifestOf is the manifest of a snapshot, or nil if it has none.
func manifestOf(snapshot string) (*Manifest, error) {
	m, err := ReadManifest(snapshot)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return m, err
}
