package cmd

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/wire"
)

// How long an event stream waits for its reader.
const (
	// A reader that takes nothing for so long no longer holds the program: it runs on, and its output is only in the result.
	readerPatience = 5 * time.Second
	hurryPatience  = 300 * time.Millisecond // the same while the run is being ended
	readerLook     = 50 * time.Millisecond  // how often a waiting writer looks whether the run is being ended
)

// An eventStream writes events to standard output, one a line. It holds at most the rest of one line,
// so a slow reader costs no memory. It never writes a part of a line and then another.
//
//	the reader reads      each event is written at once
//	it is slow            the program waits for it, as it would without py3run
//	it takes nothing      after readerPatience its events are dropped, until it reads again
//	it is gone            everything is dropped; watchReader ends the run
type eventStream struct {
	out *cli.Output

	hurry   atomic.Bool  // the run is being ended
	closing atomic.Bool  // the result is next: nobody may wait any more
	dropped atomic.Int64 // bytes of output

	mu      sync.Mutex
	rest    []byte // of a line that was begun
	stalled bool   // the reader has taken nothing for too long
	closed  bool   // nothing more is written
	buffer  []byte
}

func (s *eventStream) Start(e *wire.StartEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(e, 0)
}

// Heartbeat drops the event if the stream is busy: the next one says the same.
func (s *eventStream) Heartbeat(e *wire.HeartbeatEvent) {
	if s.mu.TryLock() {
		defer s.mu.Unlock()
		s.write(e, 0)
	}
}

func (s *eventStream) Output(e *wire.OutputEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	patience := readerPatience
	if s.stalled {
		patience = 0
	}
	if !s.write(e, patience) {
		s.dropped.Add(e.Bytes)
	}
}

func (s *eventStream) Hurry()         { s.hurry.Store(true) }
func (s *eventStream) Dropped() int64 { return s.dropped.Load() }

// close ends the stream, and returns the rest of a line that was begun.
func (s *eventStream) close() []byte {
	s.closing.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return s.rest
}

// write writes the line of an event, or begins to. false: the event was dropped.
func (s *eventStream) write(event any, patience time.Duration) (written bool) {
	if s.closed {
		return false
	}
	if s.rest = s.send(s.rest, patience); len(s.rest) > 0 {
		s.stalled = true
		return false
	}
	s.buffer = wire.AppendEvent(s.buffer[:0], event)
	rest := s.send(s.buffer, patience)
	s.stalled = len(rest) > 0
	if len(rest) == len(s.buffer) {
		return false
	}
	s.rest = append([]byte(nil), rest...)
	return true
}

// send writes bytes and returns those that the reader did not take. It gives up when the reader takes
// nothing for as long as patience says.
func (s *eventStream) send(line []byte, patience time.Duration) (rest []byte) {
	// Not with File.Write, which would block: another process shares the file, so that it must stay in blocking mode.
	fd := int(s.out.File.Fd())
	for last := time.Now(); len(line) > 0 && !s.closed; {
		if !s.ready(last, patience) {
			return line
		}
		n, err := unix.Write(fd, line[:min(len(line), pipeBuf)])
		switch {
		case n > 0:
			line, last = line[n:], time.Now()
		case err == unix.EINTR:
		case err == unix.EAGAIN: // somebody has made the file non-blocking, and there is less room than this
			if time.Since(last) >= patience {
				return line
			}
			time.Sleep(time.Millisecond)
		case err == unix.EPIPE:
			s.closed = true
		default: // a full disk, for example; the result will tell it, if it is still so
			return line
		}
	}
	return line
}

// ready waits until the reader takes something; false: it does not.
func (s *eventStream) ready(since time.Time, patience time.Duration) bool {
	for {
		if writable(s.out.File, min(patience, readerLook)) {
			return true
		}
		if s.hurry.Load() {
			patience = min(patience, hurryPatience)
		}
		if s.closing.Load() || time.Since(since) >= patience {
			return false
		}
	}
}

// newEventStream returns the stream of standard output; nil: standard output is closed.
func (app *app) newEventStream() *eventStream {
	if out, ok := app.out.(*cli.Output); ok && !out.Closed {
		return &eventStream{out: out}
	}
	return nil
}
