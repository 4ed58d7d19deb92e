package libvirt

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// Where an error comes from: VIR_FROM_ of libvirt's virterror.h.
const (
	fromXML      = 5
	fromRPC      = 7
	fromQEMU     = 10
	fromTest     = 12
	fromRemote   = 13
	fromDomain   = 20
	fromSnapshot = 35
	fromStreams  = 38
	fromEvent    = 40
)

// Error codes: VIR_ERR_ of libvirt's virterror.h.
const (
	codeInternal       = 1
	codeNoSupport      = 3
	codeInvalidArg     = 8
	codeFailed         = 9
	codeXML            = 27
	codeOpenFailed     = 30
	codeXMLDetail      = 35
	codeSystem         = 38
	codeRPC            = 39
	codeNoDomain       = 42
	codeAuthFailed     = 45
	codeInvalid        = 55
	codeConfig         = 67
	codeTimeout        = 68
	codeBadSnapshot    = 71
	codeNoSnapshot     = 72
	codeArgUnsupported = 74
	codeRisky          = 77
	codeAborted        = 78
	codeUnsupported    = 84
)

// prefixes is how libvirt begins the text of an error with such a code.
var prefixes = map[int32]string{
	codeInternal: "internal error: ", codeNoSupport: "this function is not supported by the connection driver: ",
	codeFailed: "operation failed: ", codeXML: "XML error: ", codeNoDomain: "Domain not found: ", codeAuthFailed: "authentication failed: ",
	codeInvalid: "Requested operation is not valid: ", codeConfig: "unsupported configuration: ",
	codeTimeout: "Timed out during operation: ", codeBadSnapshot: "Invalid snapshot: ", codeNoSnapshot: "Domain snapshot not found: ",
	codeArgUnsupported: "argument unsupported: ", codeRisky: "revert requires force: ", codeAborted: "operation aborted: ",
	codeUnsupported: "Operation not supported: ",
}

// Error is an error as libvirt sends it.
type Error struct {
	Code, Domain int32
	// Message is the whole text, as clients print it.
	Message string
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// fail makes an error of that code, with libvirt's beginning of its text.
func fail(code, domain int32, format string, args ...any) *Error {
	return &Error{Code: code, Domain: domain, Message: prefixes[code] + fmt.Sprintf(format, args...)}
}

// failArg is an error about an argument, whose text libvirt begins.
func failArg(domain int32, format string, args ...any) *Error {
	return fail(codeInvalidArg, domain, "invalid argument: "+format, args...)
}

// failSystem is an error of the operating system; format says what was tried.
func failSystem(domain int32, err error, format string, args ...any) *Error {
	text := err.Error()
	var no syscall.Errno
	if errors.As(err, &no) {
		text = strerror(no)
	}
	return fail(codeSystem, domain, "%s: %s", fmt.Sprintf(format, args...), text)
}

// strerror is the text of the C library, which begins with a capital.
func strerror(no syscall.Errno) string {
	text := no.Error()
	if text != "" && text[0] >= 'a' && text[0] <= 'z' {
		text = string(text[0]-'a'+'A') + text[1:]
	}
	return text
}

// asError is err as libvirt would send it.
func asError(err error, domain int32) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return fail(codeInternal, domain, "%s", err)
}

// wireError is remote_error of the protocol.
type wireError struct {
	Code    int32
	Domain  int32
	Message golibvirt.OptString
	Level   int32
	Dom     golibvirt.OptDomain
	Str1    golibvirt.OptString
	Str2    golibvirt.OptString
	Str3    golibvirt.OptString
	Int1    int32
	Int2    int32
	Net     golibvirt.OptNetwork
}

// wire is the error as it goes over the wire: beside the whole text there is the
// form of it, and what stands in that, as in what libvirt 9.0.0 sends.
func (e *Error) wire() wireError {
	const levelError = 2
	form, detail := "%s", e.Message
	if rest, ok := strings.CutPrefix(e.Message, prefixes[e.Code]); ok {
		form, detail = prefixes[e.Code]+"%s", rest
	}
	return wireError{
		Code: e.Code, Domain: e.Domain, Message: golibvirt.OptString{e.Message}, Level: levelError,
		Str1: golibvirt.OptString{form}, Str2: golibvirt.OptString{detail}, Int1: -1, Int2: -1,
	}
}
