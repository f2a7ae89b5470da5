package cmd

import (
	"bytes"

	"py3run/cmd/internal/startup"
)

// lines cuts what a bridge reads into requests, one a line. It makes no system call.
//
// A line ends with a newline, and a carriage return before it is a blank of JSON. A line that is
// longer than most bytes is refused as soon as that is known, and the rest of it is passed over. So
// no caller can have a bridge keep more than that, and each line still gets one reply.
type lines struct {
	most int // bytes

	held []byte // what was read and not taken yet
	seen int    // bytes of held that are known to have no newline
	pass bool   // the rest of this line is passed over
}

// What next has found.
const (
	noLine  = iota // more has to be read
	aLine          // a request
	tooLong        // a line without a request: it is longer than most
)

// add adds what was read. The caller may use b for something else then.
func (l *lines) add(b []byte) {
	l.held = append(startup.Grow(l.held, len(b)), b...)
}

// next takes the next line. The line stays as it is when more is added.
func (l *lines) next() (line []byte, found int) {
	for {
		at := bytes.IndexByte(l.held[l.seen:], '\n')
		if at < 0 {
			break
		}
		at += l.seen
		line, l.held, l.seen = l.held[:at:at], l.held[at+1:], 0
		if len(l.held) == 0 {
			l.held = nil
		}
		switch {
		case l.pass:
			l.pass = false
		case len(line) > l.most:
			return nil, tooLong
		default:
			return line, aLine
		}
	}
	l.seen = len(l.held)
	switch {
	case l.pass:
		l.drop()
	case len(l.held) > l.most:
		l.giveUp()
		return nil, tooLong
	}
	return nil, noLine
}

// begun returns how many bytes of a line there are whose end is missing.
func (l *lines) begun() int { return len(l.held) }

// giveUp passes over the line that has begun.
func (l *lines) giveUp() {
	l.pass = true
	l.drop()
}

func (l *lines) drop() { l.held, l.seen = nil, 0 }

// last takes what stands behind the last newline at the end of the input.
func (l *lines) last() (line []byte, found int) {
	line = l.held
	l.drop()
	if len(line) == 0 {
		return nil, noLine
	}
	return line, aLine
}
