//go:build linux

package qemu

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// migration is what query-migrate tells, of either direction.
type migration struct {
	status    string // "" before there was one
	desc      string
	incoming  bool // started by migrate-incoming or -incoming
	begun     time.Time
	took      time.Duration
	sent      int64
	cancelled bool

	capabilities map[string]bool
	parameters   *dict
}

func (g *migration) active() bool {
	return slices.Contains([]string{"setup", "active", "cancelling", "device"}, g.status)
}

var migrationCommands = map[string]command{
	"migrate": {args: []arg{{name: "uri", kind: kindString}, {name: "blk", kind: kindBool, optional: true}, {name: "inc", kind: kindBool, optional: true},
		{name: "detach", kind: kindBool, optional: true}, {name: "resume", kind: kindBool, optional: true}}, run: migrate},
	"migrate-incoming":           {args: []arg{{name: "uri", kind: kindString}}, run: migrateIncoming},
	"migrate_cancel":             {run: migrateCancel},
	"query-migrate":              {run: queryMigrate},
	"query-migrate-capabilities": {run: queryMigrateCapabilities},
	"query-migrate-parameters":   {run: queryMigrateParameters},
	"migrate-set-capabilities":   {args: []arg{{name: "capabilities", kind: kindList, members: []arg{{name: "capability", kind: kindEnum, values: capabilityNames}, {name: "state", kind: kindBool}}}}, run: migrateSetCapabilities},
	"migrate-set-parameters":     {args: parameterArgs(), run: migrateSetParameters},
}

// capabilityNames are QEMU 7.2's, in its order. Only "events" changes what the fake
// does.
var capabilityNames = strings.Fields(`xbzrle rdma-pin-all auto-converge zero-blocks compress events postcopy-ram x-colo release-ram block
	return-path pause-before-switchover multifd dirty-bitmaps postcopy-blocktime late-block-activate x-ignore-shared validate-uuid
	background-snapshot zero-copy-send postcopy-preempt`)

// parameterDefaults are the migration parameters of QEMU 7.2 with what they are at
// first.
var parameterDefaults = []struct {
	name  string
	value any
	kind  kind
}{
	{"announce-initial", 50, kindSize}, {"announce-max", 550, kindSize}, {"announce-rounds", 5, kindSize}, {"announce-step", 100, kindSize},
	{"compress-level", 1, kindUint8}, {"compress-threads", 8, kindUint8}, {"compress-wait-thread", true, kindBool}, {"decompress-threads", 2, kindUint8},
	{"throttle-trigger-threshold", 50, kindUint8}, {"cpu-throttle-initial", 20, kindUint8}, {"cpu-throttle-increment", 10, kindUint8}, {"cpu-throttle-tailslow", false, kindBool},
	{"tls-creds", "", kindAny}, {"tls-hostname", "", kindAny}, {"tls-authz", "", kindAny},
	{"max-bandwidth", 134217728, kindSize}, {"downtime-limit", 300, kindUint64}, {"x-checkpoint-delay", 20000, kindUint32}, {"block-incremental", false, kindBool},
	{"multifd-channels", 2, kindUint8}, {"xbzrle-cache-size", 67108864, kindSize}, {"max-postcopy-bandwidth", 0, kindSize}, {"max-cpu-throttle", 99, kindUint8},
	{"multifd-compression", "none", kindAny}, {"multifd-zlib-level", 1, kindUint8}, {"multifd-zstd-level", 1, kindUint8},
}

func parameterArgs() []arg {
	var args []arg
	for _, p := range parameterDefaults {
		args = append(args, arg{name: p.name, kind: p.kind, optional: true})
	}
	return args
}

// migrationStatus changes the status, with its event if a client asked for those.
func (m *machine) migrationStatus(status string) {
	m.migration.status = status
	if m.events || m.migration.capabilities["events"] {
		m.event("MIGRATION", d("status", status))
	}
}

const dumpBlocks = "Live migration disabled: dump-guest-memory in progress"

