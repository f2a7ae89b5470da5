package launch

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

// made is a plan as Make could return it, made without asking a host.
func made(change func(*Job)) Plan {
	job := Job{Request: wire.Request{ID: "r7", Command: wire.CommandExecute, ResultFrom: "auto"}, Config: config.Default(), Began: time.UnixMilli(1700000000000)}
	if change != nil {
		change(&job)
	}
	return Plan{Job: job, RunID: "run", Interpreter: python.Interpreter{Path: "/usr/bin/python3", Version: "3.12.1"}, Limits: judged,
		Spec: sandbox.Spec{Path: "/usr/bin/python3", PrivateShm: true}, Warnings: []wire.Warning{{Code: "clamped_limit"}}}
}

// codesOf returns the codes of warnings, in order.
func codesOf(warnings []wire.Warning) string {
	var list []string
	for _, w := range warnings {
		list = append(list, w.Code)
	}
	return strings.Join(list, " ")
}

// The result depends only on plan, evidence and verdict.
func TestResult(t *testing.T) {
	t.Parallel()
	done := sandbox.Outcome{Reason: sandbox.Finished}
	value := python.Reply{Kind: "value", Type: "int", Value: []byte("42")}
	tests := []struct {
		name     string
		plan     Plan
		evidence Evidence
		want     string // parts of the result line, with | between them
		without  string // parts that must not be in the line, with | between them
		warnings string // their codes
	}{
		{"a value", made(nil), Evidence{Outcome: done, Started: true, Reply: value},
			`"success":true,"status":"ok","result":42,"result_type":"int"|"exit_code":0|"version":"3.12.1"|"memory_mb":256`, `"error"|"failure"|"signal"|"working_dir"`, "clamped_limit"},
		{"no value, and something printed", made(nil), Evidence{Outcome: done, Started: true, Reply: python.Reply{Kind: "value", Absent: true}, Printed: wire.Captured{Stdout: "hi\n", StdoutBytes: 3}},
			`"result":"hi\n","result_type":"str"|"output":"hi\n"`, "", "clamped_limit"},
		{"no value, and what was printed is cut", made(nil), Evidence{Outcome: done, Started: true, ReplyErr: python.ErrNoReply, Printed: wire.Captured{Stdout: "hi", StdoutBytes: 9, StdoutTruncated: true}},
			`"result":"hi"|"stdout_truncated":true`, "", "clamped_limit truncated_value"},
		{"no value, and none wanted", made(func(j *Job) { j.Request.ResultFrom = "none" }), Evidence{Outcome: done, Started: true, ReplyErr: python.ErrNoReply, Printed: wire.Captured{Stdout: "hi"}},
			`"result":null,"result_type":"NoneType"`, "", "clamped_limit"},
		{"an integer that readers round", made(nil), Evidence{Outcome: done, Started: true,
			Reply: python.Reply{Kind: "value", Type: "int", Value: []byte("9007199254740993"), Inexact: wire.Findings{BigIntegers: []string{"result"}, BigIntegerCount: 1}}},
			`"result":9007199254740993|"result_text":"9007199254740993"`, "", "clamped_limit"},
		{"more of them than are named", made(nil), Evidence{Outcome: done, Started: true,
			Reply: python.Reply{Kind: "value", Type: "list", Value: []byte("[1]"), Inexact: wire.Findings{BigIntegers: []string{"result[0]"}, BigIntegerCount: 3}}},
			"and 2 more integers", "result_text", "clamped_limit inexact_value inexact_value"},
		{"an exception", made(nil), Evidence{Outcome: sandbox.Outcome{Reason: sandbox.Finished, ExitCode: 1}, Started: true,
			Reply: python.Reply{Kind: "error", Type: "ModuleNotFoundError", Error: "No module named 'x'", Traceback: "Traceback…"}},
			`"status":"error"|"error":"No module named 'x'","traceback":"Traceback…"|install the module for that one`, `"result"`, "clamped_limit"},
		{"an exception that the exit code denies", made(nil), Evidence{Outcome: done, Started: true, Reply: python.Reply{Kind: "error", Error: "E"}},
			`"status":"ok"`, `"traceback"`, "clamped_limit program_says"},
		{"a damaged reply", made(nil), Evidence{Outcome: done, Started: true, ReplyErr: errors.New("not JSON"), Events: wire.Events{Dropped: 3}},
			`"dropped":3`, "", "clamped_limit reply_unreadable"},
		{"a signal", made(nil), Evidence{Outcome: sandbox.Outcome{Reason: sandbox.Finished, Signal: syscall.SIGKILL}, Started: true, ReplyErr: python.ErrNoReply},
			`"status":"signal"|"signal":"SIGKILL"`, `"exit_code"`, "clamped_limit"},
		{"a limit, and a clue to another", made(nil), Evidence{Outcome: sandbox.Outcome{Reason: sandbox.WallLimit, Used: 5, Signal: syscall.SIGKILL, Memory: sandbox.MemoryTrace{PerProcess: true}}, Started: true, ReplyErr: python.ErrNoReply},
			`"status":"timeout"|do less at a time; that is the default of security.execution-timeout-seconds|; memory_mb = 256 limits the private memory`, "", "clamped_limit"},
		{"cancelled", made(nil), Evidence{Outcome: sandbox.Outcome{Reason: sandbox.Cancelled, Cancel: syscall.SIGTERM, Signal: syscall.SIGKILL}, Started: true, ReplyErr: python.ErrNoReply},
			`"status":"cancelled"|the caller sent SIGTERM`, "", "clamped_limit"},
		{"what cannot be told without the launcher", made(nil), Evidence{Outcome: sandbox.Outcome{Reason: sandbox.Finished, Refused: 1, Incomplete: true, Left: sandbox.Left{Count: 1, Names: []string{"sleep"}}}, Started: true, Reply: value,
			Lost: []error{io.ErrShortWrite}, Warnings: []wire.Warning{{Code: "absent_path"}}, Contents: sandbox.Contents{Files: 2, Names: []string{"b", "a"}}},
			"write output: short write|2 files left in the working directory, which is removed: a, b", "",
			"clamped_limit absent_path output_lost process_limit processes_ended kill_incomplete files_discarded"},
		{"files that were handed back, and others", made(nil), Evidence{Outcome: done, Started: true, Reply: value, Contents: sandbox.Contents{Files: 1, Names: []string{"b"}},
			Handed: Handed{Files: map[string]wire.Collected{"a": wire.CollectedFile([]byte("é\n"), "00"), "n": wire.CollectedFile([]byte{0}, "01")}, Missed: []string{"c"}}},
			`"files":{"a":{"text":"é\n","bytes":3,"sha256":"00"},"n":{"base64":"AA==","bytes":1,"sha256":"01"}}|c: no file matches|1 file left`, "", "clamped_limit not_collected files_discarded"},
		{"none of the files that were asked for", made(nil), Evidence{Outcome: done, Started: true, Reply: value, Handed: Handed{Files: map[string]wire.Collected{}}}, `"files":{}`, "", "clamped_limit"},
		{"files that were handed back of a failed run", made(nil), Evidence{Outcome: sandbox.Outcome{Reason: sandbox.Finished, ExitCode: 3}, Started: true, ReplyErr: python.ErrNoReply, Handed: Handed{Files: map[string]wire.Collected{"a": wire.CollectedFile(nil, "00")}}},
			`"status":"exit"|"files":{"a":{"text":"","bytes":0`, "", "clamped_limit"},
		{"kept files", made(func(j *Job) { j.Config.Security.Isolation.CleanupOnExit = false }), Evidence{Outcome: done, Started: true, Reply: value, Workdir: "/w/p", Contents: sandbox.Contents{Files: 2}},
			`"working_dir":"/w/p"`, "", "clamped_limit"},
		{"gaps", func() Plan { p := made(nil); p.Spec.PrivateShm = false; return p }(),
			Evidence{Outcome: sandbox.Outcome{Reason: sandbox.Finished, Protection: sandbox.Protection{Method: sandbox.Namespace, Enforced: []string{"pid-namespace"}, Gaps: []sandbox.Gap{{Name: "memory-limit", Why: "no group"}}}}, Started: true, Reply: value, Unpinned: []string{"/o"}, Warm: true},
			`"method":"namespace","enforced":["pid-namespace"],"missing":[{"name":"memory-limit","why":"no group"},{"name":"private-shm"|{"name":"pinned-paths","why":"/o does not exist|"warm":true`, "", "clamped_limit"},
		{"refused", Plan{Job: made(nil).Job, RunID: "run"}, Evidence{Refused: &refusal{status: wire.StatusPythonNotFound, failure: &wire.Failure{Message: "no Python"}}},
			`"status":"python_not_found"|"error":"no Python"`, `"usage"|"limits"|"python":|"isolation"|"stdout"`, ""},
		{"no record", made(nil), Evidence{Unrecorded: errors.New("read-only"), Warnings: []wire.Warning{{Code: "audit_group"}}},
			`"status":"audit_unavailable"|audit: read-only|repair the audit directory`, `"usage"|"stdout"`, "clamped_limit audit_group"},
		{"no start", made(nil), Evidence{Setup: &sandbox.StepError{Step: "clone", Err: syscall.EPERM}},
			`"status":"launch_failed"|"step":"clone","errno":"EPERM"|allow user namespaces`, `"usage"|"stdout"`, "clamped_limit"},
		{"no start of the interpreter", made(nil), Evidence{Setup: &sandbox.StepError{Step: "execve", Err: syscall.EACCES}}, `"status":"python_not_executable"`, "", "clamped_limit"},
		{"a fault", made(nil), Evidence{Fault: "index out of range"}, `"status":"internal"|internal: index out of range`, `"usage"|"stdout"`, "clamped_limit"},
		{"an answer of our own", Plan{Job: made(nil).Job, RunID: "run"}, Evidence{Direct: &Direct{"pong", "str"}}, `"result":"pong","result_type":"str"`, `"usage"|"limits"|"stdout"`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := result(tt.plan, tt.evidence, Judge(tt.evidence, tt.plan.Limits))
			line, err := r.Encode()
			if err != nil {
				t.Fatal(err)
			}
			for _, part := range strings.Split(`"id":"r7","run_id":"run"|"started_at":"2023-11-14T22:13:20.000Z"|`+tt.want, "|") {
				if !strings.Contains(string(line), part) {
					t.Errorf("no %s in %s", part, line)
				}
			}
			for _, part := range strings.Split(tt.without, "|") {
				if part != "" && strings.Contains(string(line), part) {
					t.Errorf("%s in %s", part, line)
				}
			}
			if got := codesOf(r.Warnings); got != tt.warnings {
				t.Errorf("warnings %s, want %s", got, tt.warnings)
			}
		})
	}
}

