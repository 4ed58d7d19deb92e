package conformance

import "time"

// Timing has one limit for each thing that the suite waits for. A zero field
// means its default. Each default is far above what a right driver needs on a
// fast host; a slow one sets Scale.
type Timing struct {
	// Start is how long a start may take until the machine has settled.
	// Default 60 s.
	Start time.Duration
	// Stop is how long Stop may take, from every state, also when the
	// hypervisor does not answer. Default 20 s.
	Stop time.Duration
	// State is how long State may take, also when the hypervisor does not
	// answer. Default 10 s.
	State time.Duration
	// Prompt is how long an operation may take to return that has nothing to
	// wait for: a refusal, a context that has ended, an unknown name.
	// Default 5 s.
	Prompt time.Duration
	// Guest is how long the guest may take to answer or to go off, and how
	// long a change that it made may take to be seen in State. Default 20 s.
	Guest time.Duration
	// Clean is how long what is left of a machine that went off by itself may
	// take to be cleared away. Default 10 s.
	Clean time.Duration
	// Quiet is how long the suite watches that something does not happen. A
	// wrong driver that is slower than this is not noticed; a right one never
	// fails for it. Default 250 ms.
	Quiet time.Duration
	// Spec is how long one requirement may take as a whole. Default 180 s.
	Spec time.Duration
	// Scale multiplies every limit but Quiet. 0 means 1.
	Scale float64
}

// withDefaults fills in what is not set and applies the scale.
func (t Timing) withDefaults() Timing {
	scale := t.Scale
	if scale <= 0 {
		scale = 1
	}
	for _, f := range []struct {
		value    *time.Duration
		standard time.Duration
	}{
		{&t.Start, 60 * time.Second}, {&t.Stop, 20 * time.Second}, {&t.State, 10 * time.Second}, {&t.Prompt, 5 * time.Second},
		{&t.Guest, 20 * time.Second}, {&t.Clean, 10 * time.Second}, {&t.Spec, 180 * time.Second},
	} {
		if *f.value <= 0 {
			*f.value = f.standard
		}
		*f.value = time.Duration(float64(*f.value) * scale)
	}
	if t.Quiet <= 0 {
		t.Quiet = 250 * time.Millisecond
	}
	t.Scale = 1
	return t
}
