//go:build linux

package qemu

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/fakes/guest"
	"github.com/machineries/machineries/internal/require"
)

// What must differ between two emulators, and is not compared.
var mustDiffer = []struct{ pattern, by string }{
	{`"(seconds|microseconds|major|minor|micro|thread-id|fd|actual-size)": [0-9]+`, `"$1": *`},
	{`"(setup-time|downtime|total-time|expected-downtime|transferred|remaining|duplicate|normal|normal-bytes|precopy-bytes|downtime-bytes|dirty-sync-count|pages-per-second|dirty-pages-rate)": [0-9]+`, `"$1": *`},
	{`"status": "active", "completed": [0-9]+`, `"status": "active", "completed": *`},
	{`"((rd|wr|flush|unmap)_total_time_ns|rd_bytes|rd_operations|wr_highest_offset)": [0-9]+`, `"$1": *`},
	{`, "idle_time_ns": [0-9]+`, ``}, // there from the first access on; the fake counts none
	{`"mbps": [0-9.e+]+`, `"mbps": *`},
	{`"package": "[^"]*"`, `"package": *`},
	{`"(node-name|qdev)": "[^"]*"`, `"$1": *`},
	{`7\.2\.22Debian[^"\\]*`, `*`},
	{`m[0-9]+/`, `DIR/`},
}

var mustDifferPatterns = func() []*regexp.Regexp {
	var all []*regexp.Regexp
	for _, m := range mustDiffer {
		all = append(all, regexp.MustCompile(m.pattern))
	}
	return all
}()

func normal(line string) string {
	if inner, ok := strings.CutPrefix(line, `{"return": [{"frontend-open"`); ok {
		// The order of character devices is that of a hash table of addresses.
		parts := strings.Split(strings.TrimSuffix(inner, "}]}"), `}, {"frontend-open"`)
		slices.Sort(parts)
		line = strings.Join(parts, "; ")
	}
	for i, p := range mustDifferPatterns {
		line = p.ReplaceAllString(line, mustDiffer[i].by)
	}
	return line
}

// step is one thing that is done to both emulators.
type step struct {
	send string // to the monitor; DIR is a directory of this emulator's own
	// event is waited for after it, where something goes on after the reply.
	event string
	// status is waited for after that: for a moment QEMU has sent the event that a
	// migration is completed and refuses cont because it is not.
	status string
	fd     bool   // a pipe that nobody reads goes along
	act    string // "power off" tells the guest so; "exits" waits for the end
}

// talk is a series of steps on one emulator.
type talk struct {
	name  string
	args  []string
	raw   bool // without negotiation
	disk  bool
	steps []step
}

func say(lines ...string) []step {
	var steps []step
	for _, l := range lines {
		steps = append(steps, step{send: l})
	}
	return steps
}

func execute(name string, args string) string {
	if args == "" {
		return fmt.Sprintf(`{"execute":"%s"}`, name)
	}
	return fmt.Sprintf(`{"execute":"%s","arguments":%s}`, name, args)
}

// notSwept are commands that cannot be run in passing: they change the state, or
// answer with the list of all there is.
var notSwept = []string{"cont", "stop", "system_reset", "system_powerdown", "quit", "query-commands", "query-qmp-schema", "query-machines", "qmp_capabilities", "query-pci", "migrate_cancel"}

// sweep is every command without arguments, and with one that none has.
func sweep() []step {
	var steps []step
	for _, name := range Commands() {
		if slices.Contains(notSwept, name) {
			continue
		}
		steps = append(steps, step{send: execute(name, "")}, step{send: execute(name, `{"no-such-argument":1}`)})
	}
	return steps
}