func migrate(m *machine, _ *session, args *dict) (any, error) {
	switch {
	case m.migration.active():
		return nil, generic("There's a migration process in progress")
	case m.status == stateInmigrate:
		return nil, generic("Guest is waiting for an incoming migration")
	case m.status == statePostmigrate:
		return nil, generic("Can't migrate the vm that was paused due to previous migration")
	case m.dump.active():
		return nil, generic(dumpBlocks)
	}
	out, err := m.openOutgoing(args.str("uri"))
	if err != nil {
		return nil, err
	}
	m.migration.begun, m.migration.sent, m.migration.desc, m.migration.cancelled = time.Now(), 0, "", false
	m.migration.incoming = false
	m.migrationStatus("setup")
	m.after = func() { go m.send(out) }
	return nil, nil
}

// outgoing is where a state goes.
type outgoing struct {
	w     io.WriteCloser
	what  string // for the error: "command", "file", ...
	err   error  // what kept it from being opened, told later
	child *exec.Cmd
}

func (m *machine) openOutgoing(uri string) (*outgoing, error) {
	proto, rest, _ := strings.Cut(uri, ":")
	switch proto {
	case "fd":
		fd, err := m.takeNamedOrNumber(rest)
		if err != nil {
			return nil, err
		}
		return &outgoing{w: os.NewFile(uintptr(fd), "outgoing state"), what: "file"}, nil
	case "exec":
		cmd := exec.Command("/bin/sh", "-c", rest)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		w, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			return nil, generic("Unable to run the command: %s", strerror(err))
		}
		return &outgoing{w: w, what: "command", child: cmd}, nil
	case "unix":
		conn, err := net.Dial("unix", rest)
		if err != nil {
			return &outgoing{err: fmt.Errorf("Failed to connect to '%s': %s", rest, strerror(err))}, nil
		}
		return &outgoing{w: conn, what: "socket"}, nil
	}
	return nil, generic("Parameter 'uri' expects a valid migration protocol")
}

// takeNamedOrNumber is what "fd:" means in QEMU: a name that getfd gave, or a number.
func (m *machine) takeNamedOrNumber(name string) (int, error) {
	if name == "" || name[0] < '0' || name[0] > '9' {
		return m.takeNamed(name)
	}
	fd, err := strconv.Atoi(name)
	if err != nil {
		return -1, generic("Invalid file descriptor number '%s'", name)
	}
	return fd, nil
}

