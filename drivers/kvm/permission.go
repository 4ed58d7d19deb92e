//go:build linux

package kvm

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/kvm/rpc"
)

// whoMayNot adds to an error about a file that could not be opened who it was that may not. libvirt 9.0.0 names the user for some files
// alone ("as uid:64055, gid:108"), and QEMU, who opens the disks, for none.
func (v *vm) whoMayNot(ctx context.Context, err error) error {
	said, is := errors.AsType[*rpc.Error](err)
	switch {
	case !is && errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; this program runs as the user %s", err, userName(os.Geteuid(), os.Getegid(), true))
	case !is || said.Code == 0 || !strings.Contains(said.Message, "Permission denied"):
		return err
	}
	if who := v.d.machinesUser(ctx); who != "" {
		return fmt.Errorf("%w; libvirt runs its machines as the user %s, who has to be let at the file and at the directories above it", err, who)
	}
	return err
}

// machinesUser is the user that libvirt runs QEMU as; empty if that is not known.
func (d *Machinery) machinesUser(ctx context.Context) string {
	found, err := d.capabilities(ctx)
	if err != nil {
		return ""
	}
	if uid, gid, is := dacUser(found); is {
		return userName(uid, gid, d.remote == "")
	}
	// A daemon of a user cannot run QEMU as anybody else, and says nothing of it.
	if d.client.Local() && strings.HasSuffix(d.client.URI(), "/session") {
		return userName(os.Geteuid(), os.Getegid(), true)
	}
	return ""
}

// capabilities is what libvirt says that the host can do, in XML.
func (d *Machinery) capabilities(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, stateTime)
	defer cancel()
	found := new(string)
	err := d.client.Do(ctx, "asking for what the host can do", func(l *libvirt.Libvirt) (err error) {
		*found, err = l.ConnectGetCapabilities()
		return err
	})
	if err != nil {
		return "", err
	}
	return *found, nil
}

// dacUser is the user and group of QEMU in libvirt's capabilities: <baselabel type='kvm'>+64055:+108</baselabel> of the security model dac.
func dacUser(capabilities string) (uid, gid int, is bool) {
	var host struct {
		Models []struct {
			Model  string   `xml:"model"`
			Labels []string `xml:"baselabel"`
		} `xml:"host>secmodel"`
	}
	if xml.Unmarshal([]byte(capabilities), &host) != nil {
		return 0, 0, false
	}
	for _, m := range host.Models {
		if m.Model != "dac" || len(m.Labels) == 0 {
			continue
		}
		if n, err := fmt.Sscanf(m.Labels[0], "+%d:+%d", &uid, &gid); n == 2 && err == nil {
			return uid, gid, true
		}
	}
	return 0, 0, false
}

// userName is a user in words, by name if the host is this one and has it.
func userName(uid, gid int, here bool) string {
	numbers := fmt.Sprintf("%d:%d", uid, gid)
	if here {
		if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
			return fmt.Sprintf("%s (%s)", u.Username, numbers)
		}
	}
	return numbers
}
