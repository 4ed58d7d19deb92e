package qcow2

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/internal/require"
)

// run runs a tool of QEMU's and returns what it printed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

type imgInfo struct {
	VirtualSize   int64  `json:"virtual-size"`
	Format        string `json:"format"`
	BackingFile   string `json:"backing-filename"`
	FullBacking   string `json:"full-backing-filename"`
	BackingFormat string `json:"backing-filename-format"`
	ClusterSize   int    `json:"cluster-size"`
}

func infoOf(t *testing.T, path string) imgInfo {
	t.Helper()
	var i imgInfo
	if err := json.Unmarshal([]byte(run(t, "qemu-img", "info", "--output=json", path)), &i); err != nil {
		t.Fatal(err)
	}
	return i
}

func TestAnOverlayIsAnImageToQEMU(t *testing.T) {
	require.Tool(t, "qemu", "qemu-img", "qemu-io")
	for _, name := range []string{
		"base.qcow2", "with space", "com,ma", "quote'\"", "semi;colon", "new\nline", "ünï", "a:b", "json:{}", "\xff\xfe", "%s$HOME`id`", "-dash",
		strings.Repeat("n", 255),
	} {
		sizes := []int64{1 << 20}
		if name == "base.qcow2" {
			sizes = []int64{1, 512, 1<<29 + 512, 1 << 40, 1<<42 + 1}
		}
		for _, size := range sizes {
			t.Run(fmt.Sprintf("%.20q of %d bytes", name, size), func(t *testing.T) {
				dir := t.TempDir()
				base := filepath.Join(dir, name)
				if err := os.WriteFile(base, bytes.Repeat([]byte{7}, 4096), 0o600); err != nil {
					t.Fatal(err)
				}
				overlay := filepath.Join(dir, "overlay")
				if err := CreateOverlay(overlay, base, "raw", size); err != nil {
					t.Fatal(err)
				}
				st, err := os.Stat(overlay)
				if err != nil {
					t.Fatal(err)
				}
				if st.Mode().Perm() != 0o600 {
					t.Errorf("mode %v, want 0600", st.Mode())
				}
				if blocks := st.Sys().(*syscall.Stat_t).Blocks; blocks > 128 {
					t.Errorf("the overlay takes %d blocks on disk, want a few pages", blocks)
				}
				run(t, "qemu-img", "check", overlay)
				got := infoOf(t, overlay)
				want := imgInfo{VirtualSize: (size + 511) &^ 511, Format: "qcow2", BackingFile: base, BackingFormat: "raw", ClusterSize: 65536}
				got.FullBacking = ""
				if name == "\xff\xfe" {
					got.BackingFile = base // JSON cannot carry the name
				}
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("qemu-img info (-want +got):\n%s", d)
				}
				out := run(t, "qemu-io", "-r", "-c", "read -P 7 0 512", overlay)
				if strings.Contains(out, "Pattern verification failed") {
					t.Errorf("the overlay does not read as its backing file:\n%s", out)
				}
				info, err := Inspect(overlay)
				if err != nil {
					t.Fatal(err)
				}
				wantInfo := Info{Path: overlay, Format: "qcow2", VirtualSize: want.VirtualSize, FileSize: st.Size(), Version: 3, ClusterBits: 16, RefcountBits: 16,
					BackingFile: base, BackingFormat: "raw", Compression: "zlib"}
				if d := cmp.Diff(wantInfo, info); d != "" {
					t.Errorf("Inspect (-want +got):\n%s", d)
				}
				if c, err := CheckImage(overlay); err != nil || c.Corruptions+c.Leaks != 0 {
					t.Errorf("CheckImage: %+v, %v", c, err)
				}
			})
		}
	}
}