// send sends the machine's state: memory while the guest still runs, then, with the
// guest stopped, the rest.
func (m *machine) send(out *outgoing) {
	if out.child != nil {
		defer out.child.Wait()
	}
	if out.w != nil {
		defer out.w.Close()
	}
	if out.err != nil {
		m.sendFailed(out.err.Error(), false)
		return
	}
	m.mu.Lock()
	m.event2("MIGRATION_PASS", 1)
	m.migrationStatus("active")
	state := saved{machineType: m.machineType, memory: m.memory}
	m.mu.Unlock()
	if err := m.transmit(out, state.head()); err != nil {
		m.sendFailed(err.Error(), false)
		return
	}
	m.mu.Lock()
	if m.migration.cancelled || m.ending {
		m.cancelDone()
		m.mu.Unlock()
		return
	}
	wasRunning := m.running()
	state.status = m.status
	if wasRunning {
		m.stop(stateFinish)
	} else {
		m.status = stateFinish
	}
	m.event2("MIGRATION_PASS", 2)
	var err error
	state.guest, err = m.guest.Save()
	m.mu.Unlock()
	if err == nil {
		err = m.transmit(out, state.tail())
	}
	if err != nil {
		m.mu.Lock()
		m.status = state.status
		if wasRunning {
			m.status = statePaused
		}
		m.mu.Unlock()
		m.sendFailed(err.Error(), wasRunning)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deactivate()
	m.migration.took = time.Since(m.migration.begun)
	m.status = statePostmigrate
	m.migrationStatus("completed")
}

// event2 is MIGRATION_PASS, which comes only to those who asked for events.
func (m *machine) event2(name string, pass int) {
	if m.events || m.migration.capabilities["events"] {
		m.event(name, d("pass", pass))
	}
}

func (m *machine) transmit(out *outgoing, b []byte) error {
	n, err := out.w.Write(b)
	m.mu.Lock()
	m.migration.sent += int64(n)
	m.mu.Unlock()
	if err != nil {
		return fmt.Errorf("Unable to write to %s: %s", out.what, strerror(err))
	}
	return nil
}

func (m *machine) cancelDone() {
	if m.migration.cancelled {
		m.migrationStatus("cancelled")
	}
}

func (m *machine) sendFailed(desc string, resume bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.migration.cancelled {
		m.cancelDone()
	} else {
		m.migration.desc = desc
		if strings.HasPrefix(desc, "Unable to write") {
			m.complain("failed to save SaveStateEntry with id(name): 2(ram): -5")
		}
		m.complain(desc)
		m.migrationStatus("failed")
	}
	if resume {
		m.start()
	}
}

func migrateCancel(m *machine, _ *session, _ *dict) (any, error) {
	if m.migration.active() && !m.migration.incoming {
		m.migration.cancelled = true
		m.migrationStatus("cancelling")
	}
	return nil, nil
}

func queryMigrate(m *machine, _ *session, _ *dict) (any, error) {
	g := &m.migration
	if m.dump.active() {
		return d("blocked-reasons", []any{dumpBlocks}), nil
	}
	switch g.status {
	case "":
		return d(), nil
	case "failed":
		if g.desc != "" {
			return d("status", g.status, "error-desc", g.desc), nil
		}
	case "setup", "active", "cancelling", "completed":
		if g.incoming {
			if g.status == "completed" {
				return d("status", g.status), nil
			}
			return d(), nil
		}
		o := d("status", g.status, "total-time", int(g.took.Milliseconds()), "setup-time", 0)
		total := m.memory + 532480 // BIOS and VGA memory are sent too
		remaining := int64(0)
		if g.status == "completed" {
			o.set("downtime", 1)
		} else {
			o.set("total-time", int(time.Since(g.begun).Milliseconds()))
			o.set("expected-downtime", 300)
			remaining = max(0, total-g.sent)
		}
		o.set("ram", d("total", total, "postcopy-requests", 0, "dirty-sync-count", 2, "multifd-bytes", 0, "pages-per-second", 0, "downtime-bytes", 0,
			"page-size", 4096, "remaining", remaining, "postcopy-bytes", 0, "mbps", 0, "transferred", g.sent, "dirty-sync-missed-zero-copy", 0,
			"precopy-bytes", g.sent, "duplicate", int(total/4096-ramFill/4096), "dirty-pages-rate", 0, "skipped", 0, "normal-bytes", ramFill, "normal", ramFill/4096))
		return o, nil
	}
	return d("status", g.status), nil
}

func queryMigrateCapabilities(m *machine, _ *session, _ *dict) (any, error) {
	list := []any{}
	for _, name := range capabilityNames {
		on := m.migration.capabilities[name]
		list = append(list, d("capability", name, "state", on || name == "events" && m.events))
	}
	return list, nil
}

func migrateSetCapabilities(m *machine, _ *session, args *dict) (any, error) {
	if m.migration.active() && !m.migration.incoming {
		return nil, generic("There's a migration process in progress")
	}
	list, _ := args.get("capabilities")
	for _, e := range asList(list) {
		o := e.(*dict)
		m.migration.capabilities[o.str("capability")] = o.flag("state")
		if o.str("capability") == "events" {
			m.events = o.flag("state")
		}
	}
	return nil, nil
}

func queryMigrateParameters(m *machine, _ *session, _ *dict) (any, error) {
	return m.migration.parameters, nil
}

func defaultParameters() *dict {
	o := d()
	for _, p := range parameterDefaults {
		o.set(p.name, p.value)
	}
	return o
}

func migrateSetParameters(m *machine, _ *session, args *dict) (any, error) {
	if args.has("downtime-limit") && uint64(args.num("downtime-limit")) > 2000*1000 {
		return nil, generic("Parameter 'downtime_limit' expects an integer in the range of 0 to (2000 * 1000) ms")
	}
	for _, p := range parameterDefaults {
		if v, ok := args.get(p.name); ok && v != nil {
			m.migration.parameters.set(p.name, v)
		}
	}
	return nil, nil
}

// isRegular says whether a descriptor is a file, whose end is an end of file and not
// a silence.
func isRegular(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFREG
}
