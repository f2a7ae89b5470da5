package config

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"
)

// Init returns a configuration file with every key at its default, and a comment for each.
func Init() []byte {
	var b bytes.Buffer
	b.WriteString(`# Configuration of py3run: every key with its default.
# Stronger than /etc/py3run/config.toml are, in this order, the file in
# $XDG_CONFIG_HOME/py3run (or ~/.config/py3run), variables as
# PY3RUN_SECURITY_MAX_MEMORY_MB, and flags.
`)
	c := Default()
	writeSettings(&b, func(s *setting) {
		unset := ""
		if s.onlyIfSet { // to write the default into a file would change what holds without it
			unset = "# "
		}
		fmt.Fprintf(&b, "\n%s\n%s%s = %s\n", commented(s.comment()), unset, leaf(s.key), format(s.get(&c)))
	})
	b.WriteString("\n" + commented("In /etc/py3run/config.toml only: what nothing can exceed. Numbers can have a ceiling, and "+strictKeys()+".") + `
#
# [ceiling.security]
# max-memory-mb = 4096
#
# Likewise, what nothing can go below: ` + floorKeys() + `.
#
# [floor.security.audit]
# retention-days = 365
`)
	return b.Bytes()
}

// Show returns the configuration in force in the form of a file, and with origin where each value
// comes from.
func Show(l *Loaded, origin bool) []byte {
	var b bytes.Buffer
	writeSettings(&b, func(s *setting) {
		fmt.Fprintf(&b, "%s = %s", leaf(s.key), format(s.get(&l.Config)))
		if origin {
			b.WriteString("  # " + l.Origins[s.key].String())
		}
		b.WriteByte('\n')
	})
	return b.Bytes()
}

// String returns the origin as `config show --origin` prints it, such as
//
//	environment PY3RUN_SECURITY_MAX_MEMORY_MB, asked 4096 (ceiling 512 from /etc/py3run/config.toml)
func (o Origin) String() string {
	text := cmp.Or(o.Kind, "default")
	if o.Name != "" {
		text += " " + o.Name
	}
	if o.Ceiling.Asked != "" {
		text += ", asked " + o.Ceiling.Asked
	}
	if o.Ceiling != (Ceiling{}) {
		text += " (ceiling " + o.Ceiling.Value + " from " + o.Ceiling.File + ")"
	}
	if o.Floor.Asked != "" {
		text += ", asked " + o.Floor.Asked
	}
	if o.Floor != (Floor{}) {
		text += " (floor " + o.Floor.Value + " from " + o.Floor.File + ")"
	}
	return text
}

// writeSettings writes each setting below the header of its section.
func writeSettings(b *bytes.Buffer, write func(*setting)) {
	current := ""
	for i := range settings {
		if s := section(settings[i].key); s != current {
			if b.Len() > 0 {
				b.WriteByte('\n')
			}
			b.WriteString("[" + s + "]\n")
			current = s
		}
		write(&settings[i])
	}
}

// comment says on one line what the setting is and what it can be.
func (s *setting) comment() string {
	text := s.doc
	if s.unit != "" {
		text += ", in " + s.unit
	}
	if s.choices != nil {
		between := ": "
		if strings.Contains(text, ";") { // it says already what they mean
			between = ". One of: "
		}
		text += between + strings.Join(s.choices, " | ")
	}
	switch s.fallback.(type) {
	case float64, int:
		if s.noZero {
			text += "; " + s.bounds()
		} else {
			text += "; 0 = no limit"
		}
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// commented is a text as lines of a comment that fit a screen.
func commented(text string) string {
	const most = 100
	line := "#"
	var lines []string
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > most {
			lines, line = append(lines, line), "#"
		}
		line += " " + word
	}
	return strings.Join(append(lines, line), "\n")
}
