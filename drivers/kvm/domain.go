//go:build linux

package kvm

import (
	"context"
	"fmt"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/kvm/rpc"
)

// noDomain says that libvirt has no domain of the machine's label.
type noDomain struct {
	label string
	err   error
}

func (e *noDomain) Error() string {
	if e.err == nil {
		return fmt.Sprintf("libvirt has no domain %q", e.label)
	}
	return fmt.Sprintf("libvirt has no domain %q: %v", e.label, e.err)
}

func (e *noDomain) Unwrap() error { return e.err }

// domain is the machine's domain as it was found last, or is looked for now. libvirt knows it by its UUID; its id changes with every
// start.
func (v *vm) domain(ctx context.Context) (dom libvirt.Domain, cached bool, err error) {
	if dom := v.dom.Load(); dom != nil {
		return *dom, true, nil
	}
	dom, err = v.lookup(ctx)
	return dom, false, err
}

// lookup looks for the domain by its name. The error is *noDomain if there is none.
func (v *vm) lookup(ctx context.Context) (libvirt.Domain, error) {
	var dom libvirt.Domain
	err := v.d.client.Do(ctx, "looking for the domain", func(l *libvirt.Libvirt) (err error) {
		dom, err = l.DomainLookupByName(v.conf.Label)
		return err
	})
	if rpc.IsCode(err, libvirt.ErrNoDomain) {
		return dom, &noDomain{v.conf.Label, err}
	}
	if err == nil {
		v.found(dom)
	}
	return dom, err
}

// found remembers the domain.
func (v *vm) found(dom libvirt.Domain) {
	dom.ID = -1 // it is another one after the next start, and libvirt does not look at it
	v.dom.Store(&dom)
}

// do makes a short call about the machine's domain. A domain that was undefined and defined again since it was found is another
// one for libvirt, and is looked for by its name once more.
func (v *vm) do(ctx context.Context, what string, f func(*libvirt.Libvirt, libvirt.Domain) error) error {
	return v.call(ctx, func(dom libvirt.Domain) error {
		return v.d.client.Do(ctx, what, func(l *libvirt.Libvirt) error { return f(l, dom) })
	})
}

// doLong is do for calls that take their time, which have connections of their own.
func (v *vm) doLong(ctx context.Context, what string, f func(*libvirt.Libvirt, libvirt.Domain) error) error {
	return v.call(ctx, func(dom libvirt.Domain) error {
		return v.d.client.DoLong(ctx, what, func(l *libvirt.Libvirt) error { return f(l, dom) })
	})
}

// call is do for calls of any kind.
func (v *vm) call(ctx context.Context, f func(libvirt.Domain) error) error {
	dom, cached, err := v.domain(ctx)
	if err != nil {
		return err
	}
	err = f(dom)
	if !rpc.IsCode(err, libvirt.ErrNoDomain) {
		return err
	}
	if v.only {
		return &noDomain{v.conf.Label, err}
	}
	v.dom.Store(nil)
	if !cached {
		return &noDomain{v.conf.Label, err}
	}
	if dom, err = v.lookup(ctx); err != nil {
		return err
	}
	err = f(dom)
	if rpc.IsCode(err, libvirt.ErrNoDomain) {
		v.dom.Store(nil)
		return &noDomain{v.conf.Label, err}
	}
	return err
}

// get makes a short call about the machine's domain that has a result.
func get[T any](ctx context.Context, v *vm, what string, f func(*libvirt.Libvirt, libvirt.Domain) (T, error)) (T, error) {
	return result(ctx, v.do, what, f)
}

// getLong is get for calls that take their time.
func getLong[T any](ctx context.Context, v *vm, what string, f func(*libvirt.Libvirt, libvirt.Domain) (T, error)) (T, error) {
	return result(ctx, v.doLong, what, f)
}

func result[T any](ctx context.Context, by func(context.Context, string, func(*libvirt.Libvirt, libvirt.Domain) error) error, what string, f func(*libvirt.Libvirt, libvirt.Domain) (T, error)) (T, error) {
	found := new(T)
	err := by(ctx, what, func(l *libvirt.Libvirt, dom libvirt.Domain) (err error) {
		*found, err = f(l, dom)
		return err
	})
	if err != nil {
		var none T
		return none, err
	}
	return *found, nil
}
