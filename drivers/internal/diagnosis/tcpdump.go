//go:build linux

package diagnosis

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/machinery"
	"golang.org/x/sys/unix"
)

// compileTime is how long tcpdump may take to compile a filter, which takes 10 ms.
const compileTime = 10 * time.Second

// Tcpdump looks at whether tcpdump can record on the interfaces. It has tcpdump compile a filter, for which it opens the interface
// (seen on 4.99.3) and records nothing.
func (l *List) Tcpdump(ctx context.Context, f machinery.Finding, interfaces []string) {
	if !l.Program(f, "install it (on Debian and Ubuntu: apt-get install tcpdump), or write capture: filter-dump") {
		return
	}
	if len(interfaces) == 0 {
		l.OK(f, "it can be run; there is no interface to try it on")
		return
	}
	for _, iface := range interfaces {
		said, err := compile(ctx, f.Subject, iface)
		switch {
		case err == nil:
			l.OK(f, "it may record on %s", iface)
		case ctx.Err() != nil:
			return
		case strings.Contains(said, "permission") || strings.Contains(said, "not permitted"):
			l.Problem(f, "give it the right with: setcap cap_net_raw,cap_net_admin+ep "+f.Subject+"; or run this as root, or write capture: filter-dump",
				"%s may not record on %s with it: %s", whoami(), iface, said)
		default:
			l.Problem(f, "", "it cannot record on %s: %s", iface, said)
		}
	}
}

// compile runs tcpdump; said is what it printed, on one line.
func compile(ctx context.Context, program, iface string) (said string, err error) {
	ctx, cancel := context.WithTimeout(ctx, compileTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-p", "-n", "-i", iface, "-d", "ip")
	var words bytes.Buffer
	cmd.Stderr = &words
	cmd.Env = process.Environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err = cmd.Run(); err == nil {
		return "", nil
	}
	said = strings.Join(strings.Fields(strings.ToValidUTF8(words.String(), "\uFFFD")), " ")
	if said == "" || ctx.Err() != nil {
		said = err.Error()
	}
	if len(said) > 300 {
		said = said[:300] + "…"
	}
	return strings.TrimPrefix(said, "tcpdump: "), err
}
