//go:build linux

package kvm

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// domainXML is what the driver reads of a domain's definition.
type domainXML struct {
	Type   string `xml:"type,attr"`
	Name   string `xml:"name"`
	UUID   string `xml:"uuid"`
	Memory struct {
		Unit string `xml:"unit,attr"`
		Size int64  `xml:",chardata"`
	} `xml:"memory"`
	Devices struct {
		Emulator   string         `xml:"emulator"`
		Disks      []diskXML      `xml:"disk"`
		Interfaces []interfaceXML `xml:"interface"`
	} `xml:"devices"`
}

// diskXML is one of a domain's disks.
type diskXML struct {
	Type   string `xml:"type,attr"`
	Device string `xml:"device,attr"` // empty for a disk
	Driver struct {
		Type string `xml:"type,attr"`
	} `xml:"driver"`
	Source struct {
		File string `xml:"file,attr"`
		Dev  string `xml:"dev,attr"`
		Name string `xml:"name,attr"`
	} `xml:"source"`
	Target struct {
		Dev string `xml:"dev,attr"`
		Bus string `xml:"bus,attr"`
	} `xml:"target"`
	ReadOnly  *struct{} `xml:"readonly"`
	Transient *struct{} `xml:"transient"`
}

// interfaceXML is one of a domain's network cards.
type interfaceXML struct {
	Type   string `xml:"type,attr"`
	Source struct {
		Network string `xml:"network,attr"`
		Bridge  string `xml:"bridge,attr"`
	} `xml:"source"`
	MAC struct {
		Address string `xml:"address,attr"`
	} `xml:"mac"`
	Alias struct {
		Name string `xml:"name,attr"`
	} `xml:"alias"`
	Target struct {
		Dev string `xml:"dev,attr"`
	} `xml:"target"`
}

// writable is whether the guest can change what is on the disk.
func (d diskXML) writable() bool {
	return d.ReadOnly == nil && d.Device != "cdrom"
}

// where is where the disk's content is.
func (d diskXML) where() string {
	for _, s := range []string{d.Source.File, d.Source.Dev, d.Source.Name} {
		if s != "" {
			return s
		}
	}
	return "no file"
}

// snapshotXML is what the driver reads of a snapshot's description.
type snapshotXML struct {
	Name   string `xml:"name"`
	State  string `xml:"state"`
	Memory struct {
		Snapshot string `xml:"snapshot,attr"`
	} `xml:"memory"`
	Disks []struct {
		Name     string `xml:"name,attr"`
		Snapshot string `xml:"snapshot,attr"`
	} `xml:"disks>disk"`
	Domain domainXML `xml:"domain"`
}

func parseXML(text string, into any) error {
	d := xml.NewDecoder(strings.NewReader(text))
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("libvirt's XML cannot be read: %w", err)
	}
	return nil
}
