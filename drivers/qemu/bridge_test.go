//go:build linux

package qemu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheBridgesOfQEMUsOwnHelperAreFound(t *testing.T) {
	got := bridges([]string{"-netdev", "type=bridge,br=br1,id=n", "-netdev", "bridge,id=m", "-nic", "bridge,br=br1", "-netdev", "bridge,br=br2,helper=/x", "-netdev", "tap,ifname=t", "-net", "nic", "-m", "64"})
	if diff := cmp.Diff([]string{"br1", "br0"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestABridgeIsDeniedAsQEMUsHelperDeniesIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bridge.conf")
	more := path + ".more"
	if err := os.WriteFile(more, []byte("allow br7\ndeny br8\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if why := bridgeDenied("br0", path); !strings.Contains(why, path+": no such file") {
		t.Errorf("without a list: %q", why)
	}
	for text, denied := range map[string]bool{
		"":                                       true,
		"# all of them\nallow all\n":             false,
		"allow br0\n":                            false,
		"  allow   br0  ":                        false,
		"allow br1\n":                            true,
		"deny br0\nallow all\n":                  true,
		"allow br0\ndeny all\n":                  true,
		"include " + more + "\n":                 true,
		"include " + more + "\nallow br0\n":      false,
		"include " + more + ".none\nallow br0\n": true, // which the helper refuses
		"#allow br0\n":                           true,
		"allow all\ndeny br1\ninclude " + more:   false,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if why := bridgeDenied("br0", path); (why != "") != denied {
			t.Errorf("with %q it says %q", text, why)
		}
	}
}
