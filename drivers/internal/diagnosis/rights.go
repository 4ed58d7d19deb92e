//go:build linux

package diagnosis

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// whoami is the effective user of this process, in words: a name alone, such as nobody, may be read as something else.
func whoami() string { return "the user " + userName(os.Geteuid()) }

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

func groupName(gid int) string {
	if g, err := user.LookupGroupId(strconv.Itoa(gid)); err == nil {
		return g.Name
	}
	return fmt.Sprintf("%d", gid)
}

// Denied says who owns the file that keeps the effective user from path, which is that file or a directory above it, and what can be
// done; empty if nothing is seen that does.
func Denied(path string) (why, do string) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", ""
	}
	barrier := path
	for dir := range above(path) {
		if unix.Faccessat(unix.AT_FDCWD, dir, unix.X_OK, unix.AT_EACCESS) != nil {
			barrier = dir
			break
		}
	}
	info, err := os.Stat(barrier)
	if err != nil {
		return "", ""
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", ""
	}
	owner, group := userName(int(s.Uid)), groupName(int(s.Gid))
	if os.Geteuid() == 0 && info.Mode().IsRegular() && info.Mode().Perm()&0o111 == 0 {
		// Root may do all else.
		return fmt.Sprintf("%s may be executed by nobody (mode %04o)", path, info.Mode().Perm()), fmt.Sprintf("correct the path; if it is the right program, chmod +x %s", path)
	}
	why = fmt.Sprintf("%s belongs to %s, group %s, mode %04o, and this program runs as %s", barrier, owner, group, info.Mode().Perm(), whoami())
	need := fs.FileMode(0o040)
	switch {
	case info.Mode()&(fs.ModeSocket|fs.ModeDevice) != 0:
		need = 0o060
	case barrier == path && info.IsDir():
		need = 0o030 // it was to be written to
	case info.IsDir():
		need = 0o010
	}
	if int(s.Gid) != 0 && info.Mode().Perm()&need == need {
		return why, fmt.Sprintf("add %s to the group %s (usermod -aG %s %s, then log in again), or run this as %s", whoami(), group, group, userName(os.Geteuid()), owner)
	}
	if barrier == path && info.IsDir() {
		return why, fmt.Sprintf("name a directory that belongs to %s (as root: install -d -m 700 -o %s DIRECTORY), or run this as %s", whoami(), userName(os.Geteuid()), owner)
	}
	return why, fmt.Sprintf("run this as %s, or let %s at it (chown, chgrp and chmod)", owner, whoami())
}

// above are the directories above a path, from the root on.
func above(path string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		at := "/"
		for _, part := range strings.Split(strings.Trim(filepath.Dir(path), "/"), "/") {
			if !yield(at) {
				return
			}
			at = filepath.Join(at, part)
		}
		yield(at)
	}
}

// OpenToOthers says who besides its owner may write to a file, or replace it because the directory that it is in may be written to;
// empty for nobody.
func OpenToOthers(path string) (why, do string) {
	info, err := os.Stat(path)
	if err != nil {
		return "", ""
	}
	if info.Mode().Perm()&0o002 != 0 {
		return fmt.Sprintf("%s may be written to by everybody (mode %04o)", path, info.Mode().Perm()), "close it with chmod o-w " + path
	}
	dir, err := os.Stat(filepath.Dir(path))
	if err == nil && dir.Mode().Perm()&0o002 != 0 && dir.Mode()&os.ModeSticky == 0 {
		return fmt.Sprintf("%s, in which %s is, may be written to by everybody (mode %04o)", filepath.Dir(path), filepath.Base(path), dir.Mode().Perm()), "close it with chmod o-w " + filepath.Dir(path)
	}
	return "", ""
}

// Barred is the directory above a file that a user and group may not enter, as far as owners and modes tell; empty if there is none. Other groups of
// the user are not known here.
func Barred(path string, uid, gid int) string {
	if uid == 0 {
		return ""
	}
	for dir := range above(path) {
		info, err := os.Stat(dir)
		if err != nil {
			return "" // it cannot be seen from here
		}
		s, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return ""
		}
		need := fs.FileMode(0o001)
		switch {
		case int(s.Uid) == uid:
			need = 0o100
		case int(s.Gid) == gid:
			need = 0o010
		}
		if info.Mode().Perm()&need == 0 {
			return dir
		}
	}
	return ""
}
