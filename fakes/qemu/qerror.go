//go:build linux

package qemu

import "fmt"

// qerror is an error of QMP's: a class that programs read and a text.
type qerror struct {
	class, desc string
}

func (e *qerror) Error() string { return e.desc }

func generic(format string, args ...any) *qerror {
	return &qerror{"GenericError", fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) *qerror {
	return &qerror{"CommandNotFound", fmt.Sprintf(format, args...)}
}

// asQError makes a qerror of any error.
func asQError(err error) *qerror {
	if q, ok := err.(*qerror); ok {
		return q
	}
	return generic("%s", err.Error())
}