// malformed is what is no command, each followed by a line end.
var malformed = []string{
	`{"execute":"no-such-command"}`, `{"execute":"NOT_A","id":9}`, `{"execute":5}`, `{"exec":"x"}`, `[1,2]`, `"str"`, `{"execute":"query-status","foo":1}`, `{}`,
	`{"execute":"query-status",}`, `garbage`, "\xff", `{'execute':'query-status','id':'single'}`, `"ab`, "{\"execute\":\"query-st\tatus\"}", "{\"execute\":\"a\x01b\"}",
	`{"execute":"\u00e9\ud83d\ude00"}`, "{\"execute\":\"é😀\x7f\"}", "{\"execute\":\"\xff\xfe\"}", "{\"execute\":\"\xc3(\xe2\x82\"}", `{"execute":"\x"}`, `{"execute":"\u12"}`,
	`{"execute":"\u0000"}`, `{"execute":"\ud800"}`, `{"execute":"\ud800\u0041"}`, `{"execute":"\ufffe"}`, `{"execute":"\/\b\f\n\r\t\'"}`, `{'execute':'it\'s "q"'}`, `{"a":}`, `{"a" 1}`, `{"a":1 "b":2}`,
	`{1:2}`, `{"a":1,"a":2}`, `[1 2]`, `[1,]`, `[]`, `{"execute":"query-status"]`, `}`, `]`, `:`, `,`, `1`, `-1`, `-`, `01`, `1.`, `1.5e`, `1e5`, `nul`, `true`, `null`, `True`, `@`, `abc def`,
	`{"execute":"query-status","id":1.5}`, `{"execute":"query-status","id":1e400}`, `{"execute":"query-status","id":-9223372036854775808}`, `{"execute":"query-status","id":18446744073709551615}`,
	`{"execute":"query-status","id":18446744073709551616}`, `{"execute":"query-status","id":1.0}`, `{"execute":"query-status","id":1e-7}`, `{"execute":"query-status","id":0.1}`, `{"execute":"query-status","id":1e22}`,
	`{"execute":"query-status","id":null}`, `{"execute":"query-status","id":true}`, `{"execute":"query-status","id":"é\u0001\u007f/<"}`, `{"execute":"query-status","id":[1,{"b":2,"a":1},[]]}`, `{"execute":"query-status","id":{}}`,
	`/* c */{"execute":"query-status"}`, `//`, `%d`, `{"execute":"query-status","arguments":[]}`, `{"execute":"query-status","arguments":null}`, `{"execute":"query-status","arguments":{}}`,
	`{"execute":"query-status","exec-oob":"query-status"}`, `{"exec-oob":"query-status"}`, `{"exec-oob":5}`, `{"id":1}`, `{"id":1,"foo":2,"execute":3}`, "{\"a\":\"b\n\"}", "[[[[\xff", "\x00", "\x7f", "\xef\xbb\xbf{}", "é",
	`{"execute":"query-status"}{"execute":"query-name"} {"execute":"query-kvm"}`, "\r\n\t {\"execute\" :\r\n\"query-status\"\t}", `{"execute":"cont","arguments":{"x":1}}`, `{"execute":"query-status","id":"` + strings.Repeat("x", 5000) + `"}`,
	strings.Repeat("[", 1025) + "\xff", strings.Repeat("[", 1000) + strings.Repeat("]", 1000), `+1`, `.5`, `00`, `0`, `-0`, `1E+2`, `--1`, `{"execute":"query-status","id":-0.0}`, `{"execute":"query-status","id":123456789012345678901234567890}`,
}

