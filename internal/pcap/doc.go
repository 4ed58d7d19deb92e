// Package pcap reads, filters, joins and writes recordings of network traffic in the pcap format (file format version 2.4, as
// in draft-ietf-opsawg-pcap): both byte orders, times in micro- or nanoseconds. It knows nothing of pcapng.
//
// What is in a recording was chosen by whoever sent it, so nothing in it is trusted: lengths are bounded before anything is read.
package pcap
