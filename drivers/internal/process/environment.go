//go:build linux

package process

import (
	"os"
	"slices"
	"strings"
)

// passedOn are the variables of this process's environment that programs get: where programs, libraries and the user's files are, the
// language, the time zone, and what a display or a sound card of the host is found by. What else there is, such as the keys and
// passwords of services that a sandbox reports to, is nothing for a process that malware attacks.
var passedOn = []string{
	"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_DIRS", "LD_LIBRARY_PATH",
	"LANG", "LANGUAGE", "TZ", "TERM",
	"DISPLAY", "XAUTHORITY", "WAYLAND_DISPLAY", "XDG_SESSION_TYPE", "PULSE_SERVER", "PIPEWIRE_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS",
}

// passedOnPrefixes begin the names of further ones.
var passedOnPrefixes = []string{"LC_", "QEMU_", "SDL_"}

// Environment is what programs get of this process's environment.
func Environment() []string { return environmentOf(os.Environ()) }

func environmentOf(all []string) []string {
	var env []string
	for _, variable := range all {
		name, _, _ := strings.Cut(variable, "=")
		if slices.Contains(passedOn, name) || slices.ContainsFunc(passedOnPrefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			env = append(env, variable)
		}
	}
	return env
}
