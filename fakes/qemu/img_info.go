//go:build linux

package qemu

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"syscall"

	"github.com/machineries/machineries/internal/qcow2"
)

func imgInfo(args []string, out io.Writer) error {
	f, err := parseImg(args, "f output object", "U force-share backing-chain image-opts limits")
	switch {
	case err != nil:
		return err
	case len(f.files) != 1:
		return errors.New("Expecting one image file name" + tryHelp)
	case f.has("output") && f.values["output"] != "human" && f.values["output"] != "json":
		return errors.New("--output must be used with human or json as argument.")
	}
	shared := f.has("U") || f.has("force-share")
	var infos []qcow2.Info
	path, format := f.files[0], f.values["f"]
	for seen := map[string]bool{}; path != ""; {
		if seen[path] {
			return fmt.Errorf("Backing file '%s' creates an infinite loop.", path)
		}
		seen[path] = true
		info, err := openImage(path, format, shared)
		if err != nil {
			return err
		}
		infos = append(infos, info)
		if !f.has("backing-chain") || info.BackingFile == "" {
			break
		}
		if path, err = qcow2.Resolve(path, info.BackingFile); err != nil {
			return err
		}
		format = info.BackingFormat
	}
	if f.values["output"] == "json" {
		var v any = describeImage(infos[0])
		if f.has("backing-chain") {
			list := []any{}
			for _, i := range infos {
				list = append(list, describeImage(i))
			}
			v = list
		}
		_, err = fmt.Fprintf(out, "%s\n", appendIndented(nil, v, 0))
		return err
	}
	for n, i := range infos {
		if n > 0 {
			fmt.Fprintln(out)
		}
		fmt.Fprint(out, humanInfo(i))
	}
	return nil
}

func describeImage(i qcow2.Info) *dict {
	o := d("virtual-size", i.VirtualSize, "filename", i.Path, "format", i.Format, "actual-size", diskUsage(i.Path), "dirty-flag", i.Incompatible&qcow2.FeatureDirty != 0)
	if i.Format == "qcow2" {
		describeQcow2(o, i)
	}
	return o
}

func diskUsage(path string) int64 {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return 0
	}
	return st.Blocks * 512
}

func humanInfo(i qcow2.Info) string {
	var b strings.Builder
	fmt.Fprintf(&b, "image: %s\nfile format: %s\nvirtual size: %s (%d bytes)\ndisk size: %s\n", i.Path, i.Format, humanSize(i.VirtualSize), i.VirtualSize, humanSize(diskUsage(i.Path)))
	if i.Format != "qcow2" {
		return b.String()
	}
	fmt.Fprintf(&b, "cluster_size: %d\n", 1<<i.ClusterBits)
	if i.BackingFile != "" {
		fmt.Fprintf(&b, "backing file: %s", i.BackingFile)
		if full, err := qcow2.Resolve(i.Path, i.BackingFile); err == nil && full != i.BackingFile {
			fmt.Fprintf(&b, " (actual path: %s)", full)
		}
		fmt.Fprintln(&b)
		if i.BackingFormat != "" {
			fmt.Fprintf(&b, "backing file format: %s\n", i.BackingFormat)
		}
	}
	compat := "1.1"
	if i.Version == 2 {
		compat = "0.10"
	}
	fmt.Fprintf(&b, "Format specific information:\n    compat: %s\n    compression type: %s\n", compat, i.Compression)
	if i.Version == 3 {
		fmt.Fprintf(&b, "    lazy refcounts: %v\n", i.LazyRefcounts)
	}
	fmt.Fprintf(&b, "    refcount bits: %d\n", i.RefcountBits)
	if i.Version == 3 {
		fmt.Fprintf(&b, "    corrupt: %v\n    extended l2: %v\n", i.Incompatible&qcow2.FeatureCorrupt != 0, i.Incompatible&qcow2.FeatureExtendedL2 != 0)
	}
	return b.String()
}

// humanSize is three digits and a unit, as QEMU prints sizes.
func humanSize(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	v, u := float64(n), 0
	for ; v >= 1000 && u+1 < len(units); u++ {
		v /= 1024
	}
	return strconv.FormatFloat(v, 'g', 3, 64) + " " + units[u]
}

func imgCheck(args []string, out io.Writer) error {
	f, err := parseImg(args, "f output r T object", "q U force-share image-opts")
	switch {
	case err != nil:
		return err
	case len(f.files) != 1:
		return errors.New("Expecting one image file name" + tryHelp)
	}
	info, err := openImage(f.files[0], f.values["f"], f.has("U") || f.has("force-share"))
	if err != nil {
		return err
	}
	if info.Format != "qcow2" {
		return &exitError{63, "This image format does not support checks"}
	}
	c, err := qcow2.CheckImage(info.Path)
	if err != nil {
		return fmt.Errorf("Check failed: %w", err)
	}
	if f.values["output"] == "json" {
		o := d("image-end-offset", c.EndOffset, "total-clusters", c.Total, "check-errors", 0, "filename", f.files[0], "format", "qcow2")
		for name, n := range map[string]int64{"corruptions": int64(c.Corruptions), "leaks": int64(c.Leaks), "allocated-clusters": c.Allocated, "compressed-clusters": c.Compressed, "fragmented-clusters": c.Fragmented} {
			if n > 0 {
				o.set(name, n)
			}
		}
		fmt.Fprintf(out, "%s\n", appendIndented(nil, o, 0))
	} else if !f.has("q") {
		fmt.Fprint(out, humanCheck(c))
	}
	switch {
	case c.Corruptions > 0:
		return &exitError{2, ""}
	case c.Leaks > 0:
		return &exitError{3, ""}
	}
	return nil
}

func humanCheck(c qcow2.Check) string {
	var b strings.Builder
	if c.Corruptions == 0 && c.Leaks == 0 {
		b.WriteString("No errors were found on the image.\n")
	}
	if c.Corruptions > 0 {
		fmt.Fprintf(&b, "\n%d errors were found on the image.\nData may be corrupted, or further writes to the image may corrupt it.\n", c.Corruptions)
	}
	if c.Leaks > 0 {
		fmt.Fprintf(&b, "\n%d leaked clusters were found on the image.\nThis means waste of disk space, but no harm to data.\n", c.Leaks)
	}
	if c.Total > 0 && c.Allocated > 0 {
		fmt.Fprintf(&b, "%d/%d = %.2f%% allocated, %.2f%% fragmented, %.2f%% compressed clusters\n", c.Allocated, c.Total, 100*float64(c.Allocated)/float64(c.Total),
			100*float64(c.Fragmented)/float64(c.Allocated), 100*float64(c.Compressed)/float64(c.Allocated))
	}
	fmt.Fprintf(&b, "Image end offset: %d\n", c.EndOffset)
	return b.String()
}
