//go:build linux

package qemu

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// opts is an option's argument taken apart: "socket,id=q,path=a,,b,server=on".
type opts struct {
	keys   []string
	values map[string]string
}

func (o *opts) get(key string) string { return o.values[key] }

func (o *opts) has(key string) bool {
	_, ok := o.values[key]
	return ok
}

func (o *opts) set(key, value string) {
	if !o.has(key) {
		o.keys = append(o.keys, key)
	}
	o.values[key] = value // the last one counts
}

// bool reads an on/off value; the error has QEMU's text.
func (o *opts) bool(key string, def bool) (bool, error) {
	switch v, ok := o.values[key]; {
	case !ok:
		return def, nil
	case v == "on" || v == "yes" || v == "true" || v == "y":
		return true, nil
	case v == "off" || v == "no" || v == "false" || v == "n":
		return false, nil
	}
	return false, fmt.Errorf("Parameter '%s' expects 'on' or 'off'", key)
}

// parseOpts takes an argument apart. implied is the name of a first value without a
// name, "" where there is none. warn is given what QEMU warns of: values without a
// name elsewhere mean "on", or "off" after "no".
func parseOpts(arg, implied string, warn func(string)) *opts {
	o := &opts{values: map[string]string{}}
	for first := true; arg != "" || first && implied != ""; first = false {
		var word string
		word, arg = nextWord(arg)
		key, value, named := strings.Cut(word, "=")
		switch {
		case named:
		case first && implied != "":
			key, value = implied, word
		default:
			key, value = word, "on"
			if strings.HasPrefix(word, "no") {
				key, value = word[2:], "off"
			}
			if warn != nil && word != "server" && word != "nowait" && word != "nodelay" {
				warn(fmt.Sprintf("warning: short-form boolean option '%s' deprecated\nPlease use %s=%s instead", word, key, value))
			}
		}
		o.set(key, value)
	}
	return o
}

// nextWord cuts arg at its first comma that is not doubled; doubled ones become one.
func nextWord(arg string) (word, rest string) {
	var b strings.Builder
	for i := 0; i < len(arg); i++ {
		if arg[i] == ',' {
			if i+1 == len(arg) || arg[i+1] != ',' {
				return b.String(), arg[i+1:]
			}
			i++
		}
		b.WriteByte(arg[i])
	}
	return b.String(), ""
}

// allowed says whether all names are known; the error has QEMU's text.
func (o *opts) allowed(names string) error {
	known := strings.Fields(names)
next:
	for _, k := range o.keys {
		for _, n := range known {
			if k == n {
				continue next
			}
		}
		return fmt.Errorf("Invalid parameter '%s'", k)
	}
	return nil
}

const sizeHelp = "Parameter '%s' expects a non-negative number below 2^64\n" +
	"Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively."

// parseSize reads a size with an optional suffix; unit is that of a bare number.
func parseSize(key, s string, unit byte) (int64, error) {
	num, mul := s, int64(1)
	if i := strings.IndexByte("bkmgtpe", unit|0x20); i > 0 {
		mul = 1 << (10 * i)
	}
	if n := len(s); n > 0 {
		if i := strings.IndexByte("bkmgtpe", s[n-1]|0x20); i >= 0 && s[n-1] > '9' {
			num, mul = s[:n-1], 1<<(10*i)
		}
	}
	if v, err := strconv.ParseUint(num, 0, 63); err == nil && v <= math.MaxInt64/uint64(mul) {
		return int64(v) * mul, nil
	}
	if v, err := strconv.ParseFloat(num, 64); err == nil && v >= 0 && strings.Contains(num, ".") && v*float64(mul) < math.MaxInt64 {
		return int64(v * float64(mul)), nil
	}
	return 0, fmt.Errorf(sizeHelp, key)
}

// identifier says whether s may be an id.
func identifier(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i == 0 || !(c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_')) {
			return false
		}
	}
	return s != ""
}

const idHelp = "Parameter 'id' expects an identifier\nIdentifiers consist of letters, digits, '-', '.', '_', starting with a letter."
