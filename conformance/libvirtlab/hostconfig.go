//go:build linux

package libvirtlab

import (
	"fmt"
	"os"
	"path/filepath"
)

// logName is the daemon's log, below its directory.
const logName = "log.txt"

// prepare makes the daemon's directory.
func (d *hostDaemon) prepare() error {
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		return err
	}
	dirs := []string{"home", "config/libvirt", "data", "cache", "run"}
	for _, p := range places {
		dirs = append(dirs, p.below)
	}
	for _, sub := range dirs {
		if err := os.MkdirAll(filepath.Join(d.dir, sub), 0o700); err != nil {
			return err
		}
	}
	// Who may connect is decided by the directory's mode.
	daemon := fmt.Sprintf("unix_sock_dir = %q\nauth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\nlog_level = 3\nlog_outputs = \"3:file:%s\"\n",
		d.dir, filepath.Join(d.dir, logName))
	if err := os.WriteFile(filepath.Join(d.dir, "libvirtd.conf"), []byte(daemon), 0o600); err != nil {
		return err
	}
	where := "config/libvirt/qemu.conf"
	if d.private {
		where = "etc/qemu.conf"
	}
	return os.WriteFile(filepath.Join(d.dir, where), []byte(d.qemuConf()), 0o600)
}

// qemuConf configures libvirt's QEMU driver so that it needs nothing of the host:
// no security module, no cgroups, no namespaces, no other daemon for logs, and as
// the user that it runs as itself.
func (d *hostDaemon) qemuConf() string {
	conf := "security_driver = \"none\"\ncgroup_controllers = []\nnamespaces = []\nstdio_handler = \"file\"\nremember_owner = 0\n"
	if d.private {
		conf += "user = \"root\"\ngroup = \"root\"\ndynamic_ownership = 0\n"
	}
	return conf
}

// environment is the daemon's. In session mode libvirt has its directories by
// the XDG variables. There is no message bus: libvirtd would tell the machine's
// services of ours.
func (d *hostDaemon) environment() []string {
	at := func(sub string) string { return filepath.Join(d.dir, sub) }
	return []string{
		"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "LC_ALL=C", "HOME=" + at("home"),
		"XDG_CONFIG_HOME=" + at("config"), "XDG_DATA_HOME=" + at("data"), "XDG_CACHE_HOME=" + at("cache"), "XDG_RUNTIME_DIR=" + at("run"),
		"DBUS_SYSTEM_BUS_ADDRESS=unix:path=" + at("no-bus"), "DBUS_SESSION_BUS_ADDRESS=unix:path=" + at("no-bus"),
	}
}