// Making a result changes neither the plan nor the evidence: a second result is the same.
func TestResultChangesNothing(t *testing.T) {
	t.Parallel()
	p := made(nil)
	p.Warnings = slices.Grow(p.Warnings, 8)
	e := Evidence{Outcome: sandbox.Outcome{Reason: sandbox.WallLimit, Used: 5, Signal: syscall.SIGKILL}, Started: true, ReplyErr: python.ErrNoReply, Warnings: []wire.Warning{{Code: "absent_path"}}}
	verdict := Judge(e, p.Limits)
	before := *verdict.Failure
	first, second := result(p, e, verdict), result(p, e, verdict)
	a, _ := first.Encode()
	b, _ := second.Encode()
	if string(a) != string(b) || verdict.Failure.Hint != before.Hint || verdict.Failure.Where != nil {
		t.Errorf("%s\n%s\n%+v", a, b, verdict.Failure)
	}
	both := withReceipt(first, &audit.Receipt{Seq: 3, Hash: "ab"}, []wire.Warning{{Code: "cleanup_failed"}})
	if first.Audit != nil || codesOf(first.Warnings) != "clamped_limit absent_path" || codesOf(both.Warnings) != "clamped_limit absent_path cleanup_failed" || both.Audit.Seq != 3 {
		t.Errorf("%s, %s", codesOf(first.Warnings), codesOf(both.Warnings))
	}
}

