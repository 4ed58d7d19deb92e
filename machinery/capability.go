package machinery

// Capability names an optional operation.
type Capability string

// The optional operations. Each has an interface of one or two methods and a
// package function of the same meaning.
const (
	CapNoRestoreStart Capability = "norestore_start"
	CapACPIStop       Capability = "acpi_stop"
	CapDumpMemory     Capability = "dump_memory"
	CapHandlePaused   Capability = "handle_paused"
	CapScreenshot     Capability = "screenshot"
	CapVersion        Capability = "version"
	CapDependencies   Capability = "verify_dependencies"
	CapNetworkCapture Capability = "netcapture"
	CapWatch          Capability = "watch"
)

// capabilities is the one table of optional operations: each with the check
// for its interface.
var capabilities = []struct {
	cap  Capability
	doc  string
	with func(Machinery) bool
}{
	{CapNoRestoreStart, "start a machine without restoring its snapshot", has[NoRestoreStarter]},
	{CapACPIStop, "press the machine's power button", has[ACPIStopper]},
	{CapDumpMemory, "write the guest's memory to a file", has[MemoryDumper]},
	{CapHandlePaused, "resume a machine whose snapshot was saved paused", has[PausedHandler]},
	{CapScreenshot, "picture of the machine's display", has[Screenshotter]},
	{CapVersion, "version of the hypervisor", has[Versioner]},
	{CapDependencies, "check of what the driver needs on the host", has[DependencyChecker]},
	{CapNetworkCapture, "record a machine's network traffic", has[NetworkCapturer]},
	{CapWatch, "follow a machine's status", has[Watcher]},
}

func has[T any](m Machinery) bool {
	_, ok := m.(T)
	return ok
}

// Capabilities returns all optional operations, in the order of their
// documentation.
func Capabilities() []Capability {
	all := make([]Capability, len(capabilities))
	for i, c := range capabilities {
		all[i] = c.cap
	}
	return all
}

// Doc says in a few words what the operation does; empty for a capability that
// does not exist.
func (c Capability) Doc() string {
	for _, known := range capabilities {
		if known.cap == c {
			return known.doc
		}
	}
	return ""
}

// Capable is implemented by a driver whose methods do not tell what it can do:
// a wrapper around another driver, or one that lives in another process. A
// method that Supports denies is not called, and a method that is missing
// cannot be declared.
type Capable interface {
	Supports(Capability) bool
}

// Supports reports whether m has an optional operation: it has the methods,
// and does not deny them as [Capable].
func Supports(m Machinery, c Capability) bool {
	if self, ok := m.(Capable); ok && !self.Supports(c) {
		return false
	}
	for _, known := range capabilities {
		if known.cap == c {
			return known.with(m)
		}
	}
	return false
}
