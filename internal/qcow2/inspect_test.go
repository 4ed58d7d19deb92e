package qcow2

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/machineries/machineries/internal/require"
)

// patched is a small sound image with some bytes changed.
func patched(t testing.TB, change func(b []byte) []byte) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "i")
	if err := Create(p, Options{VirtualSize: 1 << 20, ClusterBits: 12, BackingFile: "base", BackingFormat: "raw"}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		b = change(b)
	}
	if err := os.WriteFile(p, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func put32(at int, v uint32) func([]byte) []byte {
	return func(b []byte) []byte { binary.BigEndian.PutUint32(b[at:], v); return b }
}

func put64(at int, v uint64) func([]byte) []byte {
	return func(b []byte) []byte { binary.BigEndian.PutUint64(b[at:], v); return b }
}

func TestABrokenHeaderIsSaidAsQEMUSaysIt(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func([]byte) []byte
		want   string // "" : sound to Inspect
	}{
		{"version 1 is another format", put32(4, 1), ""},
		{"version 4", put32(4, 4), "Unsupported qcow2 version 4"},
		{"cluster bits 8", put32(20, 8), "Unsupported cluster size: 2^8"},
		{"cluster bits 99", put32(20, 99), "Unsupported cluster size: 2^99"},
		{"short header", put32(100, 80), "qcow2 header too short"},
		{"header longer than a cluster", put32(100, 1<<30), "qcow2 header exceeds cluster size"},
		{"backing name outside", put64(8, 1<<40), "Invalid backing file offset"},
		{"backing name too long", put32(16, 1024), "Backing file name too long"},
		{"unknown feature", put64(72, 1<<9), "Unsupported qcow2 feature(s): Unknown incompatible feature: 200"},
		{"refcounts of 128 bits", put32(96, 7), "Reference count entry width too large; may not exceed 64 bits"},
		{"no refcount table", put32(56, 0), "Image does not contain a reference count table"},
		{"huge refcount table", put32(56, 1<<31), "Image reference count table too large"},
		{"odd refcount table", put64(48, 4097), "Reference count table offset invalid"},
		{"huge L1", put32(36, 1<<30), "Active L1 table too large"},
		{"odd L1", put64(40, 12345), "Active L1 table offset invalid"},
		{"short L1", put64(24, 1<<40), "L1 table is too small"},
		{"size beyond all", put64(24, 1<<63), "Image is too big to be processed"},
		{"extension too long", put32(116, 1<<20), "Header extension too large"},
		{"encryption method", put32(32, 9), "Unsupported encryption method 9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			info, err := Inspect(patched(t, c.change))
			if c.want == "" {
				if err != nil || info.Format != "qcow" {
					t.Errorf("got %+v, %v", info, err)
				}
				return
			}
			var bad *FormatError
			if !errors.As(err, &bad) || bad.Problem != c.want {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if info.Format != "qcow2" {
				t.Errorf("format %q", info.Format)
			}
		})
	}
}

func TestInspectSaysWhatIsSpecialOfAnImage(t *testing.T) {
	require.Tool(t, "qemu", "qemu-img")
	dir := t.TempDir()
	for _, c := range []struct {
		name string
		args []string
		ok   func(Info) bool
		open string // "" where Open takes it too
	}{
		{"version 2", []string{"-o", "compat=0.10"}, func(i Info) bool { return i.Version == 2 && i.RefcountBits == 16 }, ""},
		{"lazy refcounts", []string{"-o", "lazy_refcounts=on"}, func(i Info) bool { return i.LazyRefcounts }, ""},
		{"external data", []string{"-o", "data_file=" + filepath.Join(dir, "data")}, func(i Info) bool {
			return i.Incompatible == FeatureExternalData && i.DataFile == filepath.Join(dir, "data")
		}, "external data file is not supported"},
		{"extended L2", []string{"-o", "extended_l2=on"}, func(i Info) bool { return i.Incompatible == FeatureExtendedL2 }, "extended L2 entries is not supported"},
		{"zstd", []string{"-o", "compression_type=zstd"}, func(i Info) bool { return i.Compression == "zstd" }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := filepath.Join(dir, c.name)
			run(t, "qemu-img", append(append([]string{"create", "-q", "-f", "qcow2"}, c.args...), p, "1M")...)
			info, err := Inspect(p)
			if err != nil || !c.ok(info) || info.VirtualSize != 1<<20 {
				t.Errorf("Inspect: %+v, %v", info, err)
			}
			d, err := Open(p, OpenOptions{})
			switch {
			case err == nil && c.open == "":
				d.Close()
			case err == nil || err.Error() != c.open:
				t.Errorf("Open: %v, want %q", err, c.open)
			}
		})
	}
	for _, format := range []string{"raw", "vmdk", "vdi", "vhdx", "qed", "vpc", "parallels", "qcow"} {
		t.Run("format "+format, func(t *testing.T) {
			p := filepath.Join(dir, "f."+format)
			run(t, "qemu-img", "create", "-q", "-f", format, p, "1M")
			if info, err := Inspect(p); err != nil || info.Format != format {
				t.Errorf("got %+v, %v", info, err)
			}
		})
	}
}

