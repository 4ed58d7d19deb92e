// Package conftemplates renders the templates of configuration files, qemu.yaml.jinja2 and the like, and checks them.
//
// A template is a jinja2 document. It shows somebody who has never seen the file what can be in it: every key of the driver's
// schema with a comment above it. Rendered with the schema's examples and defaults it is the file of a new installation
// ([Example]); rendered with a file that was loaded it is that file with all comments ([RenderDocument]). [Check] tells
// a driver's author what is missing in it.
//
// # What is supported of jinja2
//
// Templates are rendered as Python's jinja2 renders them with trim_blocks and lstrip_blocks, byte for byte, as far as they are
// written in the following part of it. All else is an [Error], which names line and column, before anything is rendered.
//
//   - Text, and comments: {# ... #}.
//   - {{ value }}, {{ value if condition }} and {{ value if condition else value }}.
//   - {% for name in value %} and {% for name, name in value.items() %}, with {% else %} and {% endfor %}; inside a loop
//     loop.index, index0, first, last, length, revindex and revindex0.
//   - {% if condition %}, {% elif condition %}, {% else %}, {% endif %}.
//   - A dash that removes all white space beside a tag ({%- -%}, {{- -}}, {#- -#}), and a plus that keeps it ({%+ +%}).
//   - Values: names, with their parts (machine.ip, machine["ip"], tags[0]) and .items(), .keys() and .values(), which are
//     lists here: Python has no index into them, and no JSON of them, which is not refused; texts in quotes, with the
//     escapes \\ \" \' \n \t; whole numbers; true, false and none.
//   - Conditions: == and !=, not, and, or, brackets; the tests "is defined", "is undefined" and "is none", each also with not.
//   - Filters: default (also called d), join, length (also called count), lower, tojson and trim.
//
// # What a file reads back as
//
// Jinja2 knows nothing of YAML: a value with a colon or a quote in it breaks the file, None becomes a text, and a name that is
// mistyped in the template empties the setting that somebody made. [Render] does all that, byte for byte.
//
// [RenderYAML], which everything else here uses, writes the same bytes wherever these read back as the value, for any reader of
// YAML. Where they do not, the value gets quotes, or escapes within the quotes that the template has around it; and none is left
// empty. So templates hold plain {{ value }}, with quotes around it or without, and render in Python too. What is not among
// the values is an error where it is written or walked through; conditions, "is defined" and default may ask for it.
package conftemplates
