package libvirt

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/machineries/machineries/fakes/guest"
	"github.com/machineries/machineries/internal/qcow2"
)

// usage is what --help tells before the flags, in lines for a terminal of 80 columns.
const usage = `Usage: libvirtd [flags]

Runs until Ctrl-C. Its first line is the URI by which virsh and other clients
reach it, once the machines are there. That is the dsn of a kvm.yaml too; each
machine is off, and has the snapshot "clean".

`

// Run runs a fake libvirtd alone, with machines that have a disk and a snapshot
// "clean" each, until ctx ends or SIGINT or SIGTERM comes, and returns the exit status. Nothing
// of it is left then.
func Run(ctx context.Context, args []string) int {
	flags := flag.NewFlagSet("libvirtd", flag.ContinueOnError)
	socket := flags.String("socket", "", "`path` of the socket to listen on (default in a new directory in /tmp)")
	machines := flags.Int("machines", 1, "`number` of machines: machine1, machine2, ...")
	test := flags.Bool("test", false, "be libvirt's test driver (test:///default), not its QEMU driver")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	switch {
	case flags.NArg() > 0:
		fmt.Fprintln(os.Stderr, "libvirtd: there are no arguments but --socket, --machines and --test")
		return 2
	case *machines < 0:
		fmt.Fprintln(os.Stderr, "libvirtd: there cannot be fewer than no --machines")
		return 2
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	o := Options{Socket: *socket, Durations: virshDurations}
	if *test {
		o.Flavour = Test
	}
	if err := alone(ctx, o, *machines); err != nil {
		fmt.Fprintln(os.Stderr, "libvirtd:", err)
		return 1
	}
	return 0
}

// alone serves until ctx ends.
func alone(ctx context.Context, o Options, machines int) (err error) {
	dir, err := os.MkdirTemp("/tmp", "mlv-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := New(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for i := range machines {
		if ctx.Err() != nil {
			return nil
		}
		if err := s.addMachine(dir, i+1); err != nil {
			return fmt.Errorf("machine%d: %w", i+1, err)
		}
	}
	fmt.Printf("%s\n", s.URI())
	<-ctx.Done()
	return nil
}

// addMachine makes a machine with a disk in dir, boots it, and takes a snapshot.
func (s *Server) addMachine(dir string, number int) error {
	name := fmt.Sprintf("machine%d", number)
	disk := filepath.Join(dir, name+".qcow2")
	if err := makeDisk(disk); err != nil {
		return err
	}
	hypervisor := "qemu"
	if s.opts.Flavour == Test {
		hypervisor = "test"
	}
	d, err := s.Define(fmt.Sprintf(`<domain type='%s'>
  <name>%s</name>
  <memory unit='MiB'>16</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='%s'/><target dev='sda' bus='sata'/></disk>
    <serial type='unix'><source mode='bind' path='%s'/><target port='0'/></serial>
    <video><model type='vga'/></video>
  </devices>
</domain>`, hypervisor, name, disk, filepath.Join(dir, name+".serial")))
	if err != nil {
		return err
	}
	if err := d.Start(); err != nil {
		return err
	}
	d.model.SetMemory(0, uint32(number))
	return errors.Join(d.TakeSnapshot("clean"), d.Destroy())
}

// makeDisk makes a disk that the guest boots from.
func makeDisk(path string) error {
	if err := qcow2.Create(path, qcow2.Options{VirtualSize: 1 << 20}); err != nil {
		return err
	}
	disk, err := qcow2.Open(path, qcow2.OpenOptions{})
	if err != nil {
		return err
	}
	_, err = disk.WriteAt([]byte{0x55, 0xaa}, guest.SectorSize-2)
	return errors.Join(err, disk.Close())
}
