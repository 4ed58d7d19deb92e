//go:build linux

package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/machineries/machineries/drivers/internal/capture"
	"github.com/machineries/machineries/drivers/qemu/monitor"
	"github.com/machineries/machineries/machinery"
)

// filterID is the id of a capture's filter in QEMU.
func filterID(i int) string { return fmt.Sprintf("%scapture-%d", ownPrefix, i) }

// backendID is the id of a network backend that the machine's arguments give none.
func backendID(i int) string { return fmt.Sprintf("%snet-%d", ownPrefix, i) }

// ownDescriptor is how QEMU opens a file that it has a descriptor of: by no name that anybody could change. filter-dump opens its
// file anew, and truncates it. (QEMU 7.2.22)
func ownDescriptor(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// namedBackends finds the network backends in a machine's arguments, and names those that have no id: an id is no part of what a
// snapshot holds. args is not changed.
func namedBackends(args []string) (named, ids []string) {
	named = slices.Clone(args)
	for i := 0; i < len(named); i++ {
		name, is := optionName(named[i])
		if !is || options[name].flag {
			continue
		}
		if i++; i >= len(named) {
			break
		}
		if name != "netdev" && name != "nic" && name != "net" {
			continue
		}
		id, kind := "", ""
		if strings.HasPrefix(named[i], "{") {
			id, kind = jsonBackend(named[i])
		} else {
			for at, s := range settings(named[i]) {
				switch {
				case s.key == "id":
					id = s.value
				case s.key == "type":
					kind = s.value
				case at == 0 && s.value == "on":
					kind = s.key
				}
			}
		}
		// A hub's port is no end of a network, and with -net a card is what "nic" is.
		if kind == "none" || kind == "hubport" || name == "net" && kind == "nic" {
			continue
		}
		if id == "" {
			id = backendID(len(ids))
			named[i] += ",id=" + id
		}
		ids = append(ids, id)
	}
	return named, ids
}

// jsonBackend reads the id and the type of a backend in JSON. QEMU 7.2.22 takes -netdev so, and wants an id there.
func jsonBackend(text string) (id, kind string) {
	var b struct{ ID, Type string }
	_ = json.Unmarshal([]byte(text), &b)
	return b.ID, b.Type
}

// filterArgs are the arguments with which QEMU records from its first moment on, into the descriptors from first on.
func filterArgs(ids []string, first int) []string {
	var args []string
	for i, id := range ids {
		args = append(args, "-object", fmt.Sprintf("filter-dump,id=%s,netdev=%s,file=%s", filterID(i), asSetting("", id), ownDescriptor(first+i)))
	}
	return args
}

// errNoCard says that there is nothing to record.
var errNoCard = errors.New("the machine has no network card that is connected to something")

// backends asks QEMU for the ids of its network backends. Only its monitor for people tells them; seen on QEMU 7.2.22:
//
//	hub 0
//	 \ hub0port1: #net233: index=0,type=user,net=10.0.2.0,restrict=off
//	 \ hub0port0: rtl8139.0: index=0,type=nic,model=rtl8139,macaddr=52:54:00:12:34:57
//	e1000.0: index=0,type=nic,model=e1000,macaddr=52:54:00:12:34:56
//	 \ n0: index=0,type=socket,socket: udp=127.0.0.1:12001
func (r *run) backends(ctx context.Context) ([]string, error) {
	m, err := r.master(ctx)
	if err != nil {
		return nil, err
	}
	var text string
	if err := m.Execute(ctx, "human-monitor-command", map[string]any{"command-line": "info network"}, &text); err != nil {
		return nil, err
	}
	ids := backendsIn(text)
	if len(ids) == 0 {
		return nil, errNoCard
	}
	return ids, nil
}

// backendsIn reads what QEMU says of its network.
func backendsIn(text string) []string {
	var ids []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "filters:" {
			break
		}
		before, after, found := strings.Cut(strings.TrimPrefix(line, `\ `), ": index=")
		if !found {
			continue
		}
		if _, behind, port := strings.Cut(before, ": "); port { // the port of a hub, and what is connected to it
			before = behind
		}
		kind, _, _ := strings.Cut(after[strings.Index(after, "type=")+len("type="):], ",")
		if kind = strings.TrimSpace(kind); kind == "nic" || kind == "hubport" || slices.Contains(ids, before) {
			continue
		}
		ids = append(ids, before)
	}
	return ids
}

// addFilters has a QEMU that runs record each of its backends into one of the files.
func (r *run) addFilters(ctx context.Context, c *capture.Recording, ids []string, files []*os.File) error {
	m, err := r.master(ctx)
	for i := 0; i < len(ids) && err == nil; i++ {
		var given struct {
			Set int `json:"fdset-id"`
			FD  int `json:"fd"`
		}
		if err = m.ExecuteFile(ctx, "add-fd", map[string]any{"opaque": filterID(i)}, files[i], &given); err != nil {
			break
		}
		err = m.Execute(ctx, "object-add", map[string]any{"qom-type": "filter-dump", "id": filterID(i), "netdev": ids[i], "file": ownDescriptor(given.FD)}, nil)
		// The filter has a descriptor of its own.
		if removed := m.Execute(ctx, "remove-fd", map[string]any{"fdset-id": given.Set}, nil); err == nil {
			err = removed
		}
	}
	return err
}

// removeFilters ends the recording in QEMU.
func (r *run) removeFilters(ctx context.Context, c *capture.Recording) error {
	m, err := r.master(ctx)
	if err != nil {
		return err
	}
	for i := range c.Raw {
		err := m.Execute(ctx, "object-del", map[string]any{"id": filterID(i)}, nil)
		if _, refused := errors.AsType[*monitor.CommandError](err); err != nil && !refused { // it refuses what is not there any more
			return err
		}
	}
	return nil
}

// disconnected is whether an error is one of the connection, and not QEMU's own.
func disconnected(err error) bool {
	_, said := errors.AsType[*monitor.CommandError](err)
	return !said && (errors.Is(err, monitor.ErrDisconnected) || errors.Is(err, monitor.ErrClosed) || errors.Is(err, context.DeadlineExceeded))
}

// startedWith is the error of a start that failed, as one of the capture if it is that which QEMU complains of.
func (r *run) startedWith(err error) error {
	e, is := errors.AsType[*machinery.Error](err)
	if is && r.ledger.Capture != nil && e.Err != nil && strings.Contains(e.Err.Error(), "-object filter-dump") {
		e.Kind = machinery.ErrCapture
	}
	return err
}
