package libvirt

import "context"

type snapshot struct{ name string }

var snapshotProcedures, saveProcedures, lookProcedures []procedure

func (d *Domain) restore(context.Context, []byte, *element, bool) error {
	return fail(codeNoSupport, fromQEMU, "virDomainRestore")
}
