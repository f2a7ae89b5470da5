package cmd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/sys/unix"

	"py3run/cmd/internal/wire"
)

// events checks the lines of a stream against their schema, and returns them. The last is the result, and the only one; the offsets of each
// stream have no gap, and its texts are those of the result.
func events(t *testing.T, schema *jsonschema.Schema, out []byte) (list []map[string]any) {
	t.Helper()
	texts, next := map[string]string{}, map[string]float64{}
	for line := range bytes.Lines(out) {
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
		if err == nil {
			err = schema.Validate(value)
		}
		var e map[string]any
		if err == nil {
			err = json.Unmarshal(line, &e)
		}
		if err != nil {
			t.Fatalf("%s\n%v", line, err)
		}
		list = append(list, e)
		if text, ok := e["text"].(string); ok {
			name := e["event"].(string)
			if e["offset"] != next[name] {
				t.Errorf("%s at %v, want %v", name, e["offset"], next[name])
			}
			texts[name] += text
			next[name] += e["bytes"].(float64)
		}
	}
	for i, e := range list {
		if (e["event"] == "result") != (i == len(list)-1) || (e["event"] == "start") && i != 0 {
			t.Errorf("event %d of %d is %v", i, len(list), e["event"])
		}
	}
	for _, name := range []string{"stdout", "stderr"} {
		if result := list[len(list)-1]; result["stdout"] != nil && result[name+"_truncated"] == nil && (result[name] != texts[name] || result[name+"_bytes"] != next[name]) {
			t.Errorf("%s: %.100q of %v bytes, the result has %.100q", name, texts[name], next[name], result[name])
		}
	}
	return list
}

// However a run goes, its stream has the form of the schema, and ends with the result that there is without a stream.
func TestStreamOfEvents(t *testing.T) {
	t.Parallel()
	schema := compileSchema(t, "stream")
	for _, c := range []struct {
		name, request string
		args          []string
		warm          bool
		code          int
		want          string // kinds of events, each once in a row
	}{
		{"a result", `{"code": "result = 1"}`, nil, false, 0, "start result"},
		{"an id", `{"code": "result = 1", "id": "r7"}`, nil, false, 0, "start result"},
		{"output", `{"code": "print('a', flush=True)\nimport sys, time\nsys.stderr.write('b')\nsys.stderr.flush()\nprint('c')"}`, nil, false, 0, ""},
		{"much output", `{"code": "for i in range(20000): print('line ä', i)"}`, nil, false, 0, "start stdout result"},
		{"what is not text", `{"code": "import os, time\nfor i in range(300): os.write(1, bytes([i % 256]))\nos.write(2, b'\\xe2\\x82')\ntime.sleep(0.01)\nos.write(2, b'\\xac\\xf0')"}`, nil, false, 0, ""},
		{"a warm run", `{"code": "print('a')"}`, nil, true, 0, "start stdout result"},
		{"a warm run that prints nothing", `{"code": "result = 1"}`, nil, true, 0, "start result"},
		{"heartbeats", `{"code": "import time; time.sleep(1)"}`, []string{"--heartbeat-seconds", "0.2"}, false, 0, "start heartbeat result"},
		{"no heartbeats", `{"code": "import time; time.sleep(1.3)"}`, []string{"--heartbeat-seconds", "0"}, false, 0, "start result"},
		{"more than the limit", `{"code": "for i in range(10): print('x' * 20000, flush=True)"}`, []string{"--output-mb", "0.05"}, false, 0, "start stdout result"},
		{"an exception", `{"code": "print(1)\n1/0"}`, nil, false, 1, "start stdout result"},
		{"a limit", `{"code": "print(1, flush=True)\nimport time\ntime.sleep(60)"}`, []string{"--timeout-seconds", "1", "--heartbeat-seconds", "0"}, false, 124, "start stdout result"},
		{"no program", `{"command": "ping"}`, nil, false, 0, "result"},
		{"no code of the user's", `{"command": "list_modules"}`, nil, false, 0, "start result"},
		{"a bad request", `{`, nil, false, 125, "result"},
		{"a bad configuration", `{"code": ""}`, []string{"--set", "security.max-memory-mb=-1"}, false, 125, "result"},
		{"no interpreter", `{"code": ""}`, []string{"--python", "/nonexistent"}, false, 127, "result"},
		{"a bad flag", `{"code": ""}`, []string{"--bogus"}, false, 125, "result"},
		{"a bad time", `{"code": ""}`, []string{"--heartbeat-seconds", "0.01"}, false, 125, "result"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			if c.warm {
				p.warm(t)
			}
			run := p.command(append(append([]string{"exec", "--audit-line=off"}, c.args...), "--stream")...)
			run.Stdin = strings.NewReader(c.request)
			out, _ := run.Output()
			if code := run.ProcessState.ExitCode(); code != c.code {
				t.Errorf("exit code %d, want %d: %.2000s", code, c.code, out)
			}
			list := events(t, schema, out)
			var kinds []string
			for _, e := range list {
				if kind := e["event"].(string); len(kinds) == 0 || kinds[len(kinds)-1] != kind {
					kinds = append(kinds, kind)
				}
			}
			got := strings.Join(kinds, " ")
			if c.name == "much output" {
				got = strings.ReplaceAll(got, "heartbeat stdout ", "")
				if len(list) > 5000 { // the program writes each line by itself
					t.Errorf("%d events for 20000 lines", len(list))
				}
			}
			if c.want != "" && got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			result := list[len(list)-1]
			if start := list[0]; len(list) > 1 && (start["id"] != result["id"] || start["run_id"] != result["run_id"] || start["started_at"] != result["started_at"] || fmt.Sprint(start["limits"]) != fmt.Sprint(result["limits"])) {
				t.Errorf("the start is of %v, the result of %v", start, result)
			}
		})
	}
}

