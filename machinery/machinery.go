package machinery

import "context"

// Machinery is a driver at work: the machines of one configuration and the
// operations on them. It is safe for concurrent use by many goroutines.
//
// The package documentation states what each operation promises; every method
// returns a [*Error] on failure.
type Machinery interface {
	// Machines returns the machines of the configuration, in its order. The
	// slice and everything in it are copies; the set is fixed from opening to
	// closing. A machine that cannot be used is listed too: its state is
	// [StateError], with the reason.
	Machines() []Machine

	// RestoreStart brings the machine to its snapshot, memory and every
	// writable medium, and starts it from there. It returns when the machine
	// is settled: running, or paused if the snapshot was saved paused. It
	// never resumes a paused machine; [HandlePaused] does.
	//
	// Errors: [ErrUnexpectedState] unless the machine is off, [ErrConfig] if what
	// it is restored from cannot be used or was changed since it was saved,
	// [ErrHypervisor] with the hypervisor's own words if the start failed,
	// [ErrInterrupted] if ctx ended or Stop was called meanwhile.
	RestoreStart(ctx context.Context, name string) error

	// Stop ends the machine as pulling its cord would; it never asks the
	// guest. A nil return means the machine is off. Stop works from every
	// state and cancels an operation that is running on the machine. If the
	// machine was off already the error is [ErrStateReached].
	Stop(ctx context.Context, name string) error

	// State says what the machine is doing now. It changes nothing, waits for
	// no operation and is bounded in time.
	State(ctx context.Context, name string) (Status, error)

	// Shutdown stops every machine that this driver holds, then does what
	// Close does. Give it a context of its own: one that has ended already, as a
	// program's has after Ctrl-C, makes it do nothing, as with every operation.
	// Its error joins one [*Error] for each machine that failed.
	Shutdown(ctx context.Context) error

	// Close lets go of the machines without stopping them; whoever opens the
	// same configuration next takes them over. Operations after Close fail
	// with [ErrClosed]. Close may be called again, and then does nothing.
	Close() error
}

// Machine describes one configured machine. It holds what a sandbox needs to
// know of it, and nothing that changes while it runs.
type Machine struct {
	// Name is how the machine is addressed in every operation, unique within
	// a configuration.
	Name string `json:"name"`
	// Label is the hypervisor's own name for the machine, such as a libvirt
	// domain; empty where it has none. It is the driver's affair alone.
	Label string `json:"label,omitempty"`
	// IP is the address at which the guest answers, as configured.
	IP string `json:"ip,omitempty"`
	// MACAddress is the guest's network card, lower case with colons; empty
	// if it was not configured.
	MACAddress string `json:"mac_address,omitempty"`
	// Platform, OSVersion and Architecture describe the guest's system, such
	// as "windows", "10", "amd64".
	Platform     string `json:"platform,omitempty"`
	OSVersion    string `json:"os_version,omitempty"`
	Architecture string `json:"architecture,omitempty"`
	// Interface is the host's network interface that the guest is reached by.
	Interface string `json:"interface,omitempty"`
	// AgentPort is the TCP port of the agent in the guest, 1–65535.
	AgentPort int `json:"agent_port,omitempty"`
	// Tags are the user's words for what the machine offers, in their order.
	Tags []string `json:"tags,omitempty"`
}

// Names returns the names of machines, in their order.
func Names(machines []Machine) []string {
	names := make([]string, len(machines))
	for i, m := range machines {
		names[i] = m.Name
	}
	return names
}
