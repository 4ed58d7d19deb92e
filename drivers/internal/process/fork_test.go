//go:build linux

package process

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func BenchmarkStartingAProgram(b *testing.B) {
	f := forking{path: "/bin/true"}
	for name, start := range map[string]func() (int, error){
		"on a thread of its own": f.do,
		"on any thread": func() (int, error) {
			return syscall.ForkExec(f.path, []string{f.path}, &syscall.ProcAttr{})
		},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				pid, err := start()
				if err != nil {
					b.Fatal(err)
				}
				if _, err := unix.Wait4(pid, nil, 0, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
