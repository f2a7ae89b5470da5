package python

import (
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"py3run/cmd/internal/redact"
	"py3run/cmd/internal/wire"
)

// The kernel sees everything that the whole process tree connects to, binds and starts. The audit
// hook sees the part of it that the interpreter does. The rest was done outside Python's own calls:
// by native code, or by other programs.
//
// Both are matched by what was done and how often, not by when. An event of the hook belongs to one
// system call. If the event has an address, the call has the same one; if it has a name, which
// Python looks up first, the call has the same port.

// native adds what the kernel has seen (Activity of package sandbox) and the hook has not.
func (t *tally) native(seen wire.Events) {
	for _, l := range []struct {
		told *list[wire.Connection]
		seen []wire.Connection
	}{{&t.connections, seen.Connections}, {&t.binds, seen.Binds}} {
		told := l.told.counted(func(c *wire.Connection, n int) { c.Count = n })
		for _, c := range beside(told, l.seen) {
			c.Host, c.Program, c.Via = plain(c.Host), plain(c.Program), "native"
			l.told.add("native\x00"+c.Program+"\x00"+key(c), c, c.Count)
		}
	}
	told := t.processes.counted(func(p *wire.Process, n int) { p.Count = n })
	started := make([]wire.Process, len(seen.Processes))
	for i, p := range seen.Processes {
		words := []string{plain(p.Program)}
		for _, a := range p.Args {
			words = append(words, plain(a))
		}
		words = redact.Args(words)
		started[i] = wire.Process{Program: words[0], Args: words[1:], Via: "native", Count: p.Count, ArgsDropped: p.ArgsDropped, ArgsCut: p.ArgsCut}
	}
	for _, p := range besideStarts(told, started) {
		t.processes.add("native\x00"+p.Program+"\x00"+strconv.Itoa(p.ArgsDropped)+"\x00"+strconv.Itoa(p.ArgsCut)+"\x00"+strings.Join(p.Args, "\x00"), p, p.Count)
	}
	for _, l := range t.files(seen) {
		for _, f := range l.seen {
			l.told.native(plain(f))
		}
	}
}

// unreadable is what the activity could not read.
const unreadable = "?"

// beside removes the addresses that the hook has noted from those that the kernel has seen. Only
// the program itself is an interpreter with a hook. Its forked children have the same path, and so
// an empty Program, too.
func beside(told, seen []wire.Connection) []wire.Connection {
	left := slices.Clone(seen)
	at := map[string]int{}
	for i, c := range left {
		if c.Program == "" {
			at[key(c)] = i
		}
	}
	take := func(c *wire.Connection, from *wire.Connection) {
		n := min(c.Count, from.Count)
		c.Count -= n
		from.Count -= n
	}
	rest := told[:0:0]
	for _, c := range told {
		if i, ok := at[key(c)]; ok {
			take(&c, &left[i])
		}
		if c.Count > 0 {
			rest = append(rest, c)
		}
	}
	for _, c := range rest {
		for i := range left {
			if s := &left[i]; s.Program == "" && mayBe(c, *s) {
				take(&c, s)
			}
		}
	}
	return slices.DeleteFunc(left, func(c wire.Connection) bool { return c.Count <= 0 })
}

// mayBe tells whether an address that the hook has noted can be the one that the kernel has seen,
// although they are written differently.
func mayBe(told, seen wire.Connection) bool {
	switch {
	case seen.Host == unreadable:
		return true
	case address(told.Host) != "" || strings.HasPrefix(told.Host, "unix:") || strings.HasPrefix(seen.Host, "unix:"):
		return false
	case told.Host == anywhere && seen.Host != "0.0.0.0" && seen.Host != "::":
		return false
	}
	return seen.Port == told.Port || strings.HasPrefix(seen.Host, "family:")
}

// key is the same for a connection as the hook notes it and as the kernel sees it.
func key(c wire.Connection) string {
	host := c.Host
	if a := address(host); a != "" {
		host = a
	}
	return plain(host) + "\x00" + strconv.Itoa(c.Port)
}

// address is a literal IP address in its usual form, without its zone; empty for a name.
func address(host string) string {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	return a.WithZone("").String()
}

// besideStarts removes the programs that the hook has noted from those that the kernel has seen.
// The hook notes the name that is looked up in PATH, the kernel the path that was found.
func besideStarts(told, seen []wire.Process) []wire.Process {
	left := slices.Clone(seen)
	at := map[string][]int{}
	for i, p := range left {
		k := line(p)
		at[k] = append(at[k], i)
	}
	take := func(p, from *wire.Process) {
		n := min(p.Count, from.Count)
		p.Count -= n
		from.Count -= n
	}
	rest := told[:0:0]
	for _, p := range told {
		for _, i := range at[line(p)] {
			take(&p, &left[i])
		}
		if p.Count > 0 {
			rest = append(rest, p)
		}
	}
	for _, p := range rest {
		told, short := line(p), len(line(p)) > lineCut || p.ArgsDropped > 0
		_, args, _ := strings.Cut(told, "\x00")
		for i := range left {
			seen := line(left[i])
			_, seenArgs, _ := strings.Cut(seen, "\x00")
			byDescriptor := strings.Trim(p.Program, "0123456789") == "" && args == seenArgs
			if left[i].Program == unreadable || short && strings.HasPrefix(seen, told) || byDescriptor {
				take(&p, &left[i])
			}
		}
	}
	return slices.DeleteFunc(left, func(p wire.Process) bool { return p.Count <= 0 })
}

// lineCut: the hook may have cut a command line that is longer than this (at 4000 bytes of
// unicode_escape, which takes up to ten for a character).
const lineCut = 400

func line(p wire.Process) string {
	args := p.Args
	if len(args) > 1 && args[0] == "-c" && args[1] == "--" { // the C library's system() from glibc 2.38 on
		args = slices.Concat(args[:1], args[2:])
	}
	return strings.Join(append([]string{path.Base(p.Program)}, args...), "\x00")
}

// plain is a text as the hook gives it: each byte that is not UTF-8 is U+FFFD.
func plain(s string) string { return string([]rune(s)) }
