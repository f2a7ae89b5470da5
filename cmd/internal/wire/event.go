package wire

import (
	"time"

	fastjson "py3run/internal/json"
)

// The events of a stream, one a line, in the order in which things happen: one start, unless nothing
// ran; then outputs and heartbeats; last the result, always. See `py3run schema stream`.
const (
	EventStart     = "start"
	EventStdout    = "stdout"
	EventStderr    = "stderr"
	EventHeartbeat = "heartbeat"
	EventResult    = "result"
)

// A StartEvent says that the code begins: its start record is in the audit log.
type StartEvent struct {
	Event     string    `json:"event"`
	Time      Timestamp `json:"time"`
	Protocol  int       `json:"protocol"`
	ID        string    `json:"id"`
	RunID     string    `json:"run_id"`
	StartedAt Timestamp `json:"started_at"`
	Limits    Limits    `json:"limits"`
	Python    Python    `json:"python"`
}

// An OutputEvent is a piece of standard output or standard error. The texts of all events of one
// stream, put together, are the text of the result, if that was not cut. Bytes that are missing
// between two events, which Offset shows, were printed and not passed on.
type OutputEvent struct {
	Event     string    `json:"event"` // stdout or stderr
	Time      Timestamp `json:"time"`
	Offset    int64     `json:"offset"` // of the first byte, in the program's output
	Bytes     int64     `json:"bytes"`  // of the program's output; the text can be longer, where it replaces what is not UTF-8
	Text      string    `json:"text"`
	Truncated bool      `json:"truncated,omitempty"` // the output limit is reached: the stream has no further event
}

// A HeartbeatEvent says what the run uses at that time.
type HeartbeatEvent struct {
	Event string    `json:"event"`
	Time  Timestamp `json:"time"`
	Usage SoFar     `json:"usage"`
}

// SoFar is what a run has used and uses. Zero was not measured, and is left out.
type SoFar struct {
	WallMS      int64 `json:"wall_ms"`
	CPUMS       int64 `json:"cpu_ms"`
	MemoryBytes int64 `json:"memory_bytes,omitempty"` // now
	Processes   int64 `json:"processes,omitempty"`    // and threads, now
}

// AppendEvent appends the line of an event: a pointer to one of these types.
func AppendEvent(b []byte, event any) []byte {
	b, err := fastjson.Append(b, event)
	if err != nil { // only a number that is not finite could cause that
		panic(err)
	}
	return append(b, '\n')
}

// ResultEvent makes the last line of a stream from the line of a result: the same with two members
// more.
func ResultEvent(line []byte, now time.Time) []byte {
	event := append([]byte(`{"event":"`+EventResult+`","time":"`), now.UTC().Format(timestampLayout)...)
	event = append(event, `",`...)
	return append(event, line[1:]...)
}
