//go:build linux

package qemu

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// What can be wrong with the values of single options. Each method returns the problem, or nothing.

func (c *argChecker) action(value string) string {
	for _, s := range settings(value) {
		if s.key == "shutdown" && s.value != "poweroff" {
			return whyShutdown
		}
	}
	return ""
}

func (c *argChecker) global(value string) string {
	if strings.HasPrefix(value, "migration.") || slices.Contains(settings(value), setting{"driver", "migration"}) {
		return "the driver sets the properties of the migration, by which it learns that the snapshot is loaded"
	}
	return ""
}

func (c *argChecker) set(value string) string {
	if strings.Contains(value, "."+ownPrefix) {
		return fmt.Sprintf("what is named %s… is the driver's own", ownPrefix)
	}
	return ""
}

func (c *argChecker) chardev(value string) string {
	for _, s := range settings(value) {
		if s.key == "id" && strings.HasPrefix(s.value, ownPrefix) {
			return fmt.Sprintf("ids that begin with %s are the driver's own", ownPrefix)
		}
	}
	return c.descriptors(value)
}

func (c *argChecker) serial(value string) string {
	if strings.HasPrefix(value, "mon:") {
		return whyMonitor
	}
	if value == "chardev:"+qmpID || value == "chardev:"+readID {
		return fmt.Sprintf("what is named %s… is the driver's own", ownPrefix)
	}
	return ""
}

// descriptors refuses numbers of descriptors: QEMU would take one of the driver's sockets for it.
func (c *argChecker) descriptors(value string) string {
	if strings.HasPrefix(value, "{") {
		node := map[string]any{}
		if err := json.Unmarshal([]byte(value), &node); err != nil {
			return "it is not JSON: " + err.Error()
		}
		return c.descriptorsIn(node)
	}
	for _, s := range settings(value) {
		if problem := c.descriptor(s.key, s.value); problem != "" {
			return problem
		}
	}
	return ""
}

// descriptorsIn is descriptors for a value in JSON.
func (c *argChecker) descriptorsIn(node map[string]any) string {
	for key, v := range node {
		problem := ""
		if inner, is := v.(map[string]any); is {
			problem = c.descriptorsIn(inner)
		} else {
			problem = c.descriptor(key, fmt.Sprint(v))
		}
		if problem != "" {
			return problem
		}
	}
	return ""
}

// descriptor looks at one setting.
func (c *argChecker) descriptor(key, value string) string {
	key = key[strings.LastIndexByte(key, '.')+1:]
	switch {
	case value == "":
	case slices.Contains([]string{"fd", "fds", "vhostfd", "vhostfds", "sock_fd"}, key):
		return whyFDs
	case key == "chardev" && strings.HasPrefix(value, ownPrefix):
		return fmt.Sprintf("what is named %s… is the driver's own", ownPrefix)
	}
	return ""
}

// shared refuses directories of the host that the guest can write to.
func (c *argChecker) shared(value string) string {
	list := settings(value)
	if slices.Contains(list, setting{"readonly", "on"}) || slices.Contains(list, setting{"synth", "on"}) {
		return ""
	}
	return whyReverts + "; add readonly=on"
}

// writable checks the path of a disk that the guest can write to.
func (c *argChecker) writable(path string) string {
	switch {
	case strings.Contains(path, placeholder):
		return ""
	case c.isBase(path):
		return c.namesBase()
	}
	return c.plainMedium(path)
}

func (c *argChecker) drive(value string) string {
	last := map[string]string{} // of a key that is there twice QEMU takes the last
	named := false
	for _, s := range settings(value) {
		last[s.key] = s.value
		if s.key != "file" && !strings.HasSuffix(s.key, ".filename") {
			continue
		}
		switch {
		case strings.Contains(s.value, placeholder):
			c.disks++
			return ""
		case c.isBase(s.value):
			return c.namesBase()
		}
		named = named || s.value != ""
	}
	if !named || last["media"] == "cdrom" || last["readonly"] == "on" || last["read-only"] == "on" || last["snapshot"] == "on" {
		return ""
	}
	return c.driveMedium(value)
}

// isBase is whether a path means the base disk, by whichever of its names.
func (c *argChecker) isBase(path string) bool {
	if c.disk == nil {
		return false
	}
	info, err := os.Stat(strings.TrimPrefix(path, "file:"))
	return err == nil && os.SameFile(info, c.disk)
}

func (c *argChecker) namesBase() string {
	return fmt.Sprintf("it names the machine's base disk %s, which nothing may write to; write %s instead", c.diskPath, placeholder)
}
