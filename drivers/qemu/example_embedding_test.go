//go:build linux

package qemu_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// gallery is a driver of its own that does all that the QEMU driver does, but for two things: its machines are the directories in a
// directory, and it takes a picture of each before it is stopped.
//
// The optional operations are those of the QEMU driver, because their methods are promoted with the others. A driver that is not
// to have one of them says so by a method Supports (see machinery.Capable).
type gallery struct {
	*qemu.Machinery
	pictures string
}

// pictureTime bounds what is done before a machine is stopped: whatever becomes of it, the machine is.
const pictureTime = 200 * time.Millisecond

// Stop overrides one operation. What the embedded driver does by itself does not come here: Shutdown, Close and the end of a start
// that failed stop machines without it.
func (g *gallery) Stop(ctx context.Context, name string) error {
	g.keep(ctx, name)
	return g.Machinery.Stop(ctx, name)
}

// keep takes a picture of what runs. The state is asked first, as that waits for no other operation, and a picture does.
func (g *gallery) keep(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, pictureTime)
	defer cancel()
	if status, err := g.State(ctx, name); err != nil || status.State != machinery.StateRunning {
		return
	}
	if picture, err := g.Screenshot(ctx, name); err == nil {
		_ = os.WriteFile(filepath.Join(g.pictures, filepath.Base(name)+".png"), picture, 0o600)
	}
}

// gallerySchema is what its gallery.yaml holds, instead of a list of machines.
var gallerySchema = &config.Schema{
	Name: "gallery",
	Doc:  "Machines in a directory, whose last pictures are kept.",
	Fields: []config.Field{
		{Key: "emulator", Example: qemu.DefaultQEMU, Doc: "The path of QEMU.", Type: config.FilePath{Executable: true}},
		{Key: "machines_in", Example: "/vms", Doc: "The directory with a directory for each machine, as \"machinery vm snapshot create\" makes them.",
			Type: config.DirectoryPath{MustExist: true}},
		{Key: "pictures", Example: "/var/pictures", Doc: "The directory for pictures.", Type: config.DirectoryPath{MustExist: true, Writable: true}},
		{Key: "allow_arguments", Optional: true, AllowEmpty: true, Default: []string{}, Type: config.List{}, Doc: "As in a qemu.yaml."},
	},
}

const galleryTemplate = `# The emulator.
emulator: {{ emulator }}
# The directory with the machines, each in one of its own.
machines_in: {{ machines_in }}
# The directory for the pictures.
pictures: {{ pictures }}
# Arguments that could harm the host, and are allowed all the same.
allow_arguments:
  {% for argument in allow_arguments %}
  - {{ argument }}
  {% endfor %}
`

// galleryDriver makes it loadable, by the name "gallery".
func galleryDriver() machinery.Driver {
	return machinery.Driver{Name: "gallery", Doc: "QEMU, with a picture of each machine", Schema: gallerySchema, Template: galleryTemplate,
		Open: func(ctx context.Context, doc *config.Document, o machinery.Options) (machinery.Machinery, error) {
			c := qemu.Config{QEMU: doc.String("emulator"), AllowArguments: doc.Strings("allow_arguments")}
			infos, err := filepath.Glob(filepath.Join(doc.String("machines_in"), "*", "machineinfo.json"))
			if err != nil {
				return nil, err
			}
			for _, info := range infos {
				dir := filepath.Dir(info)
				c.Machines = append(c.Machines, qemu.MachineConfig{Name: filepath.Base(dir), Info: info,
					Disk: filepath.Join(dir, "disk.qcow2"), Snapshot: filepath.Join(dir, "memory.snapshot")})
			}
			inner, err := qemu.New(ctx, c, o)
			if err != nil {
				return nil, err // not a nil *gallery in an interface that is not nil
			}
			return &gallery{inner, doc.String("pictures")}, nil
		}}
}

// A driver of one's own embeds this one, overrides what it does differently, and loads its machines from wherever they are.
func ExampleMachinery_embedding() {
	var r machinery.Registry
	if err := r.Register(galleryDriver()); err != nil {
		fmt.Println(err)
		return
	}
	for _, d := range r.Drivers() {
		fmt.Printf("%s: %s\n", d.Name, d.Doc)
	}
	// Output: gallery: QEMU, with a picture of each machine
}
