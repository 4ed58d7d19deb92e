package machinery

// State is what a machine is doing, in the words that Cuckoo3 uses.
type State string

// The states of a machine. The zero value is none of them: a driver that does
// not know the state returns an error, never a guess.
const (
	// StateStarting: the hypervisor is up or coming up and the machine has not run
	// yet; its snapshot is being loaded.
	StateStarting State = "starting"
	// StateRunning: the guest's processors execute.
	StateRunning State = "running"
	// StatePaused: the guest stands still because of the driver: its snapshot was
	// saved paused, or the driver is dumping its memory.
	StatePaused State = "paused"
	// StateStopping: the machine was asked to go off, or is being ended.
	StateStopping State = "stopping"
	// StatePoweroff: there is nothing left of the machine that could run.
	StatePoweroff State = "poweroff"
	// StateSuspended: the guest put itself to sleep.
	StateSuspended State = "suspended"
	// StateError: the machine is not usable as it is, and Status.Reason says why:
	// its configuration is wrong, its start failed, its guest or its
	// hypervisor broke down, or someone else paused it. Stop leads out of it, except
	// where the configuration is wrong.
	StateError State = "error"
)

// States returns all states, in the order of a machine's life.
func States() []State {
	return []State{StateStarting, StateRunning, StatePaused, StateStopping, StatePoweroff, StateSuspended, StateError}
}

// Valid reports whether s is one of the states.
func (s State) Valid() bool {
	for _, known := range States() {
		if s == known {
			return true
		}
	}
	return false
}

// Status is a state with what is known of its cause.
type Status struct {
	State State `json:"state"`
	// Reason is a short stable word or phrase for why the machine is in this
	// state, such as "io-error" or "from snapshot"; empty if there is nothing
	// to say.
	Reason string `json:"reason,omitempty"`
	// Detail is for people: the hypervisor's own words, a path, an exit
	// status. It may span lines.
	Detail string `json:"detail,omitempty"`
}

// String returns "state", or "state (reason)".
func (s Status) String() string {
	if s.State == "" {
		return "unknown"
	}
	if s.Reason == "" {
		return string(s.State)
	}
	return string(s.State) + " (" + s.Reason + ")"
}
