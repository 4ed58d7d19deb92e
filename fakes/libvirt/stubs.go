package libvirt

import "context"

var saveProcedures, lookProcedures []procedure

func (d *Domain) restore(context.Context, []byte, *element, bool) error {
	return fail(codeNoSupport, fromQEMU, "virDomainRestore")
}
