package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// The areas of what is no driver's.
const (
	areaUser     = "user"
	areaTogether = "configurations together"
)

// userFindings say whose rights all others are about.
func userFindings(parts []doctorPart) []machinery.Finding {
	me := os.Geteuid()
	f := machinery.Finding{Area: areaUser, Subject: accountName(me), Level: machinery.LevelOK, What: "user " + strconv.Itoa(me) + groupsInWords()}
	for _, p := range parts {
		info, err := os.Stat(p.File)
		if err != nil {
			continue
		}
		if s, ok := info.Sys().(*syscall.Stat_t); ok && me == 0 && s.Uid != 0 {
			owner := accountName(int(s.Uid))
			f.Level = machinery.LevelWarning
			f.What = fmt.Sprintf("this runs as root, and %s belongs to %s, who may not be let at what root is", p.File, owner)
			f.Do = fmt.Sprintf("if the sandbox runs as %s, run this as %s too: sudo -u %s machinery doctor", owner, owner, sudoUser(int(s.Uid)))
			break
		}
	}
	return []machinery.Finding{f}
}

// accountName is a user in words.
func accountName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return "user " + strconv.Itoa(uid)
}

// sudoUser is a user as sudo takes one.
func sudoUser(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return "'#" + strconv.Itoa(uid) + "'"
}

// groupsInWords are the groups of this process.
func groupsInWords() string {
	ids, err := os.Getgroups()
	if err != nil {
		return ""
	}
	if gid := os.Getegid(); !slices.Contains(ids, gid) {
		ids = append([]int{gid}, ids...)
	}
	var names []string
	for _, id := range ids {
		name := strconv.Itoa(id)
		if g, err := user.LookupGroupId(name); err == nil {
			name = g.Name
		}
		names = append(names, name)
	}
	return ", groups " + strings.Join(names, ", ")
}

// commonFindings say what two configurations have that may be there once: each
// of them alone is right.
func commonFindings(parts []doctorPart) []machinery.Finding {
	if len(parts) < 2 {
		return nil
	}
	type claim struct{ file, place string }
	type value struct{ what, text string }
	first := map[value]claim{}
	var found []machinery.Finding
	for _, p := range parts {
		d, err := machinery.Lookup(p.Driver)
		if err != nil || p.File == "" {
			continue
		}
		doc, _ := config.Options{Static: true}.Load(p.File, d.Schema)
		if doc == nil {
			continue // it is said where the driver is told of
		}
		for _, m := range doc.Machines() {
			for _, v := range []value{{"name", m.Name}, {"ip", machineText(d.Schema, m, "ip")}, {"mac_address", machineText(d.Schema, m, "mac_address")}} {
				if v.text == "" {
					continue
				}
				mine := claim{p.File, m.Position().String()}
				other, taken := first[v]
				switch {
				case !taken:
					first[v] = mine
				case other.file != mine.file: // else it is said of the file
					found = append(found, machinery.Finding{Area: areaTogether, Subject: mine.place, Level: machinery.LevelProblem,
						What: fmt.Sprintf("its %s %s is also that of the machine at %s", valueNames[v.what], v.text, other.place),
						Do:   "give each machine its own"})
				}
			}
		}
	}
	if len(found) == 0 {
		return []machinery.Finding{{Area: areaTogether, Subject: "machines", Level: machinery.LevelOK, What: "no two have one name or address"}}
	}
	return found
}

var valueNames = map[string]string{"name": "name", "ip": "address", "mac_address": "network card's address"}

// machineText is a machine's value of a key, in one form; empty if the schema
// has no such key.
func machineText(s *config.Schema, m config.Entry, key string) string {
	for _, f := range s.Fields {
		machines, is := f.Type.(config.Machines)
		if !is {
			continue
		}
		for _, field := range machines.Fields {
			if field.Key != key {
				continue
			}
			switch field.Type.(type) {
			case config.String, config.IPAddress, config.MACAddress:
				return canonical(m.String(key))
			}
		}
	}
	return ""
}

// canonical is an address in the one way of writing it; other text as it is.
func canonical(text string) string {
	if ip, err := netip.ParseAddr(text); err == nil {
		return ip.Unmap().String()
	}
	if mac, err := net.ParseMAC(text); err == nil {
		return mac.String()
	}
	return text
}