// wrongArguments are commands that are refused for what they are given.
var wrongArguments = []string{
	execute("migrate", `{"uri":5}`), execute("migrate", `{"uri":"nope"}`), execute("migrate", `{"uri":"fd:nope"}`), execute("migrate", `{"uri":"file:/tmp/x"}`), execute("migrate", `{"uri":"exec:true","blk":5}`), execute("migrate-incoming", `{"uri":"exec:true"}`),
	execute("migrate-set-capabilities", `{"capabilities":[{"capability":"nope","state":true}]}`), execute("migrate-set-capabilities", `{"capabilities":[{"capability":"events"}]}`), execute("migrate-set-capabilities", `{"capabilities":[5]}`),
	execute("migrate-set-capabilities", `{"capabilities":5}`), execute("migrate-set-capabilities", `{"capabilities":[{"capability":"events","state":true,"x":1}]}`), execute("migrate-set-capabilities", `{"capabilities":[]}`), execute("migrate-set-capabilities", `{"capabilities":[{"capability":5,"state":true}]}`),
	execute("migrate-set-capabilities", `{"capabilities":[{"capability":"auto-converge","state":true}]}`), execute("query-migrate-capabilities", ""), execute("migrate-set-parameters", `{"max-bandwidth":1000}`), execute("query-migrate-parameters", ""),
	execute("migrate-set-parameters", `{"max-bandwidth":"x"}`), execute("migrate-set-parameters", `{"foo":1}`), execute("migrate-set-parameters", `{"downtime-limit":2000001}`), execute("migrate-set-parameters", `{"block-incremental":1}`),
	execute("getfd", `{"fdname":"x"}`), execute("getfd", `{"fdname":5}`), execute("closefd", `{"fdname":"x"}`), execute("add-fd", `{"fdset-id":1}`), execute("remove-fd", `{"fdset-id":7}`), execute("remove-fd", `{"fdset-id":7,"fd":3}`), execute("remove-fd", `{"fdset-id":"x"}`),
	execute("dump-guest-memory", `{"paging":false,"protocol":"/tmp/x"}`), execute("dump-guest-memory", `{"paging":false,"protocol":"file:/nonexistent/x"}`), execute("dump-guest-memory", `{"paging":false,"protocol":"fd:nope"}`), execute("dump-guest-memory", `{"paging":"x","protocol":"fd:nope"}`),
	execute("dump-guest-memory", `{"paging":false,"protocol":"file:/tmp/x","format":"nope"}`), execute("dump-guest-memory", `{"paging":false,"protocol":"file:/tmp/x","begin":1}`), execute("dump-guest-memory", `{"paging":false,"protocol":"file:/tmp/x","length":1}`),
	execute("dump-guest-memory", `{"paging":true,"protocol":"file:/tmp/x","format":"kdump-zlib"}`), execute("dump-guest-memory", `{"paging":false,"protocol":"file:/tmp/x","format":"kdump-lzo"}`), execute("dump-guest-memory", `{"paging":false,"protocol":"file:/tmp/x","format":"kdump-snappy"}`),
	execute("screendump", `{"filename":"/nonexistent/x","device":"nope"}`), execute("screendump", `{"filename":"/tmp/x","head":1}`), execute("screendump", `{"filename":"/tmp/x","format":"gif"}`), execute("screendump", `{"filename":5}`),
	execute("human-monitor-command", `{"command-line":"info status"}`), execute("human-monitor-command", `{"command-line":"info kvm"}`), execute("human-monitor-command", `{"command-line":"info version"}`), execute("human-monitor-command", `{"command-line":"nope"}`),
	execute("human-monitor-command", `{"command-line":"info nope"}`), execute("human-monitor-command", `{"command-line":"info name"}`), execute("human-monitor-command", `{"command-line":"cont x"}`), execute("human-monitor-command", `{"command-line":""}`),
	execute("human-monitor-command", `{"command-line":"system_wakeup"}`), execute("human-monitor-command", `{"command-line":"info uuid"}`), execute("human-monitor-command", `{"command-line":5}`), execute("human-monitor-command", `{"command-line":"x","cpu-index":"x"}`),
	execute("query-named-block-nodes", `{"flat":5}`), execute("query-blockstats", `{"query-nodes":5}`), execute("qmp_capabilities", `{"enable":["oob"]}`), execute("query-events", ""), execute("query-cpus", ""),
}

const events = `{"capabilities":[{"capability":"events","state":true}]}`

