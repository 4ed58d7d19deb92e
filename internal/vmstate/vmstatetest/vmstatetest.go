// Package vmstatetest makes memory snapshots for tests.
package vmstatetest

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Packings are the ways in which Packed packs.
var Packings = []string{"raw", "gzip", "lz4", "zstd"}

// Stream is a memory snapshot in the form that QEMU gives it, of about ten bytes for each of its sections.
func Stream(machineType string, sections int) []byte {
	var b bytes.Buffer
	b.WriteString("QEVM\x00\x00\x00\x03\x07")
	_ = binary.Write(&b, binary.BigEndian, uint32(len(machineType)))
	b.WriteString(machineType)
	b.Write(bytes.Repeat([]byte("state \x06 "), sections))
	b.WriteByte(0)
	description := `{"configuration": {}, "devices": []}`
	b.WriteByte(6)
	_ = binary.Write(&b, binary.BigEndian, uint32(len(description)))
	b.WriteString(description)
	return b.Bytes()
}

// Packed is data packed in one of the ways.
func Packed(t testing.TB, how string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch how {
	case "raw":
		return data
	case "gzip":
		w = gzip.NewWriter(&b)
	case "lz4":
		w = lz4.NewWriter(&b)
	case "zstd":
		z, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w = z
	default:
		t.Fatalf("there is no packing %q", how)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
