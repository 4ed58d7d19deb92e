package qcow2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Info is what an image's first bytes say about it.
type Info struct {
	// Path is the file that was read.
	Path string
	// Format is what QEMU's probing would call the image: "qcow2", or "raw" for
	// everything without a known signature, or one of the formats that this package
	// recognises and does not read ("qcow", "qed", "vmdk", "vdi", "vpc", "vhdx",
	// "luks", "parallels").
	Format string
	// VirtualSize is the size that a guest sees, in bytes. A raw file's is rounded up
	// to a whole sector of 512, as QEMU does. It is 0 for formats that are not read.
	VirtualSize int64
	// FileSize is the length of the file, in bytes (holes included).
	FileSize int64

	// The rest is of qcow2 alone.

	Version       int
	ClusterBits   int
	RefcountBits  int
	BackingFile   string // as the image has it: see Resolve
	BackingFormat string // "" where the image does not say
	DataFile      string // with FeatureExternalData
	Incompatible  Feature
	LazyRefcounts bool
	Encrypted     bool
	Snapshots     int // internal snapshots
	Compression   string
}

// other formats by their signature, as QEMU probes them.
var signatures = []struct {
	format string
	at     int
	bytes  string
}{
	{"qed", 0, "QED\x00"},
	{"vmdk", 0, "KDMV"},
	{"vmdk", 0, "COWD"},
	{"vmdk", 0, "# Disk DescriptorFile"},
	{"vhdx", 0, "vhdxfile"},
	{"vpc", 0, "conectix"},
	{"luks", 0, "LUKS\xba\xbe"},
	{"vdi", 64, "\x7f\x10\xda\xbe"},
	{"parallels", 0, "WithoutFreeSpace"},
	{"parallels", 0, "WithouFreSpacExt"},
}

// Inspect reads what the image at path is, without changing or locking it. The
// error matches *FormatError where the file is qcow2 and broken (the Info then still
// says Format and FileSize), otherwise it is the operating system's.
func Inspect(path string) (Info, error) {
	f, size, err := openFile(path, os.O_RDONLY)
	if err != nil {
		return Info{Path: path}, err
	}
	defer f.Close()
	info, _, err := inspect(f, path, size)
	return info, err
}

