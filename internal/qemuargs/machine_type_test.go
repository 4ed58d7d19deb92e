package qemuargs

import (
	"strings"
	"testing"
)

func TestASnapshotOfAnotherMachineTypeIsToldWhereThatCanBeTold(t *testing.T) {
	for _, tt := range []struct {
		saved string
		args  []string
		want  string // empty: nothing is wrong, or nobody knows
	}{
		{"pc-q35-7.2", []string{"-M", "q35"}, ""},
		{"pc-q35-6.2", []string{"-M", "q35"}, `-M q35 is pc-q35-7.2 in QEMU 7.2, which does not load it; write "-M", "pc-q35-6.2"`},
		{"pc-q35-6.2", []string{"-machine", "type=q35,accel=kvm"}, "-machine q35 is pc-q35-7.2"},
		{"pc-q35-6.2", []string{"--machine", "accel=kvm,type=pc-q35-6.2"}, ""},
		{"pc-q35-7.2", []string{"-M", "pc", "-M", "q35"}, ""},
		{"pc-q35-7.2", []string{"-m", "64"}, "the machine without -M is pc-i440fx-7.2"},
		{"pc-i440fx-7.2", nil, ""},
		{"", []string{"-M", "q35"}, ""},
		{"isapc", []string{"-M", "q35"}, ""},
		{"pc-q35-7.2", []string{"-M", "microvm"}, ""},
	} {
		got := OtherType(tt.saved, tt.args, Version{7, 2})
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s and %q: %q, want %q", tt.saved, tt.args, got, tt.want)
		}
	}
}
