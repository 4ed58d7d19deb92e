//go:build linux

package main

import (
	"strings"
	"testing"
)

func TestTheFakesTakeTheirOwnArguments(t *testing.T) {
	for _, c := range []struct {
		args   []string
		status int
		out    string
		err    string
	}{
		{[]string{"fake", "qemu", "--version"}, 0, "QEMU emulator version", ""},
		{[]string{"fake", "qemu", "--", "--version"}, 0, "QEMU emulator version", ""},
		{[]string{"fake", "qemu", "-frobnicate"}, 1, "", "-frobnicate: invalid option"},
		{[]string{"fake", "qemu-img", "--version"}, 0, "qemu-img version", ""},
		{[]string{"fake", "qemu-img", "info", "/nowhere"}, 1, "", "/nowhere"},
		{[]string{"fake", "libvirtd", "--socket", "/nowhere/s"}, 1, "", "/nowhere/s"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			r := runCLI(t, c.args...)
			r.want(t, c.status, "")
			if !strings.Contains(r.out, c.out) || !strings.Contains(r.err, c.err) {
				t.Errorf("stdout:\n%s\nstderr:\n%s", r.out, r.err)
			}
		})
	}
}
