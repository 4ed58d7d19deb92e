package libvirt

// job is a long operation that libvirt tells of in DomainGetJobInfo, and that can
// be aborted.
type job struct {
	aborted bool
}
