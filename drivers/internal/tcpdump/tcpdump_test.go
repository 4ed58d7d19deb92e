package tcpdump

import (
	"net/netip"
	"slices"
	"testing"
)

func TestTheFilterIsOneArgumentBehindTheOptions(t *testing.T) {
	args, err := Args("br0", "192.0.2.7", []netip.AddrPort{netip.MustParseAddrPort("192.0.2.7:8000"), netip.MustParseAddrPort("[2001:db8::1]:2042")})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"-n", "-U", "--immediate-mode", "-s", "262144", "-i", "br0", "-w", "-", "--",
		"host 192.0.2.7 and not ((src host 192.0.2.7 and src port 8000) or (dst host 192.0.2.7 and dst port 8000) or " +
			"(src host 2001:db8::1 and src port 2042) or (dst host 2001:db8::1 and dst port 2042))"}
	if !slices.Equal(args, want) {
		t.Errorf("arguments are %q\nwant %q", args, want)
	}
}

func TestWhatCouldMeanSomethingElseIsRefused(t *testing.T) {
	for _, c := range [][2]string{{"", "192.0.2.7"}, {"br0/../x", "192.0.2.7"}, {"br0 or", "192.0.2.7"}, {"br0", ""}, {"br0", "win10"}, {"br0", "192.0.2.7 or tcp"}, {"br0", "fe80::1%br0"}} {
		if args, err := Args(c[0], c[1], nil); err == nil {
			t.Errorf("%q became %q", c, args)
		}
	}
}

func TestOnlyItsOwnWordsMeanThatItRecords(t *testing.T) {
	// Seen with tcpdump 4.99.3, where nothing else is said.
	if Ready("tcpdump: nope0: No such device exists\n(No such device exists)") {
		t.Error("it has failed")
	}
	if Ready("tcpdump: listening on lo, link-type EN10MB (Ethernet)") {
		t.Error("it is still writing, and needs somebody to read it")
	}
	for _, said := range []string{
		"tcpdump: listening on lo, link-type EN10MB (Ethernet), snapshot length 262144 bytes",
		"tcpdump: listening on lo, link-type EN10MB (Ethernet), capture size 262144 bytes", // 4.9
	} {
		if !Ready(said) {
			t.Errorf("it records: %s", said)
		}
	}
}