// openFile opens an image's file: never one that blocks, never a directory.
func openFile(path string, flag int) (*os.File, int64, error) {
	// A FIFO without a writer would block the open for ever.
	f, err := os.OpenFile(path, flag|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err == nil {
		switch {
		case st.IsDir():
			err = &os.PathError{Op: "open", Path: path, Err: syscall.EISDIR}
		case st.Mode().IsRegular():
			return f, st.Size(), nil
		case st.Mode()&os.ModeDevice != 0 && st.Mode()&os.ModeCharDevice == 0:
			var n int64
			if n, err = f.Seek(0, io.SeekEnd); err == nil {
				return f, n, nil
			}
		default:
			err = &os.PathError{Op: "open", Path: path, Err: errors.New("neither a regular file nor a block device")}
		}
	}
	f.Close()
	return nil, 0, err
}

// inspect is Inspect on an open file; the header is nil for what is not qcow2.
func inspect(r io.ReaderAt, path string, size int64) (Info, *header, error) {
	info := Info{Path: path, FileSize: size}
	first := make([]byte, min(512, size))
	if _, err := r.ReadAt(first, 0); err != nil && err != io.EOF {
		return info, nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(first) < 4 || binary.BigEndian.Uint32(first) != magic {
		info.Format = "raw"
		for _, s := range signatures {
			if len(first) >= s.at && bytes.HasPrefix(first[s.at:], []byte(s.bytes)) {
				info.Format = s.format
				return info, nil, nil
			}
		}
		info.VirtualSize = (size + 511) &^ 511
		return info, nil, nil
	}
	if len(first) >= 8 && binary.BigEndian.Uint32(first[4:]) == 1 {
		info.Format = "qcow"
		return info, nil, nil
	}
	info.Format = "qcow2"
	h, err := parseHeader(first)
	if err != nil {
		return info, nil, err
	}
	cluster := make([]byte, min(h.clusterSize(), size))
	if _, err := r.ReadAt(cluster, 0); err != nil && err != io.EOF {
		return info, nil, fmt.Errorf("read %s: %w", path, err)
	}
	if err := h.parseExtensions(cluster); err != nil {
		return info, nil, err
	}
	info.Version = int(h.version)
	info.VirtualSize = int64(h.size)
	info.ClusterBits = int(h.clusterBits)
	info.RefcountBits = 1 << h.refcountOrder
	info.BackingFile, info.BackingFormat, info.DataFile = h.backingFile, h.backingFormat, h.dataFile
	info.Incompatible = h.incompatible
	info.LazyRefcounts = h.compatible&1 != 0
	info.Encrypted = h.crypt != 0
	info.Snapshots = int(h.snapshots)
	info.Compression = "zlib"
	if h.compression == 1 {
		info.Compression = "zstd"
	}
	return info, h, nil
}

// Resolve says which file image's backing name means: QEMU takes a relative name
// from the directory of the image, and "file:" is taken off. Names with another
// protocol ("json:", "nbd:", ...) are an error matching errors.ErrUnsupported.
func Resolve(image, backing string) (string, error) {
	if rest, ok := strings.CutPrefix(backing, "file:"); ok {
		backing = rest
	} else if hasProtocol(backing) {
		return "", fmt.Errorf("backing file %q of %s is reached by a protocol, not a path: %w", backing, image, errors.ErrUnsupported)
	}
	if filepath.IsAbs(backing) {
		return backing, nil
	}
	// Not filepath.Join: it would clean "a/../b", which differs when a is a link.
	dir, _ := filepath.Split(image)
	return dir + backing, nil
}

// hasProtocol says whether QEMU reads the part of name before a colon as a
// protocol: where the colon comes before the first slash.
func hasProtocol(name string) bool {
	i := strings.IndexAny(name, ":/")
	return i >= 0 && name[i] == ':'
}

// maxChain bounds backing chains. Deeper ones exist only by mistake or malice, and
// QEMU itself runs out of stack before it refuses them.
const maxChain = 256

// Chain inspects the image at path and everything below it, top first. A backing
// file that is missing, unreadable or in a loop is an error that names it; the images
// above it are returned all the same.
func Chain(path string) ([]Info, error) {
	var chain []Info
	format := ""
	for {
		if len(chain) == maxChain {
			return chain, fmt.Errorf("backing chain of %s is deeper than %d images", chain[0].Path, maxChain)
		}
		info, err := Inspect(path)
		if err != nil {
			if len(chain) > 0 {
				err = fmt.Errorf("backing file of %s: %s: %w", chain[len(chain)-1].Path, path, err)
			}
			return chain, err
		}
		if format == "raw" && info.Format != "raw" {
			// The image above says so, and QEMU believes it rather than the content.
			info = Info{Path: path, Format: "raw", VirtualSize: (info.FileSize + 511) &^ 511, FileSize: info.FileSize}
		}
		chain = append(chain, info)
		if info.BackingFile == "" {
			return chain, nil
		}
		next, err := Resolve(path, info.BackingFile)
		if err != nil {
			return chain, err
		}
		for _, seen := range chain {
			if sameFile(seen.Path, next) {
				return chain, fmt.Errorf("backing file %s of %s is above it in the same chain", next, path)
			}
		}
		path, format = next, info.BackingFormat
	}
}

func sameFile(a, b string) bool {
	if a == b {
		return true
	}
	sa, err := os.Stat(a)
	if err != nil {
		return false
	}
	sb, err := os.Stat(b)
	return err == nil && os.SameFile(sa, sb)
}
