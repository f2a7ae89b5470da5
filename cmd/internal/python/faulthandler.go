package python

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"py3run/cmd/internal/wire"
)

// mostFrames of all threads together are reported.
const mostFrames = 40

// Where reads what faulthandler wrote to the dump pipe, and returns the frames of the last dump.
// Python's format is a header for each thread, then a line for each frame, the innermost first.
// Only the user's frames are returned, or, where there are none, all but the runtime's. prefixes
// are the interpreter's. The thread that runs the main program comes first and is number 0. In each
// thread the innermost frame is last, as in a traceback.
func Where(dump []byte, path, shown string, prefixes []string) []wire.Frame {
	frames, _ := inspect(dump, path, shown, prefixes)
	return frames
}

// Reporting tells what the runtime was doing after the code at the last dump; empty: the code
// itself was running.
func Reporting(dump []byte, prefixes []string) string {
	_, reporting := inspect(dump, "", "", prefixes)
	return reporting
}

// reports are what the runtime does after the code has ended, by the function that does it: no
// module of it has another of this name. The library's frames that it has called are no place in
// the code.
var reports = map[string]string{
	"failure": "the traceback of an uncaught exception was being formatted",
	"value":   "the result was being made into JSON",
}

func inspect(dump []byte, path, shown string, prefixes []string) (_ []wire.Frame, reporting string) {
	var threads [][]wire.Frame
	seen := map[string]bool{}
	skip := true // until a header
	path = dumped(path)
	for line := range strings.Lines(strings.ToValidUTF8(string(dump), "\uFFFD")) {
		line = strings.TrimSuffix(line, "\n")
		if header, ok := strings.CutSuffix(line, " (most recent call first):"); ok {
			_, id, _ := strings.Cut(header, "hread 0x") // from Python 3.14 on the thread's name follows
			id, _, _ = strings.Cut(id, " ")
			if seen[id] { // the same thread again: another dump
				threads, seen, reporting = nil, map[string]bool{}, ""
			}
			seen[id], skip = true, false
			threads = append(threads, nil)
			continue
		}
		frame, ok := frameOf(line)
		if skip {
			continue
		}
		if doing := reports[frame.Function]; doing != "" && strings.HasPrefix(frame.File, "<py3run ") {
			last := len(threads) - 1
			threads[last] = slices.DeleteFunc(threads[last], func(f wire.Frame) bool { return isLibrary(f.File, prefixes) })
			if reporting = doing; len(threads[last]) > 0 {
				reporting = "" // the code has methods that were called for it
			}
		}
		if !ok {
			continue
		}
		if frame.File == path {
			frame.File = shown
			if last := len(threads) - 1; frame.Function == "<module>" { // the main program
				threads[0], threads[last] = threads[last], threads[0]
				threads[0] = append(threads[0], frame)
				continue
			}
		}
		last := len(threads) - 1
		threads[last] = append(threads[last], frame)
	}
	var frames, users []wire.Frame
	for i, t := range threads {
		for _, f := range slices.Backward(t) {
			f.Thread = i
			frames = append(frames, f)
			if !isLibrary(f.File, prefixes) {
				users = append(users, f)
			}
		}
	}
	if len(users) > 0 {
		frames = users
	}
	return frames[:min(len(frames), mostFrames)], reporting
}

// isLibrary tells whether a file, by its name in a dump, is one of the interpreter's own libraries
// or of those that are installed for it.
func isLibrary(file string, prefixes []string) bool {
	return strings.HasPrefix(file, "<frozen ") || slices.ContainsFunc(prefixes, func(prefix string) bool {
		// PREFIX/lib/python3.11/, with lib64, site-packages and, of Debian, local and dist-packages
		// in all their places
		below, ok := strings.CutPrefix(file, dumped(strings.TrimSuffix(prefix, "/"))+"/")
		return ok && libraryPath().MatchString(below)
	})
}

var libraryPath = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(local/)?lib(64|32)?/(python3(\.\d+)?t?|pypy3(\.\d+)?)/`)
})

// dumped is a name as faulthandler writes it: at most 500 characters, and everything but printable
// ASCII is escaped.
func dumped(name string) string {
	var b strings.Builder
	n := 0
	for i, r := range name {
		if n++; n > 500 {
			b.WriteString("...")
			break
		}
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(name[i:], "\uFFFD"): // a byte that is not UTF-8 (PEP 383)
			fmt.Fprintf(&b, `\udc%02x`, name[i])
		case ' ' <= r && r <= '~':
			b.WriteRune(r)
		case r <= 0xff:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}

// nameMost bounds a name in a dump, in bytes. The program can write to the pipe, too.
const nameMost = 6000

// frameOf reads `  File "NAME", line N in FUNCTION`. What belongs to the runtime is no frame.
func frameOf(line string) (f wire.Frame, ok bool) {
	rest, ok := strings.CutPrefix(line, `  File "`)
	at := strings.LastIndex(rest, `", line `)
	if !ok || at < 0 {
		return f, false
	}
	number, function, _ := strings.Cut(rest[at+len(`", line `):], " in ")
	n, err := strconv.Atoi(number)
	f = wire.Frame{File: oneLine(rest[:at], nameMost), Line: n, Function: oneLine(unescape(function), nameMost)}
	ours := strings.HasPrefix(f.File, "<py3run") || f.File == "<string>" && f.Function == "<module>"
	return f, err == nil && n >= 0 && n <= math.MaxInt32 && !ours
}
