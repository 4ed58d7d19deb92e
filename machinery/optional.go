package machinery

import (
	"context"
	"time"
)

// NoRestoreStarter is a driver that can start a machine without restoring its
// snapshot: it boots, from its disks as they are configured.
type NoRestoreStarter interface {
	// NoRestoreStart returns when the machine is running. It need not have a
	// snapshot, so that one can be made of it. What it writes does
	// not change the configured disk, with which the snapshot would not fit
	// any more.
	// Errors: as RestoreStart.
	NoRestoreStart(ctx context.Context, name string) error
}

// ACPIStopper is a driver that can press the machine's power button.
type ACPIStopper interface {
	// ACPIStop presses the power button and returns once the hypervisor has
	// taken the request; it does not wait for the guest, which may ignore it.
	// A driver that cannot know whether the guest obeys goes on to say
	// running.
	// Errors: [ErrStateReached] if the machine is off, [ErrUnexpectedState]
	// if it is paused, [ErrConnection] if the hypervisor does not answer.
	ACPIStop(ctx context.Context, name string) error
}

// MemoryDumper is a driver that can write the guest's memory to a file.
type MemoryDumper interface {
	// DumpMemory writes the memory to path, a file that must not exist yet,
	// with mode 0600: whole, or not at all. The machine's run state is the
	// same after it as before.
	// Errors: [ErrUnexpectedState] if the machine is off, [ErrConfig] if
	// there is something at path, [ErrHypervisor] with the hypervisor's own
	// words if it cannot dump, [ErrInterrupted] if ctx ended or Stop was
	// called meanwhile.
	DumpMemory(ctx context.Context, name, path string) error
}

// PausedHandler is a driver that can resume a machine which RestoreStart left
// paused because its snapshot was saved so.
type PausedHandler interface {
	// HandlePaused returns when the machine is running.
	// Errors: [ErrStateReached] if it is running already,
	// [ErrUnexpectedState] if it is off or stands still for any other reason,
	// [ErrHypervisor] if the hypervisor refuses.
	HandlePaused(ctx context.Context, name string) error
}

// Screenshotter is a driver that can take a picture of a machine's display.
type Screenshotter interface {
	// Screenshot returns the picture as a PNG file's bytes.
	// Errors: [ErrUnexpectedState] if the machine is off, [ErrHypervisor] if
	// it has no display.
	Screenshot(ctx context.Context, name string) ([]byte, error)
}

// Versioner is a driver that can tell the version of its hypervisor.
type Versioner interface {
	// Version returns the version alone, such as "7.2.22", or an error; never
	// an empty string.
	Version(ctx context.Context) (string, error)
}

// DependencyChecker is a driver that can check what it needs on the host.
type DependencyChecker interface {
	// CheckDependencies returns nil, or an error of kind [ErrDependency] that
	// joins all that is missing.
	CheckDependencies(ctx context.Context) error
}

// NetworkCapturer is a driver that can record a machine's network traffic. How
// it does that is its configuration's affair, not its caller's.
type NetworkCapturer interface {
	// StartCapture begins to record, or arms the recording of a machine that is
	// off: it begins before the machine's next run does, so that the first frame
	// is in it. The next start uses up what is armed, whether it succeeds or not,
	// and a driver that is closed forgets it. What cannot be recorded fails here
	// or, if it was armed, in the start, before the machine runs. The machine's
	// state is the same after it as before.
	//
	// The file appears when the recording has ended: whole, as a pcap file with
	// mode 0600, even if nothing was recorded. The end of the machine's run ends
	// it: then the file is there when Stop returns, or a moment after the machine
	// went off by itself. It goes on after Close, and whoever takes over the machine
	// ends it.
	//
	// Errors: [ErrUnexpectedState] if a capture of the machine is under way or
	// armed, [ErrConfig] if there is something at the path, no file can be made
	// there, or c is wrong otherwise, [ErrCapture] if the traffic cannot be
	// recorded, [ErrConnection] if the hypervisor does not answer. Nothing is
	// changed then. RestoreStart and NoRestoreStart return the same for what was
	// armed, and leave no file if they fail.
	StartCapture(ctx context.Context, name string, c Capture) error
	// StopCapture ends the recording and returns when the file is there. It takes
	// back what is armed, which leaves no file.
	// Errors: [ErrStateReached] if no capture is under way or armed,
	// [ErrConnection] if the hypervisor does not answer, and the capture goes on,
	// [ErrCapture] if the file cannot be written, and there is
	// none, or if the recording ended early, and what there is of it is in the
	// file. Stop returns that too, though the machine is off.
	StopCapture(ctx context.Context, name string) error
}

