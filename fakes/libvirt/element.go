package libvirt

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
)

// element is a piece of a domain's XML, kept whole: what the fake does not look
// at comes back as it was.
type element struct {
	name     string
	attrs    []xml.Attr
	children []*element
	text     string
}

// parseXML reads a document whose root has that name.
func parseXML(text, root string) (*element, error) {
	dec := xml.NewDecoder(strings.NewReader(text))
	var stack []*element
	var top *element
	for {
		// Raw, so that names keep the prefixes that they have.
		token, err := dec.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			why := err.Error()
			if e, is := errors.AsType[*xml.SyntaxError](err); is {
				why = e.Msg
			}
			return nil, malformed(text, root, dec, why)
		}
		switch t := token.(type) {
		case xml.StartElement:
			e := &element{name: qualified(t.Name), attrs: t.Attr}
			if len(stack) > 0 {
				parent := stack[len(stack)-1]
				parent.children = append(parent.children, e)
			} else if top == nil {
				top = e
			}
			stack = append(stack, e)
		case xml.EndElement:
			if len(stack) == 0 || stack[len(stack)-1].name != qualified(t.Name) {
				open := "nothing"
				if len(stack) > 0 {
					open = stack[len(stack)-1].name
				}
				return nil, malformed(text, root, dec, "Opening and ending tag mismatch: "+open+" and "+qualified(t.Name))
			}
			stack = stack[:len(stack)-1]
		case xml.CharData:
			switch {
			case len(stack) > 0:
				stack[len(stack)-1].text += string(t)
			case top == nil && strings.TrimSpace(string(t)) != "":
				return nil, malformed(text, root, dec, "Start tag expected, '<' not found")
			}
		}
	}
	switch {
	case top == nil:
		return nil, malformed(text, root, dec, "Document is empty")
	case len(stack) > 0:
		return nil, malformed(text, root, dec, "Premature end of data in tag "+stack[len(stack)-1].name)
	}
	if top.name != root {
		return nil, fail(codeXML, fromXML, "expecting root element of '%s', not '%s'", root, top.name)
	}
	return top, nil
}

// malformed is the error for what is no XML, as virXMLParseHelper of libvirt 9.0.0 makes it: from what the document is of, with the place in it. What is
// wrong is said in libxml's words where those are simple, else in Go's.
func malformed(text, root string, dec *xml.Decoder, why string) error {
	name, from := "(domain_definition)", int32(fromDomain)
	if root == "domainsnapshot" {
		name, from = "(domain_snapshot)", fromSnapshot
	}
	line, _ := dec.InputPos()
	quoted := "(null)"
	if lines := strings.Split(text, "\n"); text != "" && line <= len(lines) {
		quoted = lines[line-1]
	}
	return fail(codeXMLDetail, from, "%s:%d: %s\n%s", name, line, why, quoted)
}

// qualified is a name with its prefix.
func qualified(n xml.Name) string {
	if n.Space == "" {
		return n.Local
	}
	return n.Space + ":" + n.Local
}

// child is the first element on a path below e, or nil.
func (e *element) child(path ...string) *element {
	for _, name := range path {
		if e == nil {
			return nil
		}
		var next *element
		for _, c := range e.children {
			if c.name == name {
				next = c
				break
			}
		}
		e = next
	}
	return e
}

// all are the elements of that name directly below e.
func (e *element) all(name string) []*element {
	var out []*element
	if e != nil {
		for _, c := range e.children {
			if c.name == name {
				out = append(out, c)
			}
		}
	}
	return out
}

// attr is the value of an attribute, or empty.
func (e *element) attr(name string) string {
	if e != nil {
		for _, a := range e.attrs {
			if a.Name.Local == name && a.Name.Space == "" {
				return a.Value
			}
		}
	}
	return ""
}

// setAttr sets an attribute.
func (e *element) setAttr(name, value string) {
	for i := range e.attrs {
		if e.attrs[i].Name.Local == name && e.attrs[i].Name.Space == "" {
			e.attrs[i].Value = value
			return
		}
	}
	e.attrs = append(e.attrs, xml.Attr{Name: xml.Name{Local: name}, Value: value})
}

// content is the text of the element, without what is around it.
func (e *element) content() string {
	if e == nil {
		return ""
	}
	return strings.TrimSpace(e.text)
}

// ensure adds a child with that text after another one, unless there is a child of that name.
func (e *element) ensure(name, text, after string, attrs ...string) *element {
	if c := e.child(name); c != nil {
		return c
	}
	c := &element{name: name, text: text}
	for i := 0; i+1 < len(attrs); i += 2 {
		c.setAttr(attrs[i], attrs[i+1])
	}
	at := len(e.children)
	for i, other := range e.children {
		if other.name == after {
			at = i + 1
		}
	}
	e.children = append(e.children[:at:at], append([]*element{c}, e.children[at:]...)...)
	return c
}

// clone is a copy with nothing in common.
func (e *element) clone() *element {
	c := &element{name: e.name, attrs: append([]xml.Attr(nil), e.attrs...), text: e.text}
	for _, child := range e.children {
		c.children = append(c.children, child.clone())
	}
	return c
}

var (
	attrEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&apos;", `"`, "&quot;")
	textEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
)

// String is the element as libvirt writes one: two spaces for every level,
// attributes in single quotes.
func (e *element) String() string {
	var b strings.Builder
	e.write(&b, "")
	return b.String()
}

func (e *element) write(b *strings.Builder, indent string) {
	b.WriteString(indent + "<" + e.name)
	for _, a := range e.attrs {
		b.WriteString(" " + qualified(a.Name) + "='" + attrEscaper.Replace(a.Value) + "'")
	}
	switch {
	case len(e.children) > 0:
		b.WriteString(">\n")
		for _, c := range e.children {
			c.write(b, indent+"  ")
		}
		b.WriteString(indent + "</" + e.name + ">\n")
	case e.content() != "":
		b.WriteString(">" + textEscaper.Replace(e.content()) + "</" + e.name + ">\n")
	default:
		b.WriteString("/>\n")
	}
}