// The end record depends only on the base, the plan, the evidence and the result.
func TestEndRecord(t *testing.T) {
	t.Parallel()
	base := audit.Record{RunID: "run", User: audit.User{Name: "alice"}, Code: audit.Code{SHA256: "c0de"}}
	heads := func(j *Job) { j.Config.Security.Audit.LogOutput = "head" }
	tests := []struct {
		name     string
		plan     Plan
		evidence Evidence
		want     string // parts of the record as JSON, with | between them
	}{
		{"ok", made(nil), Evidence{Outcome: sandbox.Outcome{Reason: sandbox.Finished, Usage: sandbox.Usage{CPU: 20 * time.Millisecond}, Protection: sandbox.Protection{Method: sandbox.Namespace}}, Started: true, Reply: python.Reply{Kind: "value", Type: "int", Value: []byte("42")},
			Printed: wire.Captured{StdoutBytes: 7}, Events: wire.Events{Imports: new(4), FilesWritten: []string{"/f"}}},
			`"status":"ok"|"action":"execution-end"|"outcome":"success"|"duration_ns":5|"cpu_ms":20|"stdout_bytes":7|"result_bytes":2|"method":"namespace"|"imports":4|"/f"|"name":"alice"|"sha256":"c0de"`},
		{"an error", made(nil), Evidence{Outcome: sandbox.Outcome{Reason: sandbox.Finished, ExitCode: 1}, Started: true, Reply: python.Reply{Kind: "error", Error: "E", Syntax: true}},
			`"status":"error"|"outcome":"failure"|"reason":"python_syntax"|"exit_code":1`},
		{"an exception", made(nil), Evidence{Outcome: sandbox.Outcome{Reason: sandbox.Finished, ExitCode: 1}, Started: true, Reply: python.Reply{Kind: "error", Type: "ValueError", Error: "E 4711", Line: 7}},
			`"failure":{"type":"ValueError","line":7}`},
		{"a limit", made(nil), Evidence{Outcome: sandbox.Outcome{Reason: sandbox.WallLimit, Used: 5, Usage: sandbox.Usage{PeakProcesses: 3}}, Started: true, ReplyErr: python.ErrNoReply},
			`"peak_processes":3|"failure":{"limit":{"name":"timeout_seconds","configured":5,"used":5}}`},
		{"no start", made(nil), Evidence{Setup: syscall.EPERM}, `"status":"launch_failed"|"method":"none"`},
		{"a fault", made(nil), Evidence{Fault: "x"}, `"status":"internal"|"outcome":"failure"`},
		{"heads of the output", made(heads), Evidence{Outcome: sandbox.Outcome{Reason: sandbox.Finished}, Started: true, Reply: python.Reply{Kind: "value", Type: "int", Value: []byte("42")},
			Streams: [2]*audit.Stream{{Bytes: 3, SHA256: "aa", Head: "out"}, {SHA256: "bb"}}},
			`"head":"out"|"sha256":"aa"|"sha256":"bb"|"head":"42"|"sha256":"73475cb40a568e8da8a045ced110137e159f890ac4da883b6b17dc651b3a8049"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := result(tt.plan, tt.evidence, Judge(tt.evidence, tt.plan.Limits))
			text, err := json.Marshal(endRecord(base, tt.plan, tt.evidence, r, 5))
			if err != nil {
				t.Fatal(err)
			}
			for _, part := range strings.Split(tt.want, "|") {
				if !strings.Contains(string(text), part) {
					t.Errorf("no %s in %s", part, text)
				}
			}
			if strings.Contains(string(text), "4711") {
				t.Errorf("what the exception said is in %s", text)
			}
			if base.Status != "" || base.Process != nil || base.Output != nil {
				t.Errorf("the base was changed: %+v", base)
			}
		})
	}
}
