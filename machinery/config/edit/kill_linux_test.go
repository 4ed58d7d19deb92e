package edit

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// childEnv makes the test binary a program that adds machines to the file that it names until it is killed.
const childEnv = "MACHINERIES_TEST_EDIT_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		child(path)
	}
	os.Exit(m.Run())
}

// child adds machines, and takes them out again when there are enough.
func child(path string) {
	fmt.Println("begins")
	for {
		err := Update(path, testSchema(), func(f *File) error {
			n := len(f.now.doc.Machines())
			if n > most {
				for i := n - 1; i > 0; i-- {
					if err := f.RemoveMachine(fmt.Sprint("m", i)); err != nil {
						return err
					}
				}
				return nil
			}
			return f.AddMachine(fmt.Sprint("m", n), machineNumber(n))
		})
		if err != nil {
			fmt.Println("wrong:", err)
			os.Exit(1)
		}
	}
}

// most is how many machines a child adds.
const most = 20

func machineNumber(n int) []Setting {
	return []Setting{{"ip", fmt.Sprint("10.1.0.", n)}, {"version", strings.Repeat("long ", 1000) + "x"}, {"tags", []string{"a", "b"}}}
}

// TestAKilledProgramLeavesTheOldFileOrTheNew kills programs that add machines. MACHINERY_KILLS is how many.
func TestAKilledProgramLeavesTheOldFileOrTheNew(t *testing.T) {
	kills := 20
	if s := os.Getenv("MACHINERY_KILLS"); s != "" {
		var err error
		if kills, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	path := write(t, smallFile)
	versions := map[string]bool{smallFile: true}
	f := open(t, smallFile)
	for n := 1; n <= most+1; n++ {
		if err := f.AddMachine(fmt.Sprint("m", n), machineNumber(n)); err != nil {
			t.Fatal(err)
		}
		versions[string(f.Bytes())] = true
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	seen, leftOver := map[string]bool{}, 0
	for i := range kills {
		killOne(t, path, time.Duration(random.Int64N(int64(60*time.Millisecond))))
		text := read(t, path)
		if !versions[text] {
			t.Fatalf("after kill %d the file is none that was ever saved:\n%s", i+1, text)
		}
		seen[text] = true
		temporaries, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
		if err != nil || len(temporaries) > 1 {
			t.Fatalf("after kill %d there are %q, %v", i+1, temporaries, err)
		}
		leftOver += len(temporaries)
	}
	t.Logf("%d kills: %d different files were found, and %d temporaries", kills, len(seen), leftOver)
	if len(seen) < 2 {
		t.Error("no program came so far as to write anything")
	}
	if err := withMachine(t, path).Save(); err != nil {
		t.Fatal(err)
	}
	alone(t, filepath.Dir(path), "test.yaml")
}

// killOne starts a program and kills it some time after it has begun.
func killOne(t *testing.T, path string, after time.Duration) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if lines.Scan(); lines.Text() != "begins" {
		t.Errorf("the program says %q, %v", lines.Text(), lines.Err())
	}
	time.Sleep(after) // the moment of its death is to be any
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	for lines.Scan() {
		t.Errorf("the program says %q", lines.Text())
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
		t.Errorf("the program has ended by itself: %v", err)
	}
}