// A reader that does not read does not hold the program, whose whole output is in the result.
func TestStreamNobodyReads(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	ended := filepath.Join(p.dir, "ended")
	run := p.command("exec", "--stream", "--audit-line=off", "--timeout-seconds=0")
	run.Stdin = bytes.NewReader(mustJSON(t, map[string]any{"code": fmt.Sprintf("for i in range(100): print(str(i) * 5000)\nopen(%q, 'w').close()", ended)}))
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	run.Stdout = write
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	waitUntil(t, "the code has ended", func() bool { _, err := os.Stat(ended); return err == nil })
	var out bytes.Buffer
	out.ReadFrom(read)
	run.Wait()
	var r struct {
		answer
		Stdout   string
		Warnings []wire.Warning
	}
	lines := bytes.SplitAfter(out.Bytes(), []byte("\n"))
	if err := json.Unmarshal(lines[len(lines)-2], &r); err != nil {
		t.Fatal(err)
	}
	if r.Status != wire.StatusOK || len(r.Stdout) != 950100 || !strings.Contains(fmt.Sprint(r.Warnings), "output_not_streamed") {
		t.Errorf("status %s, %d bytes, warnings %v", r.Status, len(r.Stdout), r.Warnings)
	}
	var next, missing int64
	for _, line := range lines[:len(lines)-2] {
		var e struct {
			Event, Text   string
			Offset, Bytes int64
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%v: %.100s", err, line)
		}
		if e.Event == "stdout" {
			missing += e.Offset - next
			if next = e.Offset + e.Bytes; r.Stdout[e.Offset:next] != e.Text {
				t.Errorf("at %d the event has another text than the result", e.Offset)
			}
		}
	}
	missing += 950100 - next
	if want := fmt.Sprintf("%d bytes of output had no event", missing); !strings.Contains(fmt.Sprint(r.Warnings), want) {
		t.Errorf("warnings %v, want %q", r.Warnings, want)
	}
}

// Signals end a stream that nobody reads: the first its run, the next the waiting for a reader.
func TestStreamSignals(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	run := p.command("exec", "--stream", "--audit-line=off", "--timeout-seconds=0")
	run.Stdin = strings.NewReader(`{"code": "while True: print('x' * 1000)"}`)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer write.Close()
	var errs bytes.Buffer
	run.Stdout, run.Stderr = write, &errs
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the pipe is full", func() bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(write.Fd()), Events: unix.POLLOUT}}, 0)
		return err == nil && n == 0
	})
	run.Process.Signal(syscall.SIGTERM)
	waitUntil(t, "the run has its end record", func() bool { return len(logLines(t, p.dir)) == 2 })
	run.Process.Signal(syscall.SIGTERM)
	run.Wait()
	if end := p.end(t); end.Status != "cancelled" || run.ProcessState.ExitCode() != 143 || !strings.Contains(errs.String(), "before the result was read") {
		t.Errorf("%v, recorded %q, stderr %q", run.ProcessState, end.Status, errs.String())
	}
}

// A reader that goes away ends the run.
func TestStreamReaderGoes(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	run := p.command("exec", "--stream", "--heartbeat-seconds=0.1")
	run.Stdin = bytes.NewReader(mustJSON(t, map[string]any{"code": "import time\nwhile True:\n    print('x', flush=True)\n    time.sleep(0.01)"}))
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	run.Stdout = write
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	chunk := make([]byte, 1)
	read.Read(chunk)
	read.Close()
	run.Wait()
	if end := p.end(t); end.Status != "cancelled" || run.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
		t.Errorf("%v, recorded %+v", run.ProcessState, end)
	}
}
