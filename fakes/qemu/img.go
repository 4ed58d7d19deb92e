//go:build linux

package qemu

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/machineries/machineries/internal/qcow2"
)

// RunImg is the fake qemu-img: `machinery fake qemu-img ARGS...`. It knows create,
// info, check, convert (raw and qcow2, uncompressed) and snapshot -l, with the real one's texts and
// exit codes, and returns the exit code.
func RunImg(args []string) int {
	err := img(args, os.Stdout)
	var e *exitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &e):
		e = &exitError{1, err.Error()}
	}
	if e.code == 0 {
		fmt.Fprint(os.Stdout, e.text)
		return 0
	}
	if e.text != "" {
		fmt.Fprintf(os.Stderr, "%s: %s\n", imgName, e.text)
	}
	return e.code
}

const tryHelp = "\nTry 'qemu-img --help' for more information"

func img(args []string, out io.Writer) error {
	if len(args) == 0 {
		return errors.New("Not enough arguments" + tryHelp)
	}
	switch args[0] {
	case "--version", "-V":
		return &exitError{0, "qemu-img version " + versionText + copyright}
	case "--help", "-h":
		return &exitError{0, "qemu-img version " + versionText + copyright + "usage: qemu-img [standard options] command [command options]\n\nThis is the fake of it: create, info, check, convert and snapshot -l.\n"}
	case "create":
		return imgCreate(args[1:], out)
	case "info":
		return imgInfo(args[1:], out)
	case "check":
		return imgCheck(args[1:], out)
	case "convert":
		return imgConvert(args[1:], out)
	case "snapshot":
		return imgSnapshot(args[1:])
	case "resize", "rebase", "commit", "compare", "amend", "bench", "bitmap", "dd", "map", "measure":
		return fmt.Errorf("%s is not supported by the fake qemu-img", args[0])
	}
	return errors.New("Command not found: " + args[0] + tryHelp)
}

// imgFlags are the options of a qemu-img command.
type imgFlags struct {
	values map[string]string // by letter or long name
	files  []string
}

func (f *imgFlags) has(name string) bool { _, ok := f.values[name]; return ok }

// parseImg takes the arguments of a command apart. with names the options that have
// a value, without those that have none.
func parseImg(args []string, with, without string) (*imgFlags, error) {
	f := &imgFlags{values: map[string]string{}}
	takes, plain := words(with), words(without)
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			f.files = append(f.files, args[i+1:]...)
			break
		}
		if !strings.HasPrefix(a, "-") || a == "-" {
			f.files = append(f.files, a)
			continue
		}
		name, value, inline := strings.Cut(strings.TrimPrefix(a, "--"), "=")
		if !strings.HasPrefix(a, "--") {
			name, value, inline = a[1:2], a[2:], len(a) > 2
		}
		switch {
		case takes[name] && !inline:
			if i++; i == len(args) {
				return nil, fmt.Errorf("option requires an argument -- '%s'%s", name, tryHelp)
			}
			value = args[i]
		case takes[name]:
		case plain[name]:
		default:
			return nil, fmt.Errorf("unrecognized option '%s'%s", a, tryHelp)
		}
		if name == "o" && f.has("o") {
			value = f.values["o"] + "," + value
		}
		f.values[name] = value
	}
	return f, nil
}

// openImage looks at an image as qemu-img does, locks included, unless shared.
func openImage(path, format string, shared bool) (qcow2.Info, error) {
	wrong := func(err error) (qcow2.Info, error) {
		return qcow2.Info{}, fmt.Errorf("Could not open '%s': %s", path, err)
	}
	name := strings.TrimPrefix(path, "file:")
	if format != "" && format != "raw" && format != "qcow2" {
		return wrong(fmt.Errorf("Unknown driver '%s'", format))
	}
	if err := openable(name, true); err != nil {
		return wrong(err)
	}
	info, err := qcow2.Inspect(name)
	switch {
	case format == "raw":
		return qcow2.Info{Path: name, Format: "raw", VirtualSize: (info.FileSize + 511) &^ 511, FileSize: info.FileSize}, nil
	case format == "qcow2" && info.Format != "qcow2":
		return wrong(errors.New("Image is not in qcow2 format"))
	case err != nil:
		return wrong(errors.New(imageProblem(err)))
	}
	if !shared {
		f, err := os.Open(name)
		if err != nil {
			return wrong(err)
		}
		defer f.Close()
		if err := lockFile(f, path, locking{used: permRead, denied: permWrite | permResize}); err != nil {
			return wrong(err)
		}
	}
	return info, nil
}

func imgSnapshot(args []string) error {
	f, err := parseImg(args, "a c d object", "l q U force-share")
	switch {
	case err != nil:
		return err
	case !f.has("l") || len(f.files) != 1:
		return errors.New("the fake qemu-img knows snapshot -l alone")
	}
	info, err := openImage(f.files[0], "", f.has("U") || f.has("force-share"))
	if err == nil && info.Snapshots > 0 {
		err = errors.New("the fake qemu-img does not read internal snapshots")
	}
	return err
}
