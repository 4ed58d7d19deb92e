//go:build linux

package qemu

func interpose(real string, args []string, control *link, p *plan) int { return 1 }
