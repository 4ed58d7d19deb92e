package rpc

import (
	"strings"
	"testing"
)

func TestAURIIsReadOrRefusedWithWhatToDo(t *testing.T) {
	for _, tt := range []struct {
		uri   string
		name  string   // what the daemon is asked to open
		error []string // or what the error says
	}{
		{uri: "", name: "qemu:///system"},
		{uri: "/run/libvirt/libvirt-sock", name: "qemu:///system"},
		{uri: "qemu+unix:///session?socket=/x", name: "qemu:///session"},
		{uri: "qemu+tcp://h/system?name=test:///default", name: "test:///default"},
		{uri: "qemu://h/system?pkipath=/p&no_verify=1", name: "qemu:///system"},
		{uri: "qemu+ssh://u@h:22/system?keyfile=/k&known_hosts=/n&known_hosts_verify=ignore&socket=/s&mode=auto", name: "qemu:///system"},
		{uri: "qemu+unix:///system?sokcet=/x", error: []string{`no parameter "sokcet"`, "mode, name, socket"}},
		{uri: "qemu+tcp://h/system?keyfile=/k", error: []string{`over tcp has no parameter "keyfile"`}},
		{uri: "qemu+ssh://h/system?password=hushed", error: []string{`no parameter "password"`, "keyfile"}},
		{uri: "qemu+ssh://u:hushed@h/system", error: []string{"holds a password", "keyfile=PATH"}},
		{uri: "qemu+ssh://h/system?a=%zz", error: []string{"cannot be read", "name=value"}},
		{uri: "qemu+unix:///system?mode=direct", error: []string{"mode=direct", "socket=PATH"}},
		{uri: "qemu+ssh://h/system?mode=legacy", error: []string{"mode=legacy", "socket=PATH"}},
		{uri: "qemu+unix://h/system", error: []string{"names the host h", "+ssh://"}},
		{uri: "qemu+pigeon://h/system?x=y", error: []string{`"pigeon" is not supported`}},
		{uri: "nonsense", error: []string{"not a libvirt URI"}},
	} {
		got, err := parseURI(tt.uri)
		switch {
		case len(tt.error) == 0 && err != nil:
			t.Errorf("%s: %v", tt.uri, err)
		case len(tt.error) == 0 && got.name != tt.name:
			t.Errorf("%s opens %s, not %s", tt.uri, got.name, tt.name)
		case len(tt.error) > 0 && err == nil:
			t.Errorf("%s is taken", tt.uri)
		}
		for _, want := range tt.error {
			if err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v: %q is not said", tt.uri, err, want)
			}
		}
		if err != nil && strings.Contains(err.Error(), "hushed") {
			t.Errorf("the error shows what is secret: %v", err)
		}
	}
}
