package launch

import (
	"sync"
	"time"
	"unicode/utf8"

	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

// A Stream is told what happens in a run of exec while it happens. Its methods can be called from
// several goroutines. Output may wait for its reader for a while, and the program waits with it; the
// others do not wait.
type Stream interface {
	Start(*wire.StartEvent)
	Output(*wire.OutputEvent)
	Heartbeat(*wire.HeartbeatEvent)
	// Hurry says that the run is being ended: Output is to wait for its reader no longer.
	Hurry()
	// Dropped is how many bytes of output the reader did not get.
	Dropped() int64
}

// A tee captures a stream, and then passes it on.
type tee struct {
	capture *gate
	live    *streamed
}

func (t *tee) Write(p []byte) (int, error) {
	if n, err := t.capture.Write(p); err != nil {
		return n, err
	}
	return t.live.Write(p) // not behind the gate: it may wait
}

// A streamed writer passes one of the program's streams on as events.
type streamed struct {
	to   Stream
	name string // stdout or stderr
	most int64  // bytes; 0: no limit

	mu     sync.Mutex
	last   time.Time // of the newest event
	offset int64     // of part in the stream
	part   []byte    // the beginning of a character that is not complete
	full   bool      // the limit is reached
	ended  bool
}

// A program that prints many lines is to have few events: pieces that are smaller than pieceLeast come
// at least eventGap after each other.
const (
	eventGap   = 5 * time.Millisecond
	pieceLeast = 8 << 10
)

// Write passes on all complete characters, at once if there was no event just before. Otherwise it
// waits a moment, while more text gathers in the program's pipe; the next event is longer then. The
// same happens while the reader is busy.
func (s *streamed) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full || s.ended {
		return len(p), nil
	}
	if len(p) < pieceLeast {
		time.Sleep(eventGap - time.Since(s.last))
	}
	text := p
	if len(s.part) > 0 {
		text = append(s.part[:len(s.part):len(s.part)], p...)
	}
	if s.most > 0 && s.offset+int64(len(text)) > s.most {
		text, s.full = text[:s.most-s.offset], true
	}
	whole := len(text) - unfinished(text)
	s.part = append([]byte(nil), text[whole:]...)
	s.send(text[:whole], false)
	if s.full {
		s.send(nil, true)
	}
	return len(p), nil
}

// end passes on what is left of a character that never became complete.
func (s *streamed) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.full {
		s.send(s.part, false)
	}
	s.ended = true
}

func (s *streamed) send(text []byte, truncated bool) {
	if len(text) == 0 && !truncated {
		return
	}
	s.last = time.Now()
	s.to.Output(&wire.OutputEvent{Event: s.name, Time: wire.Timestamp(s.last), Offset: s.offset, Bytes: int64(len(text)), Text: decode(string(text)), Truncated: truncated})
	s.offset += int64(len(text))
}

// unfinished returns how many bytes at the end of text are the beginning of a character whose other
// bytes may still come.
func unfinished(text []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(text); n++ {
		last := text[len(text)-n:]
		if !utf8.RuneStart(last[0]) {
			continue
		}
		if last[0] >= utf8.RuneSelf && !utf8.FullRune(last) {
			return n
		}
		return 0
	}
	return 0
}

// began tells the stream that the code begins. It does so once, also if a worker dies at that moment
// and another interpreter takes its place.
func (r *run) began() {
	p := r.plan
	if p.Job.Stream == nil || r.told {
		return
	}
	r.told = true
	id := p.Job.Request.ID
	if id == "" {
		id = p.RunID
	}
	p.Job.Stream.Start(&wire.StartEvent{Event: wire.EventStart, Time: wire.Timestamp(time.Now()), Protocol: wire.Protocol, ID: id, RunID: p.RunID, StartedAt: wire.Timestamp(p.Job.Began),
		Limits: p.Limits, Python: wire.Python{Version: p.Interpreter.Version, Executable: p.Interpreter.Path, Venv: p.Interpreter.Venv}})
}

// heartbeats returns what tells the stream of the run's use now and then; nil: nobody wants to know.
func heartbeats(job Job) func(sandbox.Present) {
	if job.Stream == nil || job.Heartbeat <= 0 {
		return nil
	}
	next := job.Heartbeat
	return func(u sandbox.Present) {
		if u.Wall < next {
			return
		}
		next += (u.Wall - next + job.Heartbeat).Truncate(job.Heartbeat) // what was missed is not made up for
		job.Stream.Heartbeat(&wire.HeartbeatEvent{Event: wire.EventHeartbeat, Time: wire.Timestamp(time.Now()),
			Usage: wire.SoFar{WallMS: u.Wall.Milliseconds(), CPUMS: u.CPU.Milliseconds(), MemoryBytes: u.Memory, Processes: int64(u.Processes)}})
	}
}
