package libvirt

import (
	"encoding/json"
	"fmt"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// monitorCommands are QEMU's commands that clients may give through libvirt.
var monitorCommands = map[string]func(d *Domain, arguments json.RawMessage) (any, error){
	"query-status": func(d *Domain, _ json.RawMessage) (any, error) {
		running := d.state == stateRunning
		status := map[bool]string{true: "running", false: "paused"}[running]
		return map[string]any{"running": running, "singlestep": false, "status": status}, nil
	},
	"query-version": func(*Domain, json.RawMessage) (any, error) {
		return map[string]any{"qemu": map[string]any{"major": 7, "minor": 2, "micro": 22}, "package": ""}, nil
	},
	"object-add": func(d *Domain, arguments json.RawMessage) (any, error) {
		return map[string]any{}, objectAdd(d, arguments)
	},
	"object-del": func(d *Domain, arguments json.RawMessage) (any, error) {
		return map[string]any{}, objectDel(d, arguments)
	},
}

// monitorCommand is a command to the machine's QEMU, and its answer.
func monitorCommand(c *call, a *golibvirt.QEMUDomainMonitorCommandArgs) (ret golibvirt.QEMUDomainMonitorCommandRet, err error) {
	return ret, c.on(a.Dom, fromDomain, func(d *Domain) error {
		var command struct {
			Execute   string          `json:"execute"`
			Arguments json.RawMessage `json:"arguments"`
			ID        any             `json:"id,omitempty"`
		}
		if a.Flags != 0 {
			return fail(codeNoSupport, fromQEMU, "the fake libvirtd takes commands in JSON alone")
		}
		if err := json.Unmarshal([]byte(a.Cmd), &command); err != nil {
			return fail(codeInternal, fromQEMU, "cannot parse json %s: %s", a.Cmd, err)
		}
		if err := d.monitor(c.ctx, d.gone, command.Execute); err != nil {
			return err
		}
		if command.Arguments == nil {
			command.Arguments = json.RawMessage("{}")
		}
		answer, class := map[string]any{}, "GenericError"
		do := monitorCommands[command.Execute]
		if do == nil {
			class = "CommandNotFound"
			do = func(*Domain, json.RawMessage) (any, error) {
				return nil, fmt.Errorf("The command %s has not been found", command.Execute)
			}
		}
		value, err := do(d, command.Arguments)
		if err == nil {
			answer["return"] = value
		} else {
			answer["error"] = map[string]any{"class": class, "desc": err.Error()}
		}
		if command.ID != nil {
			answer["id"] = command.ID
		} else {
			answer["id"] = "libvirt-1" // libvirt numbers what comes without
		}
		b, err := json.Marshal(answer)
		ret.Result = string(b)
		return err
	})
}