// talks are the cases. Each state that a machine can be in for a while is reached
// by one of them, and swept there.
func talks() []talk {
	swept := func(before ...step) []step { return append(before, sweep()...) }
	return []talk{
		{name: "before negotiation", raw: true, steps: append(say(`{"execute":"query-status"}`, `{"execute":"nope","id":1}`, `{"execute":"quit","arguments":{"x":1}}`, `{"exec-oob":"query-status"}`, `{"execute":"qmp_capabilities","arguments":{"enable":["nope"]}}`,
			`{"execute":"qmp_capabilities","arguments":{"enable":5}}`, `{"execute":"qmp_capabilities","arguments":{"x":1}}`, `{"execute":"qmp_capabilities","id":1}`, `{"execute":"qmp_capabilities"}`), sweep()...)},
		{name: "out of band", raw: true, steps: say(`{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}`, `{"exec-oob":"query-yank","id":1}`, `{"exec-oob":"query-status","id":2}`, `{"execute":"query-status","exec-oob":"x"}`, `{"exec-oob":5}`, `{"exec-oob":"nope"}`)},
		{name: "malformed", args: []string{"-S"}, steps: say(malformed...)},
		{name: "wrong arguments", args: []string{"-S"}, steps: say(wrongArguments...)},
		{name: "prelaunch with a disk", args: []string{"-S", "-name", "guest=web,process=x", "-uuid", "11111111-2222-3333-4444-555555555555"}, disk: true, steps: swept()},
		{name: "running", steps: swept()},
		{name: "paused", steps: swept(say(execute("stop", ""))...)},
		{name: "inmigrate", args: []string{"-incoming", "defer", "-global", "migration.x-events=on"}, steps: swept()},
		{name: "run states", args: []string{"-S"}, steps: say(execute("cont", ""), execute("cont", ""), execute("query-status", ""), execute("stop", ""), execute("stop", ""), execute("query-status", ""), execute("system_reset", ""), execute("query-status", ""),
			execute("stop", ""), execute("query-status", ""), execute("system_powerdown", ""), execute("system_wakeup", ""), execute("query-status", ""), execute("migrate_cancel", ""), execute("query-migrate", ""))},
		{name: "quit", steps: []step{{send: `{"execute":"quit","id":"bye"}`, act: "exits"}}},
		{name: "reset ends with -no-reboot", args: []string{"-S", "-no-reboot"}, steps: []step{{send: execute("system_reset", ""), act: "exits"}}},
		{name: "postmigrate", args: []string{"-S"}, steps: swept(
			step{send: execute("migrate-set-capabilities", events)}, step{send: execute("migrate", `{"uri":"exec:cat >/dev/null"}`), event: `"completed"`, status: "postmigrate"}, step{send: execute("query-status", "")}, step{send: execute("query-migrate", "")},
			step{send: execute("migrate", `{"uri":"exec:cat >/dev/null"}`)}, step{send: execute("migrate_cancel", "")})},
		{name: "postmigrate and on", steps: []step{{send: execute("stop", "")}, {send: execute("migrate-set-capabilities", events)}, {send: execute("migrate", `{"uri":"exec:cat >/dev/null"}`), event: `"completed"`, status: "postmigrate"},
			{send: execute("cont", "")}, {send: execute("query-status", "")}, {send: execute("stop", "")}, {send: execute("system_reset", "")}, {send: execute("query-status", "")}}},
		{name: "a migration that fails", args: []string{"-S"}, steps: []step{{send: execute("migrate-set-capabilities", events)}, {send: execute("migrate", `{"uri":"exec:false"}`), event: `"failed"`}, {send: execute("query-migrate", "")}, {send: execute("query-status", "")},
			{send: execute("migrate", `{"uri":"unix:/nonexistent/s"}`), event: `"failed"`}, {send: execute("query-migrate", "")}, {send: execute("query-status", "")}, {send: execute("cont", "")}}},
		{name: "incoming told more than once", args: []string{"-S", "-incoming", "defer", "-global", "migration.x-events=on"}, steps: say(execute("cont", ""), execute("stop", ""), execute("system_reset", ""), execute("query-status", ""), execute("system_powerdown", ""),
			execute("migrate", `{"uri":"exec:true"}`), execute("dump-guest-memory", `{"paging":false,"protocol":"file:/tmp/x"}`), execute("migrate-incoming", `{"uri":"nope"}`), execute("migrate-incoming", `{"uri":"fd:nope"}`), execute("migrate-incoming", `{"uri":"file:/x"}`),
			execute("migrate-incoming", `{"uri":"exec:true"}`), execute("query-migrate", ""), execute("migrate-incoming", `{"uri":"exec:true"}`), execute("migrate-incoming", `{"uri":"nope"}`), execute("query-status", ""))},
		{name: "garbage comes in", args: []string{"-incoming", "defer", "-global", "migration.x-events=on"}, steps: []step{{send: execute("migrate-incoming", `{"uri":"exec:echo garbage"}`), act: "exits"}}},
		{name: "its own state comes in, saved before it ran", args: []string{"-incoming", "defer", "-global", "migration.x-events=on"}, steps: []step{{send: "SAVE -S"}, {send: execute("migrate-incoming", `{"uri":"exec:cat DIR/state"}`), event: `"completed"`},
			{send: execute("query-status", "")}, {send: execute("query-migrate", "")}, {send: execute("migrate-incoming", `{"uri":"exec:true"}`)}, {send: execute("cont", "")}, {send: execute("query-status", "")}}},
		{name: "a running state with -S", args: []string{"-S", "-incoming", "defer", "-global", "migration.x-events=on"}, steps: []step{{send: "SAVE"}, {send: execute("migrate-incoming", `{"uri":"exec:cat DIR/state"}`), event: `"completed"`}, {send: execute("query-status", "")}}},
		{name: "a running state", args: []string{"-incoming", "defer", "-global", "migration.x-events=on"}, steps: []step{{send: "SAVE"}, {send: execute("migrate-incoming", `{"uri":"exec:cat DIR/state"}`), event: `"completed"`}, {send: execute("query-status", "")}}},
		{name: "a running state and an early cont", args: []string{"-S", "-incoming", "defer", "-global", "migration.x-events=on"}, steps: []step{{send: "SAVE"}, {send: execute("cont", "")}, {send: execute("migrate-incoming", `{"uri":"exec:cat DIR/state"}`), event: `"completed"`}, {send: execute("query-status", "")}}},
		{name: "the state of another machine", args: []string{"-M", "pc", "-incoming", "defer", "-global", "migration.x-events=on"}, steps: []step{{send: "SAVE"}, {send: execute("migrate-incoming", `{"uri":"exec:cat DIR/state"}`), act: "exits"}}},
		{name: "the state of other memory", args: []string{"-m", "32", "-incoming", "defer", "-global", "migration.x-events=on"}, steps: []step{{send: "SAVE"}, {send: execute("migrate-incoming", `{"uri":"exec:cat DIR/state"}`), act: "exits"}}},
		{name: "dumps", steps: say(execute("dump-guest-memory", `{"paging":false,"protocol":"file:DIR/d"}`), execute("query-dump", ""), execute("query-status", ""), execute("dump-guest-memory", `{"paging":false,"protocol":"file:/dev/full"}`), execute("query-dump", ""),
			execute("query-status", ""), execute("stop", ""), execute("dump-guest-memory", `{"paging":false,"protocol":"file:DIR/e"}`), execute("query-status", ""))},
		{name: "save-vm", steps: swept(step{send: execute("getfd", `{"fdname":"d"}`), fd: true}, step{send: execute("dump-guest-memory", `{"paging":false,"protocol":"fd:d","detach":true}`)}, step{send: execute("query-status", "")},
			step{send: execute("cont", "")}, step{send: execute("stop", "")}, step{send: execute("dump-guest-memory", `{"paging":false,"protocol":"file:DIR/x"}`)}, step{send: execute("migrate", `{"uri":"exec:true"}`)})},
		{name: "shutdown", args: []string{"-no-shutdown"}, disk: true, steps: swept(step{act: "power off", event: `"STOP"`}, step{send: execute("query-status", "")}, step{send: execute("cont", "")}, step{send: execute("stop", "")})},
		{name: "the guest switches off", disk: true, steps: []step{{act: "power off and out"}}},
		{name: "descriptors", args: []string{"-S"}, steps: []step{{send: execute("getfd", `{"fdname":"a"}`), fd: true}, {send: execute("getfd", `{"fdname":"a"}`), fd: true}, {send: execute("closefd", `{"fdname":"a"}`)}, {send: execute("closefd", `{"fdname":"a"}`)},
			{send: execute("getfd", `{"fdname":"1a"}`), fd: true}, {send: execute("add-fd", `{"fdset-id":3,"opaque":"o"}`), fd: true}, {send: execute("add-fd", ""), fd: true}, {send: execute("add-fd", `{"fdset-id":-1}`), fd: true}, {send: execute("query-fdsets", "")},
			{send: execute("remove-fd", `{"fdset-id":3}`)}, {send: execute("query-fdsets", "")}, {send: execute("remove-fd", `{"fdset-id":3,"fd":99999}`)}}},
		{name: "network", args: []string{"-S", "-netdev", "user,id=n0", "-device", "pcnet,romfile=,netdev=n0"}, steps: say(execute("human-monitor-command", `{"command-line":"info network"}`),
			execute("object-add", `{"qom-type":"filter-dump","id":"f0","netdev":"n0","file":"DIR/f"}`), execute("object-add", `{"qom-type":"filter-dump","id":"f0","netdev":"n1","file":"DIR/f"}`),
			execute("object-add", `{"qom-type":"filter-dump","id":"f1","netdev":"n1","file":"/nonexistent/f"}`), execute("object-add", `{"qom-type":"filter-dump","id":"f1","netdev":"n0","file":"/nonexistent/f"}`),
			execute("object-add", `{"qom-type":"filter-dump","id":"1f","netdev":"n1","file":"DIR/f"}`), execute("object-add", `{"qom-type":"filter-dump","id":"f1","netdev":"n0"}`), execute("object-add", `{"qom-type":"filter-dump","id":"f1","file":"x"}`),
			execute("object-add", `{"qom-type":"filter-nope","id":"f1"}`), execute("object-add", `{"qom-type":"filter-dump"}`), execute("object-add", `{"qom-type":"filter-dump","id":"f1","netdev":5}`),
			execute("object-add", `{"qom-type":"filter-dump","id":"f1","netdev":"n0","file":"DIR/f","maxlen":"x"}`), execute("object-add", `{"qom-type":"filter-dump","id":"f1","netdev":"n0","file":"DIR/f","nope":1}`),
			execute("object-del", `{"id":"f1"}`), execute("object-del", `{"id":"f0"}`), execute("object-del", `{"id":"f0"}`))},
		{name: "descriptors of a running machine", steps: []step{{send: execute("add-fd", `{"fdset-id":3,"opaque":"o"}`), fd: true}, {send: execute("add-fd", `{"fdset-id":3}`), fd: true}, {send: execute("query-fdsets", "")}, {send: execute("remove-fd", `{"fdset-id":3,"fd":99999}`)},
			{send: execute("remove-fd", `{"fdset-id":3}`)}, {send: execute("query-fdsets", "")}, {send: execute("remove-fd", `{"fdset-id":3}`)}}},
	}
}

