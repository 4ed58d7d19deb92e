//go:build linux

package qemu

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/machineries/machineries/internal/qcow2"
)

func imgCreate(args []string, out io.Writer) error {
	f, err := parseImg(args, "f b F o object", "q u")
	if err != nil {
		return err
	}
	if len(f.files) == 0 {
		return errors.New("Expecting image file name" + tryHelp)
	}
	c := creation{path: f.files[0], format: f.values["f"], backing: f.values["b"], backingFormat: f.values["F"], unsafe: f.has("u"), quiet: f.has("q")}
	if c.format == "" {
		c.format = "raw"
	}
	if len(f.files) > 1 {
		if c.size, err = parseSize("size", f.files[1], 'b'); err != nil {
			return errors.New("Invalid image size specified. You may use k, M, G, T, P or E suffixes for\nqemu-img: kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.")
		}
		c.sized = true
	}
	if err := c.options(f.values["o"]); err != nil {
		return err
	}
	return c.run(out)
}

// creation is a `qemu-img create`.
type creation struct {
	path, format           string
	backing, backingFormat string
	size                   int64
	sized, unsafe, quiet   bool
	clusterSize            int64
}

func (c *creation) options(text string) error {
	c.clusterSize = 65536
	if text == "" {
		return nil
	}
	o := parseOpts(text, "", nil)
	for _, k := range o.keys {
		v := o.get(k)
		var err error
		switch {
		case k == "size":
			c.size, err = parseSize(k, v, 'b')
			c.sized = true
		case c.format != "qcow2":
			err = fmt.Errorf("Invalid parameter '%s'", k)
		case k == "backing_file":
			c.backing = v
		case k == "backing_fmt":
			c.backingFormat = v
		case k == "cluster_size":
			c.clusterSize, err = parseSize(k, v, 'b')
			if err == nil && (c.clusterSize < 512 || c.clusterSize > 2<<20 || c.clusterSize&(c.clusterSize-1) != 0) {
				err = errors.New("Cluster size must be a power of two between 512 and 2048k")
			}
		case k == "compat" && (v == "1.1" || v == "v3"), k == "lazy_refcounts" && v == "off", k == "refcount_bits" && v == "16",
			k == "preallocation" && v == "off", k == "extended_l2" && v == "off", k == "compression_type" && v == "zlib":
		case slices.Contains(strings.Fields("compat lazy_refcounts refcount_bits preallocation extended_l2 compression_type encryption data_file"), k):
			err = fmt.Errorf("%s=%s is not supported by the fake qemu-img", k, v)
		default:
			err = fmt.Errorf("Invalid parameter '%s'", k)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.path, err)
		}
	}
	return nil
}

func (c *creation) run(out io.Writer) error {
	if c.format != "raw" && c.format != "qcow2" {
		return fmt.Errorf("%s: Unknown file format '%s'", c.path, c.format)
	}
	if c.backing != "" && !c.unsafe {
		below, err := qcow2.Resolve(c.path, c.backing)
		if err != nil {
			below = c.backing
		}
		if err := openable(below, true); err != nil {
			return fmt.Errorf("%s: %w\nCould not open backing image.", c.path, err)
		}
		info, err := openImage(below, c.backingFormat, true)
		if err != nil {
			return fmt.Errorf("%s: %w\nCould not open backing image.", c.path, err)
		}
		if c.backingFormat == "" {
			fmt.Fprintf(os.Stderr, "%s: %s: Backing file specified without backing format\nDetected format of %s.", imgName, c.path, info.Format)
			return &exitError{1, ""}
		}
		if !c.sized {
			c.size, c.sized = info.VirtualSize, true
		}
	}
	if !c.sized {
		return fmt.Errorf("%s: Image creation needs a size parameter", c.path)
	}
	if !c.quiet {
		fmt.Fprintln(out, c.describe())
	}
	if c.backing == "" && c.backingFormat != "" {
		return fmt.Errorf("%s: Backing format cannot be used without backing file", c.path)
	}
	if err := c.make(); err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			return fmt.Errorf("%s: Could not create '%s': %s", c.path, c.path, strerror(err))
		}
		return fmt.Errorf("%s: %w", c.path, err)
	}
	return nil
}

func (c *creation) describe() string {
	if c.format == "raw" {
		return fmt.Sprintf("Formatting '%s', fmt=raw size=%d", c.path, c.size)
	}
	s := fmt.Sprintf("Formatting '%s', fmt=qcow2 cluster_size=%d extended_l2=off compression_type=zlib size=%d", c.path, c.clusterSize, c.size)
	if c.backing != "" {
		s += " backing_file=" + c.backing
	}
	if c.backingFormat != "" {
		s += " backing_fmt=" + c.backingFormat
	}
	return s + " lazy_refcounts=off refcount_bits=16"
}

// make writes the image, over whatever was there.
func (c *creation) make() error {
	f, err := os.OpenFile(c.path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := lockFile(f, c.path, locking{used: permRead | permWrite | permResize, denied: permWrite | permResize}); err != nil {
		return err
	}
	if c.format == "raw" {
		return errors.Join(f.Truncate(0), f.Truncate(c.size))
	}
	// Next to it and renamed, so that whoever opens it meanwhile sees one or the other.
	temp := filepath.Join(filepath.Dir(c.path), fmt.Sprintf(".%s.%d", filepath.Base(c.path), os.Getpid()))
	bits := 0
	for ; 1<<bits < c.clusterSize; bits++ {
	}
	if err := qcow2.Create(temp, qcow2.Options{VirtualSize: max(c.size, 512), ClusterBits: bits, BackingFile: c.backing, BackingFormat: c.backingFormat}); err != nil {
		return err
	}
	st, err := f.Stat()
	if err == nil {
		err = os.Chmod(temp, st.Mode().Perm())
	}
	if err == nil {
		err = os.Rename(temp, c.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return nil
}