// qemu-img cannot make these on every machine: it times the key derivation first.
func TestEncryptionIsRecognisedAndRefused(t *testing.T) {
	p := patched(t, put32(32, 2))
	if info, err := Inspect(p); err != nil || !info.Encrypted {
		t.Errorf("Inspect: %+v, %v", info, err)
	}
	if _, err := Open(p, OpenOptions{}); err == nil || err.Error() != "encryption is not supported" {
		t.Errorf("Open: %v", err)
	}
	p = patched(t, func([]byte) []byte { return []byte("LUKS\xba\xbe\x00\x01") })
	if info, err := Inspect(p); err != nil || info.Format != "luks" {
		t.Errorf("Inspect: %+v, %v", info, err)
	}
}

func TestWhatIsNoImageFileIsRefusedWithoutBlocking(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{dir, fifo, "/dev/null", filepath.Join(dir, "missing")} {
		done := make(chan error, 1)
		go func() { _, err := Inspect(p); done <- err }()
		select {
		case err := <-done:
			if err == nil {
				t.Errorf("%s: no error", p)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: Inspect blocks", p)
		}
	}
	if _, err := Inspect(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, err := Inspect(dir); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("directory: %v", err)
	}
}

func TestAChainIsFollowedToItsEndAndALoopIsSeen(t *testing.T) {
	dir := t.TempDir()
	at := func(n string) string { return filepath.Join(dir, n) }
	if err := os.WriteFile(at("base"), make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][3]string{{"mid", "base", "raw"}, {"top", at("mid"), "qcow2"}, {"a", "b", "qcow2"}, {"b", "./a", "qcow2"}, {"orphan", "gone", "raw"}} {
		if err := CreateOverlay(at(c[0]), c[1], c[2], 4096); err != nil {
			t.Fatal(err)
		}
	}
	chain, err := Chain(at("top"))
	if err != nil || len(chain) != 3 || chain[2].Path != at("base") || chain[2].Format != "raw" || chain[2].VirtualSize != 1024 {
		t.Errorf("chain %+v, %v", chain, err)
	}
	for name, want := range map[string]string{"a": "above it in the same chain", "orphan": "no such file"} {
		if _, err := Chain(at(name)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		var be *BackingError
		if _, err := Open(at(name), OpenOptions{}); !errors.As(err, &be) {
			t.Errorf("Open %s: %v, want a *BackingError", name, err)
		}
	}
}

func TestARawBackingFileIsRawWhateverItsContent(t *testing.T) {
	dir := t.TempDir()
	inner, outer := filepath.Join(dir, "inner"), filepath.Join(dir, "outer")
	if err := CreateOverlay(inner, "/etc/passwd", "raw", 4096); err != nil {
		t.Fatal(err)
	}
	if err := CreateOverlay(outer, inner, "raw", 4096); err != nil {
		t.Fatal(err)
	}
	chain, err := Chain(outer)
	if err != nil || len(chain) != 2 || chain[1].Format != "raw" {
		t.Errorf("chain %+v, %v", chain, err)
	}
	d, err := Open(outer, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	b := make([]byte, 4)
	if _, err := d.ReadAt(b, 0); err != nil || string(b) != "QFI\xfb" {
		t.Errorf("read %q, %v: the guest chose how its backing file is read", b, err)
	}
}

// bootSector writes "OK" to the first serial port and halts.
var bootSector = []byte{0xba, 0xf8, 0x03, 0xb0, 'O', 0xee, 0xb0, 'K', 0xee, 0xf4, 0xeb, 0xfd}

func TestQEMUBootsFromAnOverlay(t *testing.T) {
	require.Tool(t, "qemu", "qemu-system-x86_64")
	dir := t.TempDir()
	base, overlay, serial := filepath.Join(dir, "base"), filepath.Join(dir, "overlay"), filepath.Join(dir, "serial")
	disk := make([]byte, 1<<20)
	copy(disk, bootSector)
	disk[510], disk[511] = 0x55, 0xaa
	if err := os.WriteFile(base, disk, 0o400); err != nil {
		t.Fatal(err)
	}
	if err := CreateOverlay(overlay, base, "raw", 1<<20); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("qemu-system-x86_64", "-accel", "tcg", "-M", "q35", "-m", "16", "-nodefaults", "-display", "none",
		"-serial", "file:"+serial, "-drive", "file="+overlay+",if=ide,format=qcow2")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	for deadline := time.Now().Add(30 * time.Second); ; {
		if b, _ := os.ReadFile(serial); string(b) == "OK" {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("the guest said %q, want OK", b)
		}
		time.Sleep(10 * time.Millisecond) // QEMU gives no sign that a byte was written
	}
}

func FuzzOpen(f *testing.F) {
	for _, change := range []func([]byte) []byte{nil, put32(4, 2), put64(72, 1), put64(0x3000, 1<<62), put64(0x3000, 0x7000|flagCopied)} {
		b, err := os.ReadFile(patched(f, change))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("QFI\xfb"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := filepath.Join(t.TempDir(), "i")
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		info, err := Inspect(p)
		if err == nil && info.VirtualSize < 0 {
			t.Fatalf("negative size: %+v", info)
		}
		if _, err := CheckImage(p); err != nil {
			_ = err // any error will do, a panic will not
		}
		d, err := Open(p, OpenOptions{NoBacking: true})
		if err != nil {
			return
		}
		defer d.Close()
		size := d.Size()
		buf := make([]byte, 3000)
		for _, at := range []int64{0, size / 2, size - 3000} {
			if at < 0 || at > size {
				continue
			}
			if _, err := d.ReadAt(buf, at); err != nil {
				continue
			}
			_, _ = d.WriteAt(buf[:min(int64(len(buf)), size-at)], at)
		}
	})
}
