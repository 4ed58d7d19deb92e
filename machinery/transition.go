package machinery

// Transition is one step that a machine may be seen to take.
type Transition struct {
	From, To State
	// Why names what makes the machine take this step.
	Why string
}

// transitions is the one table of legal steps; the package documentation
// prints it and a test holds the two together.
var transitions = []Transition{
	{StatePoweroff, StateStarting, "a start begins"},
	{StateStarting, StateRunning, "the snapshot was saved running"},
	{StateStarting, StatePaused, "the snapshot was saved paused"},
	{StateStarting, StateStopping, "Stop cancels the start"},
	{StateStarting, StatePoweroff, "Stop cancelled the start"},
	{StateStarting, StateError, "the start failed"},
	{StateRunning, StatePaused, "the driver dumps the memory"},
	{StateRunning, StateStopping, "the machine is being stopped, or its power button was pressed"},
	{StateRunning, StatePoweroff, "the guest switched itself off"},
	{StateRunning, StateSuspended, "the guest went to sleep"},
	{StateRunning, StateError, "the guest or the hypervisor broke down, or someone else paused the machine"},
	{StatePaused, StateRunning, "HandlePaused, or the end of a memory dump"},
	{StatePaused, StateStopping, "the machine is being stopped"},
	{StatePaused, StatePoweroff, "the hypervisor ended"},
	{StatePaused, StateError, "the hypervisor broke down"},
	{StateSuspended, StateRunning, "the guest woke up"},
	{StateSuspended, StateStopping, "the machine is being stopped"},
	{StateSuspended, StatePoweroff, "the hypervisor ended"},
	{StateSuspended, StateError, "the hypervisor broke down"},
	{StateStopping, StatePoweroff, "the machine is off"},
	{StateStopping, StateRunning, "the guest ignored the power button"},
	{StateStopping, StatePaused, "the driver dumps the memory of a guest that ignores the power button"},
	{StateStopping, StateSuspended, "the guest took the power button for sleep"},
	{StateStopping, StateError, "the machine could not be stopped"},
	{StateError, StateStopping, "the machine is being stopped"},
	{StateError, StatePoweroff, "Stop, or the hypervisor ended"},
	{StateError, StateStarting, "a start after a failed start"},
	{StateError, StateRunning, "what was wrong is over"},
	{StateError, StatePaused, "what was wrong is over"},
}

// Transitions returns the table of legal steps. A step from a state to itself
// is always legal and not listed.
func Transitions() []Transition {
	return append([]Transition(nil), transitions...)
}

// CanStep reports whether a machine may go from one state straight to the
// other.
func CanStep(from, to State) bool {
	if from == to {
		return from.Valid()
	}
	for _, t := range transitions {
		if t.From == from && t.To == to {
			return true
		}
	}
	return false
}

// CanReach reports whether a machine may be seen in state from and later in
// state to, by any number of steps through states between them other than
// poweroff and error, from which a new run begins. An observer that polls sees
// such jumps: a machine that was starting a moment ago may be suspended now.
// What it must never see within one run of the machine is, for instance,
// starting after running.
func CanReach(from, to State) bool {
	if from == to {
		return from.Valid()
	}
	seen := map[State]bool{from: true}
	for queue := []State{from}; len(queue) > 0; queue = queue[1:] {
		for _, t := range transitions {
			if t.From != queue[0] || seen[t.To] {
				continue
			}
			if t.To == to {
				return true
			}
			seen[t.To] = true
			if t.To != StatePoweroff && t.To != StateError {
				queue = append(queue, t.To)
			}
		}
	}
	return false
}
