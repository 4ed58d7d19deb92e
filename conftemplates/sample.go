package conftemplates

import (
	"fmt"
	"time"

	"github.com/machineries/machineries/machinery/config"
)

// sample is the n-th of many different values that a plain type permits, apart from what depends on the host.
func sample(t config.Type, n int) any {
	switch t := t.(type) {
	case config.String:
		if len(t.OneOf) > 0 {
			return t.OneOf[n%len(t.OneOf)]
		}
	case config.Int:
		from, to := int64(1), int64(1<<30)
		switch {
		case t.Min != nil && t.Max != nil:
			from, to = *t.Min, *t.Max
		case t.Min != nil:
			from, to = *t.Min, *t.Min+1<<20
		case t.Max != nil:
			from, to = *t.Max-1<<20, *t.Max
		}
		return int(from + int64(n)%max(1, to-from+1))
	case config.Bool:
		return n%2 == 0
	case config.Duration:
		from := time.Second
		if t.Min != nil {
			from = *t.Min
		}
		d := from + time.Duration(n)*time.Second
		if t.Max != nil && d > *t.Max {
			d = *t.Max
		}
		return lengthOfTime(d)
	case config.MACAddress:
		return fmt.Sprintf("52:54:00:%02d:%02d:%02d", n/3600%60, n/60%60, n%60)
	case config.IPAddress:
		if t.Version == 6 {
			return fmt.Sprintf("2001:db8::%x", n%0xffff+1)
		}
		return fmt.Sprintf("192.168.%d.%d", n/254%256, n%254+1)
	case config.HypervisorURI:
		return fmt.Sprintf("qemu+ssh://user%d@host/system", n)
	case config.HTTPUrl:
		return fmt.Sprintf("http://host/?n=%d#x", n)
	case config.FilePath, config.DirectoryPath, config.UnixSocketPath:
		return fmt.Sprintf("/srv/example%d", n)
	case config.NetworkInterface:
		return fmt.Sprintf("br%d", n)
	}
	return fmt.Sprintf("example%d", n)
}