func TestTheFakeAnswersAsQEMUDoes(t *testing.T) {
	require.Tool(t, "qemu", emulatorName)
	real, err := exec.LookPath(emulatorName)
	if err != nil {
		t.Fatal(err)
	}
	in := install(t, Options{})
	cases := 0
	for _, tk := range talks() {
		cases += len(tk.steps)
		t.Run(tk.name, func(t *testing.T) {
			want, got := tk.run(t, real), tk.run(t, in.Emulator)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-QEMU +fake):\n%s", diff)
			}
		})
	}
	t.Logf("%d cases", cases)
	if cases < 200 {
		t.Errorf("only %d cases", cases)
	}
}

// powerOffSector waits for a byte on the serial port and switches the machine off.
var powerOffSector = []byte{0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf8, 0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4, 0xeb, 0xfd}

// run does the steps on one emulator and returns what it said to each.
func (tk talk) run(t *testing.T, program string) []string {
	t.Helper()
	dir := shortDir(t)
	s, path := listenSerial(t)
	args := with(append(serialArgs(path), tk.args...)...)
	if tk.disk {
		disk := filepath.Join(dir, "disk")
		b := make([]byte, 1<<20)
		copy(b, powerOffSector)
		b[510], b[511] = 0x55, 0xaa
		if err := os.WriteFile(disk, b, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-drive", "file="+disk+",if=ide,format=raw")
	}
	e := start(t, program, args...)
	s.accept()
	c := e.dial()
	said := []string{normal(c.line())}
	if !tk.raw {
		c.want(`{"execute":"qmp_capabilities"}`, okReply)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for i, st := range tk.steps {
		if flags, ok := strings.CutPrefix(st.send, "SAVE"); ok {
			saveState(t, program, filepath.Join(dir, "state"), strings.Fields(flags))
			continue
		}
		said = append(said, "> "+st.send+st.act)
		said = append(said, tk.do(t, e, c, s, st, i, dir, w)...)
		if st.status != "" {
			c.status(st.status)
		}
		if st.act == "exits" || st.act == "power off and out" {
			said = append(said, fmt.Sprintf("exit %d, stderr %q", e.ended(), stderrOf(e)))
		}
	}
	return said
}

func stderrOf(e *emulator) string { return e.stderr.String() }

func (tk talk) do(t *testing.T, e *emulator, c *client, s *serial, st step, n int, dir string, pipe *os.File) []string {
	t.Helper()
	var lines []string
	sync := fmt.Sprintf(`"sync-%d"`, n)
	message := strings.ReplaceAll(st.send, "DIR", dir) + "\n"
	if strings.HasPrefix(st.act, "power off") {
		f := guest.Request{Op: guest.OpPowerOff}.Encode()
		if _, err := s.conn.Write(f[:]); err != nil {
			t.Fatal(err)
		}
		message = ""
	}
	if st.act != "exits" && st.act != "power off and out" {
		message += fmt.Sprintf("{\"execute\":\"query-target\",\"id\":%s}\n", sync)
	}
	if st.fd {
		if _, _, err := c.conn.(*net.UnixConn).WriteMsgUnix([]byte(message), syscall.UnixRights(int(pipe.Fd())), nil); err != nil {
			t.Fatal(err)
		}
	} else if message != "" { // an emulator that ends may have closed the connection
		if _, err := c.conn.Write([]byte(message)); err != nil {
			t.Fatal(err)
		}
	}
	event, synced := st.event == "", false
	for !event || !synced {
		l, err := c.read(patience)
		if err == errSilence {
			t.Fatalf("%s says nothing more to %q; so far %q", e.cmd.Path, st.send, lines)
		}
		if err != nil {
			return append(lines, "<end>")
		}
		if strings.Contains(l, sync) {
			synced = true
			continue
		}
		// SeaBIOS resets the machine once more after a reset; the model does not.
		if strings.Contains(l, `"guest-reset"`) {
			continue
		}
		l = strings.ReplaceAll(l, dir, "DIR")
		event = event || strings.Contains(l, st.event)
		lines = append(lines, normal(l))
	}
	return lines
}

// saveState makes a saved state with the same program.
func saveState(t *testing.T, program, file string, args []string) {
	t.Helper()
	e := start(t, program, with(args...)...)
	c := e.connect()
	c.want(execute("migrate-set-capabilities", events), okReply)
	c.send(execute("migrate", `{"uri":"exec:cat >`+file+`"}`))
	for !strings.Contains(c.line(), `"completed"`) {
	}
	c.send(execute("quit", ""))
	e.ended()
	// cat may still be writing what QEMU has sent.
	size := int64(-1)
	waitFor(t, "the saved state", func() bool {
		st, err := os.Stat(file)
		same := err == nil && st.Size() == size && size > 10_000
		if err == nil {
			size = st.Size()
		}
		return same
	})
}

func TestEveryCommandOfTheFakeIsOneOfQEMUs(t *testing.T) {
	require.Tool(t, "qemu", emulatorName)
	real, err := exec.LookPath(emulatorName)
	if err != nil {
		t.Fatal(err)
	}
	reply, _ := start(t, real, with("-S")...).connect().do(execute("query-commands", ""))
	for _, name := range Commands() {
		if !strings.Contains(reply, `{"name": "`+name+`"}`) {
			t.Errorf("QEMU has no command %s", name)
		}
	}
}
