package cmd

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/wire"
)

// fill writes outputs until the stream has dropped one, and returns how many bytes were to be written.
func fill(t *testing.T, s *eventStream) (bytes int64) {
	t.Helper()
	for before := s.Dropped(); s.Dropped() == before; {
		s.Output(&wire.OutputEvent{Event: wire.EventStdout, Offset: bytes, Bytes: 10_000, Text: strings.Repeat("x", 10_000)})
		if bytes += 10_000; bytes > 10<<20 {
			t.Fatal("a pipe that nobody reads takes 10 MB")
		}
	}
	return bytes
}

// A reader that stops loses events and holds nobody; what it gets are whole lines, and the offsets tell what it lacks.
func TestEventStreamStalls(t *testing.T) {
	t.Parallel()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	s := &eventStream{out: &cli.Output{File: write}}
	s.Hurry() // the short patience
	s.Start(&wire.StartEvent{Event: wire.EventStart})
	offset := fill(t, s)
	before := time.Now()
	for range 1000 { // nobody waits once more
		s.Output(&wire.OutputEvent{Event: wire.EventStdout, Offset: offset, Bytes: 10_000, Text: strings.Repeat("y", 10_000)})
		offset += 10_000
	}
	if took := time.Since(before); took > 1000*hurryPatience/10 {
		t.Errorf("1000 events after the first that was dropped took %v", took)
	}
	s.Heartbeat(&wire.HeartbeatEvent{Event: wire.EventHeartbeat})
	if len(s.rest) > 20_000 || cap(s.buffer) > 64<<10 {
		t.Errorf("it holds %d and %d bytes", len(s.rest), cap(s.buffer))
	}
	got := make(chan []byte)
	go func() {
		var all bytes.Buffer
		all.ReadFrom(read)
		got <- all.Bytes()
	}()
	for end := time.Now().Add(time.Minute); ; { // the reader reads again, and gets events again
		dropped := s.Dropped()
		s.Output(&wire.OutputEvent{Event: wire.EventStdout, Offset: offset, Bytes: 1, Text: "z"})
		if offset++; s.Dropped() == dropped {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the stream does not go on")
		}
		time.Sleep(time.Millisecond)
	}
	write.Write(append(s.close(), "{\"event\":\"result\"}\n"...))
	write.Close()
	var next, missing int64
	var kinds []string
	for line := range strings.Lines(string(<-got)) {
		var e struct {
			Event         string
			Offset, Bytes int64
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %.100s", err, line)
		}
		if kinds = append(kinds, e.Event); e.Event == wire.EventStdout {
			missing += e.Offset - next
			next = e.Offset + e.Bytes
		}
	}
	if missing == 0 || missing != s.Dropped() || next != offset {
		t.Errorf("offsets miss %d bytes, dropped %d, end at %d of %d", missing, s.Dropped(), next, offset)
	}
	if kinds[0] != wire.EventStart || kinds[len(kinds)-1] != wire.EventResult {
		t.Errorf("%q", kinds)
	}
}

// A slow reader that reads gets everything.
func TestEventStreamSlowReader(t *testing.T) {
	t.Parallel()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan int)
	go func() {
		defer read.Close()
		total, chunk := 0, make([]byte, 1000)
		for {
			n, err := read.Read(chunk)
			if total += n; err != nil {
				got <- total
				return
			}
		}
	}()
	s := &eventStream{out: &cli.Output{File: write}}
	want := 0
	for range 200 {
		e := &wire.OutputEvent{Event: wire.EventStdout, Bytes: 30_000, Text: strings.Repeat("\x01", 30_000)}
		want += len(wire.AppendEvent(nil, e))
		s.Output(e)
	}
	if rest := s.close(); len(rest) > 0 || s.Dropped() > 0 {
		t.Errorf("%d bytes are left, %d dropped", len(rest), s.Dropped())
	}
	write.Close()
	if n := <-got; n != want {
		t.Errorf("%d bytes, want %d", n, want)
	}
}

// A reader that is gone costs nothing, and closing the stream waits for nobody.
func TestEventStreamEnds(t *testing.T) {
	t.Parallel()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer write.Close()
	gone := &eventStream{out: &cli.Output{File: write}}
	read.Close()
	gone.Output(&wire.OutputEvent{Event: wire.EventStdout, Bytes: 1, Text: "x"})
	if !gone.closed || len(gone.close()) > 0 {
		t.Errorf("%+v", gone)
	}

	read, full, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer full.Close()
	if _, err := unix.FcntlInt(full.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	s := &eventStream{out: &cli.Output{File: full}}
	waits := make(chan bool)
	go func() {
		s.Output(&wire.OutputEvent{Event: wire.EventStdout, Bytes: 9000, Text: strings.Repeat("x", 9000)})
		close(waits)
	}()
	for end := time.Now().Add(time.Minute); writable(full, 0) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	before := time.Now()
	rest := s.close()
	<-waits
	if took := time.Since(before); took > readerPatience*9/10 || len(rest) < 4096 || len(rest) > 6000 {
		t.Errorf("%d bytes are left after %v", len(rest), took)
	}
}

// A full disk loses events, and no part of a line stands before another.
func TestEventStreamOnAFullDisk(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	s := &eventStream{out: &cli.Output{File: full}}
	s.Output(&wire.OutputEvent{Event: wire.EventStdout, Bytes: 7, Text: "x"})
	if s.Dropped() != 7 || len(s.close()) > 0 {
		t.Errorf("%+v", s)
	}
}
