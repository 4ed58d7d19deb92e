//go:build !linux

package guest

import "net"

// peer knows no process ids here.
func peer(net.Conn) int { return 0 }
