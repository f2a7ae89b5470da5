package audit

import (
	"bytes"
	"math"
	"strconv"
)

// A record is encoded before its place in the log is known, because nobody else can write while the
// lock is held. It gets the widest numbers that it can have, and under the lock these are replaced
// in the line by those that it has.

// The widest values, as they stand in a line.
var (
	widest     = head{seq: math.MaxUint64 - 1, hash: origin.hash}
	wideTime   = []byte(`"@timestamp":"`)
	widePlace  = []byte(`,"seq":18446744073709551615,"prev":"` + origin.hash + `"`)
	wideUptime = []byte(`,"uptime_ms":`)
	wideJump   = []byte(`,"clock_jump_ms":-9223372036854775808`)
)

// narrow is the wide line of r with the numbers that r has now; nil: it has to be encoded again. All
// numbers but those of [Record.follow] are as they were when it was encoded.
//
// The first of each of the wide texts is the one that is meant: in a string the quotes would be
// escaped, and no names that callers choose stand before them.
func narrow(wide []byte, r *Record) []byte {
	at := bytes.Index(wide, wideTime)
	if at < 0 {
		return nil
	}
	at += len(wideTime)
	place := bytes.Index(wide, widePlace)
	if place < at+len(timeLayout) || len(r.Timestamp) != len(timeLayout) || len(r.Prev) != len(origin.hash) || r.V != 1 {
		return nil
	}
	behind := place + len(widePlace)
	jump := bytes.Index(wide[behind:], wideJump)
	if jump < 0 {
		return nil
	}
	jump += behind
	clocks := bytes.LastIndex(wide[behind:jump], wideUptime)
	if clocks < 0 {
		return nil
	}
	clocks += behind

	line := make([]byte, 0, len(wide)+1) // +1: the newline
	line = append(append(line, wide[:at]...), r.Timestamp...)
	line = append(line, wide[at+len(timeLayout):place]...)
	line = strconv.AppendUint(append(line, `,"seq":`...), r.Seq, 10)
	line = append(append(append(line, `,"prev":"`...), r.Prev...), '"')
	line = append(line, wide[behind:clocks]...)
	if ms := r.Host.UptimeMS; ms != 0 {
		line = strconv.AppendInt(append(line, wideUptime...), ms, 10)
	}
	if ms := r.Host.ClockJumpMS; ms != 0 {
		line = strconv.AppendInt(append(line, `,"clock_jump_ms":`...), ms, 10)
	}
	return append(line, wide[jump+len(wideJump):]...)
}