func TestARelativeNameThatLooksLikeAProtocolIsAFileAllTheSame(t *testing.T) {
	require.Tool(t, "qemu", "qemu-io")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "nbd:x"), bytes.Repeat([]byte{9}, 512), 0o600); err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(dir, "o")
	if err := CreateOverlay(overlay, "nbd:x", "raw", 512); err != nil {
		t.Fatal(err)
	}
	if out := run(t, "qemu-io", "-r", "-c", "read -P 9 0 512", overlay); strings.Contains(out, "failed") {
		t.Error(out)
	}
	d, err := Open(overlay, OpenOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if b := make([]byte, 1); true {
		if _, err := d.ReadAt(b, 0); err != nil || b[0] != 9 {
			t.Errorf("read %v, %v", b, err)
		}
	}
}

func TestCreateLeavesAnExistingFileAlone(t *testing.T) {
	p := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(p, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := CreateOverlay(p, "/base", "qcow2", 512)
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("error %v, want one that matches fs.ErrExist", err)
	}
	if b, _ := os.ReadFile(p); string(b) != "mine" {
		t.Errorf("the file is now %q", b)
	}
}

func TestCreateRefusesWhatNoImageCanHold(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "x")
	for name, err := range map[string]error{
		"long name":       CreateOverlay(p, strings.Repeat("n", 1024), "raw", 512),
		"NUL":             CreateOverlay(p, "a\x00b", "raw", 512),
		"no backing":      CreateOverlay(p, "", "raw", 512),
		"no format":       CreateOverlay(p, "/b", "", 512),
		"long format":     CreateOverlay(p, "/b", "0123456789abcdef", 512),
		"size 0":          CreateOverlay(p, "/b", "raw", 0),
		"negative":        CreateOverlay(p, "/b", "raw", -1),
		"too big":         CreateOverlay(p, "/b", "raw", 1<<62),
		"name too big":    Create(p, Options{VirtualSize: 512, ClusterBits: 9, BackingFile: strings.Repeat("n", 500), BackingFormat: "raw"}),
		"cluster":         Create(p, Options{VirtualSize: 512, ClusterBits: 22}),
		"missing dir":     Create(filepath.Join(dir, "no", "x"), Options{VirtualSize: 512}),
		"path with a NUL": Create(p+"\x00", Options{VirtualSize: 512}),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAFullDiskLeavesNoPartialOverlay(t *testing.T) {
	// A limit on the file size stands in for a full disk: writes beyond it fail in
	// the same way. Go ignores the SIGXFSZ that comes with it.
	if os.Getenv("QCOW2_TEST_FULL") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestAFullDiskLeavesNoPartialOverlay$")
		cmd.Env = append(os.Environ(), "QCOW2_TEST_FULL="+t.TempDir())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	lim := syscall.Rlimit{Cur: 70000, Max: 70000}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &lim); err != nil {
		t.Fatal(err)
	}
	dir := os.Getenv("QCOW2_TEST_FULL")
	if err := CreateOverlay(filepath.Join(dir, "o"), "/base", "raw", 1<<20); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("error %v, want one that matches EFBIG", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// imageKinds are images as qemu-img makes them.
var imageKinds = []struct {
	name string
	opts string
}{
	{"default", ""},
	{"version 2", "compat=0.10"},
	{"512-byte clusters", "cluster_size=512"},
	{"4 KiB clusters", "cluster_size=4k"},
	{"2 MiB clusters", "cluster_size=2M"},
	{"1-bit refcounts", "refcount_bits=1"},
	{"2-bit refcounts in small clusters", "refcount_bits=2,cluster_size=512"},
	{"64-bit refcounts in small clusters", "refcount_bits=64,cluster_size=512"},
	{"8-bit refcounts", "refcount_bits=8,cluster_size=1k"},
	{"32-bit refcounts", "refcount_bits=32"},
	{"metadata preallocated", "preallocation=metadata"},
}

const diskSize = 2<<20 + 512

// scribble writes the same random pieces to d and to want.
func scribble(t *testing.T, r *rand.Rand, d Disk, want []byte, n int) {
	t.Helper()
	for range n {
		at := r.Int64N(int64(len(want)))
		length := min(int64(len(want))-at, 1+r.Int64N(150_000))
		if r.IntN(2) == 0 {
			at, length = at&^511, 512
		}
		b := make([]byte, length)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if _, err := d.WriteAt(b, at); err != nil {
			t.Fatalf("write %d bytes at %d: %v", length, at, err)
		}
		copy(want[at:], b)
	}
}

func mustRead(t *testing.T, d Disk, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := d.ReadAt(got, 0); n != len(want) || err != nil {
		t.Fatalf("read %d bytes: %v", n, err)
	}
	if !bytes.Equal(got, want) {
		i := 0
		for got[i] == want[i] {
			i++
		}
		t.Fatalf("the disk differs from what was written at byte %d", i)
	}
}

func TestWhatIsWrittenIsWhatQEMUReads(t *testing.T) {
	require.Tool(t, "qemu", "qemu-img")
	for _, kind := range imageKinds {
		for _, backing := range []string{"", "raw", "qcow2", "compressed"} {
			if backing != "" && strings.Contains(kind.opts, "prealloc") {
				continue
			}
			t.Run(kind.name+" on "+backing, func(t *testing.T) {
				r := rand.New(rand.NewPCG(1, 2))
				dir := t.TempDir()
				img, raw := filepath.Join(dir, "i"), filepath.Join(dir, "raw")
				want := make([]byte, diskSize)
				args := []string{"create", "-q", "-f", "qcow2"}
				if kind.opts != "" {
					args = append(args, "-o", kind.opts)
				}
				if backing != "" {
					base := filepath.Join(dir, "base")
					for i := range want[:diskSize-5000] { // shorter than the overlay
						want[i] = byte(i>>9) + byte(i)&3
					}
					if err := os.WriteFile(raw, want[:diskSize-5000-(diskSize-5000)%512], 0o600); err != nil {
						t.Fatal(err)
					}
					clear(want[diskSize-5000-(diskSize-5000)%512:])
					switch backing {
					case "raw":
						base = raw
					case "qcow2":
						run(t, "qemu-img", "convert", "-O", "qcow2", raw, base)
					case "compressed":
						run(t, "qemu-img", "convert", "-c", "-O", "qcow2", raw, base)
						backing = "qcow2"
					}
					args = append(args, "-b", base, "-F", backing)
				}
				run(t, "qemu-img", append(args, img, fmt.Sprint(diskSize))...)
				d, err := Open(img, OpenOptions{})
				if err != nil {
					t.Fatal(err)
				}
				mustRead(t, d, want)
				scribble(t, r, d, want, 30)
				mustRead(t, d, want)
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
				run(t, "qemu-img", "check", img)
				if c, err := CheckImage(img); err != nil || c.Corruptions+c.Leaks != 0 {
					t.Errorf("CheckImage: %+v, %v", c, err)
				}
				plain := filepath.Join(dir, "want")
				if err := os.WriteFile(plain, want, 0o600); err != nil {
					t.Fatal(err)
				}
				run(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", plain, img)
			})
		}
	}
}

func TestWhatQEMUWroteIsWhatIsRead(t *testing.T) {
	require.Tool(t, "qemu", "qemu-img", "qemu-io")
	for _, kind := range imageKinds {
		t.Run(kind.name, func(t *testing.T) {
			dir := t.TempDir()
			img, raw := filepath.Join(dir, "i"), filepath.Join(dir, "raw")
			args := []string{"create", "-q", "-f", "qcow2"}
			if kind.opts != "" {
				args = append(args, "-o", kind.opts)
			}
			run(t, "qemu-img", append(args, img, "4M")...)
			cmds := []string{"-c", "write -P 1 0 300k", "-c", "write -P 2 1M 64k", "-c", "write -P 3 3000k 1k", "-c", "discard 64k 64k", "-c", "write -P 4 3M 128k"}
			if !strings.Contains(kind.opts, "0.10") {
				cmds = append(cmds, "-c", "write -z 1M 2k")
			}
			if kind.opts == "" {
				cmds = append(cmds, "-c", "write -c -P 9 2M 64k", "-c", "write -c -P 8 2112k 64k")
			}
			run(t, "qemu-io", append(cmds, img)...)
			run(t, "qemu-img", "convert", "-O", "raw", img, raw)
			want, err := os.ReadFile(raw)
			if err != nil {
				t.Fatal(err)
			}
			d, err := Open(img, OpenOptions{})
			if err != nil {
				t.Fatal(err)
			}
			mustRead(t, d, want)
			// Over what QEMU wrote: zero clusters, compressed ones, plain ones.
			scribble(t, rand.New(rand.NewPCG(3, 4)), d, want, 40)
			mustRead(t, d, want)
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			run(t, "qemu-img", "check", img)
			if err := os.WriteFile(raw, want, 0o600); err != nil {
				t.Fatal(err)
			}
			run(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, img)
		})
	}
}

func TestAnInternalSnapshotSurvivesWhatIsWrittenAfterIt(t *testing.T) {
	require.Tool(t, "qemu", "qemu-img", "qemu-io")
	img := filepath.Join(t.TempDir(), "i")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", img, "4M")
	run(t, "qemu-io", "-c", "write -P 1 0 1M", img)
	run(t, "qemu-img", "snapshot", "-c", "s", img)
	d, err := Open(img, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 4<<20)
	copy(want, bytes.Repeat([]byte{1}, 1<<20))
	mustRead(t, d, want)
	before := snapshotsOf(t, img)
	scribble(t, rand.New(rand.NewPCG(5, 6)), d, want, 40)
	mustRead(t, d, want)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	run(t, "qemu-img", "snapshot", "-c", "later", img)
	after := snapshotsOf(t, img)
	if len(before) != 1 || len(after) != 2 || before[0] != after[0] || after[0].Name != "s" || after[1].Name != "later" || after[1].Sum == after[0].Sum {
		t.Errorf("snapshots before and after writes: %+v, %+v", before, after)
	}
	run(t, "qemu-img", "check", img)
	run(t, "qemu-img", "snapshot", "-a", "s", img)
	out := run(t, "qemu-io", "-c", "read -P 1 0 1M", "-c", "read -P 0 1M 3M", img)
	if strings.Contains(out, "failed") {
		t.Errorf("the snapshot changed:\n%s", out)
	}
}

func snapshotsOf(t *testing.T, path string) []Snapshot {
	t.Helper()
	all, err := Snapshots(path)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAnImageOfSmallClustersGrowsItsRefcountTable(t *testing.T) {
	require.Tool(t, "qemu", "qemu-img")
	dir := t.TempDir()
	img := filepath.Join(dir, "i")
	const size = 12 << 20 // a table of one 512-byte cluster counts 8 MiB
	if err := Create(img, Options{VirtualSize: size, ClusterBits: 9}); err != nil {
		t.Fatal(err)
	}
	d, err := Open(img, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, size)
	for i := range want {
		want[i] = byte(i>>9)*7 + 1
	}
	for at := 0; at < size; at += 1 << 20 {
		if _, err := d.WriteAt(want[at:at+1<<20], int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	mustRead(t, d, want)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	run(t, "qemu-img", "check", img)
	raw := filepath.Join(dir, "raw")
	if err := os.WriteFile(raw, want, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, img)
}

func BenchmarkCreateOverlay(b *testing.B) {
	dir := b.TempDir()
	p := filepath.Join(dir, "o")
	for b.Loop() {
		if err := CreateOverlay(p, "/some/where/base.qcow2", "qcow2", 64<<30); err != nil {
			b.Fatal(err)
		}
		if err := os.Remove(p); err != nil {
			b.Fatal(err)
		}
	}
}
