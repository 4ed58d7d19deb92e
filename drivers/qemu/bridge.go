//go:build linux

package qemu

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// bridgeACL is the file in which QEMU's helper for bridges looks which of them it may put a machine on. Distributions build QEMU with this
// path; one of one's own may have another, so that what is not in it can only be warned of.
// (https://wiki.qemu.org/Features/HelperNetworking)
const bridgeACL = "/etc/qemu/bridge.conf"

// bridges are the bridges that arguments have QEMU's own helper put the machine on.
func bridges(args []string) []string {
	var found []string
	for i := 0; i+1 < len(args); i++ {
		if name, is := optionName(args[i]); !is || name != "netdev" && name != "nic" && name != "net" {
			continue
		}
		kind, has := taken(args[i+1], "type")
		if kind != "bridge" || has["helper"] != "" {
			continue
		}
		bridge := has["br"]
		if bridge == "" {
			bridge = "br0" // QEMU's default
		}
		if !slices.Contains(found, bridge) {
			found = append(found, bridge)
		}
	}
	return found
}

// bridgeDenied is why QEMU's helper would not put a machine on a bridge, by its list at path; empty if it would, or that cannot be told.
func bridgeDenied(bridge, path string) string {
	var rules bridgeRules
	err := rules.read(bridge, path, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("it is put on the bridge %s by QEMU's helper, which cannot read what bridges it may use: %v", bridge, err)
	case err != nil || rules.allow && !rules.deny:
		return ""
	}
	return fmt.Sprintf("it is put on the bridge %s by QEMU's helper, and %s does not allow that", bridge, path)
}

// bridgeRules is what a list says about one bridge: some line has to allow it, and none may deny it.
type bridgeRules struct{ allow, deny bool }

// read takes in a list, with those that it includes.
func (r *bridgeRules) read(bridge, path string, depth int) error {
	const deepest = 8
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) != 2 {
			continue // blank, or a comment, or what the helper refuses altogether
		}
		switch what, which := words[0], words[1]; {
		case what == "include" && depth < deepest:
			if err := r.read(bridge, which, depth+1); err != nil {
				return err
			}
		case which != bridge && which != "all":
		case what == "allow":
			r.allow = true
		case what == "deny":
			r.deny = true
		}
	}
	return lines.Err()
}