// Capture says what to record and where to.
type Capture struct {
	// Path is the pcap file to write. There must be nothing there. One that is
	// relative is below the working directory of the process with the driver.
	Path string
	// MaxBytes is the most that the file may have, in bytes: nothing more is
	// recorded then, and the capture still has to be ended. 0 means the driver's
	// own bound.
	MaxBytes int64
	// Exclude lists traffic to leave out, such as that with the sandbox's agent
	// and its result server: all of which one side has the address and the port.
	Exclude []Endpoint
}

// Endpoint is an address and a port, as a packet has them.
type Endpoint struct {
	// Host is an IPv4 or IPv6 address. Names are not looked up.
	Host string
	// Port is one of TCP, UDP or SCTP, from 1 to 65535.
	Port int
}

// Watcher is a driver that can tell of changes without being asked.
type Watcher interface {
	// Watch sends the machine's present status at once, and then its changes.
	// Changes may be merged when the reader is slow, but the latest always
	// arrives. The channel is closed when ctx ends or the driver is closed.
	// A reader that stops reading holds up nothing.
	Watch(ctx context.Context, name string) (<-chan Event, error)
}

// Event is a machine's status at a moment.
type Event struct {
	Status Status    `json:"status"`
	Time   time.Time `json:"time"`
	// Gap is set if changes before this one may have been missed.
	Gap bool `json:"gap,omitempty"`
}

// NoRestoreStart starts a machine without restoring its snapshot; see
// [NoRestoreStarter]. Like every function here that stands for an optional
// operation, it returns an error that matches [ErrUnsupported] if the driver
// does not have it.
func NoRestoreStart(ctx context.Context, m Machinery, name string) error {
	if d, ok := m.(NoRestoreStarter); ok && Supports(m, CapNoRestoreStart) {
		return d.NoRestoreStart(ctx, name)
	}
	return Unsupported(OpNoRestoreStart, name)
}

// ACPIStop presses the machine's power button; see [ACPIStopper].
func ACPIStop(ctx context.Context, m Machinery, name string) error {
	if d, ok := m.(ACPIStopper); ok && Supports(m, CapACPIStop) {
		return d.ACPIStop(ctx, name)
	}
	return Unsupported(OpACPIStop, name)
}

// DumpMemory writes the guest's memory to a file; see [MemoryDumper].
func DumpMemory(ctx context.Context, m Machinery, name, path string) error {
	if d, ok := m.(MemoryDumper); ok && Supports(m, CapDumpMemory) {
		return d.DumpMemory(ctx, name, path)
	}
	return Unsupported(OpDumpMemory, name)
}

// HandlePaused resumes a machine whose snapshot was saved paused; see
// [PausedHandler].
func HandlePaused(ctx context.Context, m Machinery, name string) error {
	if d, ok := m.(PausedHandler); ok && Supports(m, CapHandlePaused) {
		return d.HandlePaused(ctx, name)
	}
	return Unsupported(OpHandlePaused, name)
}

// Screenshot takes a picture of the machine's display; see [Screenshotter].
func Screenshot(ctx context.Context, m Machinery, name string) ([]byte, error) {
	if d, ok := m.(Screenshotter); ok && Supports(m, CapScreenshot) {
		return d.Screenshot(ctx, name)
	}
	return nil, Unsupported(OpScreenshot, name)
}

// Version returns the hypervisor's version; see [Versioner].
func Version(ctx context.Context, m Machinery) (string, error) {
	if d, ok := m.(Versioner); ok && Supports(m, CapVersion) {
		return d.Version(ctx)
	}
	return "", Unsupported(OpVersion, "")
}

// CheckDependencies checks what the driver needs on the host; see
// [DependencyChecker].
func CheckDependencies(ctx context.Context, m Machinery) error {
	if d, ok := m.(DependencyChecker); ok && Supports(m, CapDependencies) {
		return d.CheckDependencies(ctx)
	}
	return Unsupported(OpDependencies, "")
}

// StartCapture begins to record a machine's network traffic; see
// [NetworkCapturer].
func StartCapture(ctx context.Context, m Machinery, name string, c Capture) error {
	if d, ok := m.(NetworkCapturer); ok && Supports(m, CapNetworkCapture) {
		return d.StartCapture(ctx, name, c)
	}
	return Unsupported(OpStartCapture, name)
}

// StopCapture ends the recording of a machine's network traffic; see
// [NetworkCapturer].
func StopCapture(ctx context.Context, m Machinery, name string) error {
	if d, ok := m.(NetworkCapturer); ok && Supports(m, CapNetworkCapture) {
		return d.StopCapture(ctx, name)
	}
	return Unsupported(OpStopCapture, name)
}

// Watch follows a machine's status; see [Watcher].
func Watch(ctx context.Context, m Machinery, name string) (<-chan Event, error) {
	if d, ok := m.(Watcher); ok && Supports(m, CapWatch) {
		return d.Watch(ctx, name)
	}
	return nil, Unsupported(OpWatch, name)
}
