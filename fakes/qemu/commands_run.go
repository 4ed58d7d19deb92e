//go:build linux

package qemu

import (
	"fmt"
	"slices"
	"strings"
)

// runCommands change or tell the run state.
var runCommands = map[string]command{
	"query-status":     {run: queryStatus},
	"cont":             {run: cont},
	"stop":             {run: stop},
	"system_reset":     {run: systemReset},
	"system_powerdown": {run: systemPowerdown},
	"system_wakeup":    {run: systemWakeup},
	"quit":             {run: quit},
	"human-monitor-command": {
		args: []arg{{name: "command-line", kind: kindString}, {name: "cpu-index", kind: kindInt, optional: true}},
		run:  humanMonitorCommand,
	},
}

func queryStatus(m *machine, _ *session, _ *dict) (any, error) {
	return d("running", m.running(), "singlestep", false, "status", m.status), nil
}

// errDumping is the answer to whatever a dump under way does not allow.
func errDumping() error { return generic("There is a dump in process, please wait.") }

func cont(m *machine, _ *session, _ *dict) (any, error) {
	switch {
	case m.dump.active():
		return nil, errDumping()
	case m.status == stateShutdown || m.status == stateInternal:
		return nil, generic("Resetting the Virtual Machine is required")
	case m.status == stateFinish:
		return nil, generic("Migration is not finalized yet")
	case m.status == stateInmigrate:
		m.autostart = true // it starts when the state is there, if that was saved running
		return nil, nil
	}
	if err := m.activate(); err != nil {
		return nil, err
	}
	m.start()
	return nil, nil
}

func stop(m *machine, _ *session, _ *dict) (any, error) {
	switch {
	case m.dump.active():
		return nil, errDumping()
	case m.status == stateInmigrate:
		m.autostart = false
	default:
		m.stop(statePaused)
	}
	return nil, nil
}

func systemReset(m *machine, _ *session, _ *dict) (any, error) {
	m.reset("host-qmp-system-reset")
	return nil, nil
}

func systemPowerdown(m *machine, _ *session, _ *dict) (any, error) {
	m.event("POWERDOWN", nil)
	m.guest.PressPowerButton()
	return nil, nil
}

func systemWakeup(*machine, *session, *dict) (any, error) {
	return nil, generic("Unable to wake up: guest is not in suspended state")
}

func quit(m *machine, _ *session, _ *dict) (any, error) {
	if !m.staying {
		m.shutdown(false, "host-qmp-quit")
	}
	return nil, nil
}

// Suffer states, each with the event that comes before the STOP of it.
var misfortunes = map[string]func(m *machine){
	statePanicked: func(m *machine) { m.event("GUEST_PANICKED", d("action", "pause")) },
	stateIOError: func(m *machine) {
		device := "ide0-hd0"
		if len(m.drives) > 0 {
			device = m.drives[0].device(m.machine)
		}
		m.event("BLOCK_IO_ERROR", d("device", device, "nospace", true, "node-name", "#block100", "reason", "No space left on device", "operation", "write", "action", "stop"))
	},
	stateWatchdog: func(m *machine) { m.event("WATCHDOG", d("action", "pause")) },
	stateInternal: func(*machine) {},
}

// suffer lets the machine meet a misfortune.
func (m *machine) suffer(status string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	before, ok := misfortunes[status]
	if !ok {
		return fmt.Errorf("%q is no misfortune that the fake emulator knows", status)
	}
	if !m.running() {
		return fmt.Errorf("the machine is %s: only a running one can meet %q", m.status, status)
	}
	before(m)
	m.stop(status)
	return nil
}

// humanMonitorCommand knows the few commands of the human monitor that programs
// use.
func humanMonitorCommand(m *machine, s *session, args *dict) (any, error) {
	return m.human(s, args.str("command-line")), nil
}

func (m *machine) human(s *session, text string) string {
	fields := strings.Fields(text)
	if len(fields) == 0 {
		return ""
	}
	switch strings.Join(fields, " ") {
	case "info status":
		status := "running"
		if !m.running() {
			status = "paused"
			if m.status != statePaused {
				status += " (" + m.status + ")"
			}
		}
		return "VM status: " + status + "\r\n"
	case "info name":
		if m.name == "" {
			return ""
		}
		return m.name + "\r\n"
	case "info version":
		return fmt.Sprintf("%d.%d.%d%s\r\n", versionMajor, versionMinor, versionMicro, versionPackage)
	case "info uuid":
		return m.uuidText() + "\r\n"
	case "info network":
		return m.networkInfo()
	case "info kvm":
		if strings.HasPrefix(m.accel, "kvm") {
			return "kvm support: enabled\r\n"
		}
		return "kvm support: disabled\r\n"
	}
	simple := map[string]func(*machine, *session, *dict) (any, error){
		"stop": stop, "s": stop, "cont": cont, "c": cont, "system_reset": systemReset, "system_powerdown": systemPowerdown, "quit": quit, "q": quit, "system_wakeup": systemWakeup,
	}
	if run, ok := simple[fields[0]]; ok {
		if len(fields) > 1 {
			name := fields[0]
			for _, both := range []string{"cont|c", "stop|s", "quit|q"} {
				if slices.Contains(strings.Split(both, "|"), name) {
					name = both
				}
			}
			return fmt.Sprintf("%s: extraneous characters at the end of line\r\nTry \"help %s\" for more information\r\n", name, fields[0])
		}
		if _, err := run(m, s, d()); err != nil {
			return "Error: " + err.Error() + "\r\n"
		}
		return ""
	}
	if fields[0] == "info" && len(fields) > 1 {
		return fmt.Sprintf("unknown command: 'info %s'\r\n", fields[1])
	}
	return fmt.Sprintf("unknown command: '%s'\r\n", fields[0])
}

func (m *machine) uuidText() string {
	if m.uuid == "" {
		return "00000000-0000-0000-0000-000000000000"
	}
	return m.uuid
}
