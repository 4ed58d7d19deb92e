package main

import (
	"fmt"
	"strings"

	"github.com/machineries/machineries/conformance"
)

// catalogueMarkdown is the catalogue of requirements as a document.
// docs/requirements.md is this text, and a test holds that it is.
func catalogueMarkdown(all []conformance.Requirement) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Requirements

<!-- Written by "make catalogue" from the suite's own table. Do not edit. -->

What a machinery driver has to do: %d requirements. Each is tested by the
conformance suite under its id, which never changes. MUST, SHOULD and MAY are
those of RFC 2119; only a MUST that is not kept makes a driver not conformant.

`, len(all))
	area := ""
	for _, r := range all {
		if name := areaOf(r.ID); name != area {
			area = name
			fmt.Fprintf(&b, "## %s\n\n", area)
		}
		fmt.Fprintf(&b, "### %s\n\n**%s** (%s)\n\n", r.ID, r.Rule, r.Level)
		fmt.Fprintf(&b, "%s\n\n", r.Why)
		fmt.Fprintf(&b, "- Operation: `%s`\n- Applies to: %s\n- Lab needs: %s\n- Source: %s\n\n", r.Op, appliesTo(r), labNeeds(r), r.Source)
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// areaOf is the middle of an id: "RESTORE" in MM-RESTORE-003.
func areaOf(id string) string {
	id = strings.TrimPrefix(id, "MM-")
	if i := strings.LastIndexByte(id, '-'); i > 0 {
		id = id[:i]
	}
	return id
}
