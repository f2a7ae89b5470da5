package wire

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

const (
	sampleRun  = "0193577c-9a1f-7c3e-8d2b-5f6a7b8c9d0e"
	sampleHash = "c1b9f0d5a4e3b2c1d0e9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7"
)

var sampleTime = Timestamp(time.Date(2026, 11, 23, 21, 15, 2, 114_999_000, time.FixedZone("CET", 3600)))

// A sample is a result and its line.
type sample struct {
	name   string
	result Result
	want   string
}

func samples() []sample {
	return []sample{
		{"least on success", Result{RunID: sampleRun, Status: StatusOK, StartedAt: sampleTime},
			`{"protocol":1,"id":"` + sampleRun + `","run_id":"` + sampleRun + `","success":true,"status":"ok","result":null,"started_at":"2026-11-23T20:15:02.114Z"}`},
		{"a run", Result{ID: "req-7", RunID: sampleRun, Status: StatusOK, Result: json.RawMessage("[1, {\"a\":\n\"<&>\"}]"), ResultType: "list", ResultText: "t",
			Captured: &Captured{Stdout: "hello\n", StdoutBytes: 6}, ExitCode: new(int), Usage: &Usage{WallMS: 38, SetupMS: 9, CPUMS: 31, PeakMemoryBytes: 11534336, PeakProcesses: 1},
			Limits: &Limits{TimeoutSeconds: 5, MemoryMB: 0.5}, Isolation: &Isolation{Method: "namespace"},
			Python: &Python{Version: "3.12.3", Executable: "/usr/bin/python3"}, Audit: &AuditReceipt{Seq: 48212, Hash: sampleHash},
			Events: &Events{Processes: []Process{{Program: "sh", Via: "native", Count: 2}}}, Warnings: []Warning{{"unknown_field", "colour: unknown field, ignored"}},
			StartedAt: sampleTime},
			`{"protocol":1,"id":"req-7","run_id":"` + sampleRun + `","success":true,"status":"ok","result":[1,{"a":"<&>"}],"result_type":"list","result_text":"t",` +
				`"stdout":"hello\n","stderr":"","stdout_bytes":6,"stderr_bytes":0,"output":"hello\n","exit_code":0,` +
				`"usage":{"wall_ms":38,"setup_ms":9,"cpu_ms":31,"peak_memory_bytes":11534336,"peak_processes":1,"read_bytes":0,"write_bytes":0},` +
				`"limits":{"timeout_seconds":5,"memory_mb":0.5},"isolation":{"method":"namespace","enforced":[],"missing":[],"warm":false},` +
				`"python":{"version":"3.12.3","executable":"/usr/bin/python3"},"audit":{"seq":48212,"hash":"` + sampleHash + `"},` +
				`"events":{"imports":0,"flagged_imports":[],"connections":[],"binds":[],"processes":[{"program":"sh","args":[],"via":"native","count":2}],"files_written":[],"files_deleted":[],"dropped":0},` +
				`"warnings":[{"code":"unknown_field","message":"colour: unknown field, ignored"}],"started_at":"2026-11-23T20:15:02.114Z"}`},
		{"a failure", Result{RunID: sampleRun, Status: StatusTimeout, Result: json.RawMessage("1"), ResultType: "int", ResultText: "1", Error: "stopped after 5 s", Traceback: "Traceback <x>",
			Failure: &Failure{Code: "timeout", Message: "stopped after 5 s", Hint: "h", Type: "X", Line: 3, Column: 1, Step: "mount /proc", Errno: "EPERM",
				Limit: &LimitHit{"timeout_seconds", 5, 5.003}, Where: []Frame{{"main.py", 3, "f", 0}, {"main.py", 9, "g", 2}}, Retryable: true, RetryAfterMS: 20},
			Captured: &Captured{Stdout: "a\xffb\x00\u2028", StdoutBytes: 5, StdoutTruncated: true, StderrTruncated: true}, Signal: "SIGKILL", SignalNumber: 9,
			Isolation: &Isolation{Method: "process", Enforced: []string{"rlimits"}, Missing: []Gap{{"userns", "EPERM"}}, Warm: true},
			Python:    &Python{"3.8.1", "/p", "/venv"},
			Events: &Events{Imports: new(3), FlaggedImports: []FlaggedImport{{Module: "os", Why: "operating system interface", Direct: true}}, Connections: []Connection{{Host: "127.0.0.1", Port: 80, Via: "python", Count: 1}, {Host: "unix:/run/x.sock", Port: 0, Via: "native", Count: 1, Program: "/bin/x"}},
				Binds:     []Connection{{Host: "*", Port: 8080, Via: "python", Count: 1}},
				Processes: []Process{{Program: "ls", Args: []string{"-l"}, Via: "python", Count: 1}}, FilesWritten: []string{"a"}, FilesDeleted: []string{"b"}, Dropped: 4},
			WorkingDir: "/tmp/w", StartedAt: sampleTime},
			`{"protocol":1,"id":"` + sampleRun + `","run_id":"` + sampleRun + `","success":false,"status":"timeout","error":"stopped after 5 s","traceback":"Traceback <x>",` +
				`"failure":{"code":"timeout","message":"stopped after 5 s","hint":"h","type":"X","line":3,"column":1,"step":"mount /proc","errno":"EPERM",` +
				`"limit":{"name":"timeout_seconds","configured":5,"used":5.003},"where":[{"file":"main.py","line":3,"function":"f"},{"file":"main.py","line":9,"function":"g","thread":2}],` +
				`"retryable":true,"retry_after_ms":20},"stdout":"a\ufffdb\u0000\u2028","stderr":"","stdout_bytes":5,"stderr_bytes":0,"stdout_truncated":true,"stderr_truncated":true,"signal":"SIGKILL",` +
				`"isolation":{"method":"process","enforced":["rlimits"],"missing":[{"name":"userns","why":"EPERM"}],"warm":true},"python":{"version":"3.8.1","executable":"/p","venv":"/venv"},` +
				`"events":{"imports":3,"flagged_imports":[{"module":"os","why":"operating system interface","direct":true}],` +
				`"connections":[{"host":"127.0.0.1","port":80,"via":"python","count":1},{"host":"unix:/run/x.sock","via":"native","count":1,"program":"/bin/x"}],` +
				`"binds":[{"host":"*","port":8080,"via":"python","count":1}],` +
				`"processes":[{"program":"ls","args":["-l"],"via":"python","count":1}],"files_written":["a"],"files_deleted":["b"],"dropped":4},` +
				`"working_dir":"/tmp/w","started_at":"2026-11-23T20:15:02.114Z"}`},
		{"a refusal", Result{ID: "req-8", RunID: sampleRun, Status: StatusBadRequest, Error: "code: number, want a string",
			Failure: &Failure{Code: "bad_request", Message: "code: number, want a string"}, StartedAt: sampleTime},
			`{"protocol":1,"id":"req-8","run_id":"` + sampleRun + `","success":false,"status":"bad_request","error":"code: number, want a string",` +
				`"failure":{"code":"bad_request","message":"code: number, want a string","retryable":false},"started_at":"2026-11-23T20:15:02.114Z"}`},
		{"error left over on success", Result{RunID: sampleRun, Status: StatusOK, Result: json.RawMessage("1"), Error: "e", Traceback: "t", Failure: &Failure{}, StartedAt: sampleTime},
			`{"protocol":1,"id":"` + sampleRun + `","run_id":"` + sampleRun + `","success":true,"status":"ok","result":1,"started_at":"2026-11-23T20:15:02.114Z"}`},
		{"bad bytes in the value", Result{RunID: sampleRun, Status: StatusOK, Result: json.RawMessage("\"\xff\""), StartedAt: sampleTime},
			`{"protocol":1,"id":"` + sampleRun + `","run_id":"` + sampleRun + `","success":true,"status":"ok","result":"` + "\ufffd" + `","started_at":"2026-11-23T20:15:02.114Z"}`},
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	for _, tt := range samples() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			before := tt.result
			got, err := tt.result.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tt.want+"\n" {
				t.Errorf("got  %swant %s", got, tt.want)
			}
			if !reflect.DeepEqual(tt.result, before) {
				t.Error("the result was changed")
			}
			if bytes.Count(got, []byte("\n")) != 1 || !utf8.Valid(got) {
				t.Error("not one line of UTF-8")
			}
			if _, err := Parse(bytes.TrimSpace(got), maxInspectDepth); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		result Result
	}{
		{"no JSON", Result{Status: StatusOK, Result: json.RawMessage("{")}},
		{"two values", Result{Status: StatusOK, Result: json.RawMessage("1 2")}},
		{"empty value", Result{Status: StatusOK, Result: json.RawMessage(" ")}},
		{"infinite limit", Result{Status: StatusOK, Limits: &Limits{MemoryMB: math.Inf(1)}}},
		{"no number", Result{Status: StatusError, Failure: &Failure{Limit: &LimitHit{Used: math.NaN()}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if line, err := tt.result.Encode(); err == nil {
				t.Errorf("encoded %s", line)
			}
		})
	}
}

// A large value stands where a small one stands, whatever the other members hold, and is held to the same rules.
func TestEncodeLarge(t *testing.T) {
	t.Parallel()
	text := `"` + strings.Repeat("x", 100<<10) + `"`
	r := Result{ID: `"result":0`, Status: StatusOK, Captured: &Captured{Stdout: `"result":0`}}
	for _, value := range []string{text, "[0,\n" + text + "]", "[0,\r" + text + "]"} {
		r.Result = json.RawMessage("0")
		small, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		r.Result = json.RawMessage(value)
		line, err := r.Encode()
		want := strings.Replace(string(small), `,"result":0,`, `,"result":`+strings.NewReplacer("\n", "", "\r", "").Replace(value)+`,`, 1)
		if err != nil || string(line) != want {
			t.Errorf("%.100q: %v, %.200q", value, err, line)
		}
	}
	for _, value := range []string{text + text, text[1:], `["` + "\xff" + text[1:] + "]", "[" + text} {
		r.Result = json.RawMessage(value)
		if line, err := r.Encode(); err == nil {
			t.Errorf("%.100q: encoded as %.200q", value, line)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	const size = 10 << 20
	row := `{"id":1000,"tag":"a1000","value":1.25,"ok":true},`
	rows := "[" + strings.TrimSuffix(strings.Repeat(row, size/len(row)), ",") + "]"
	text := `"` + strings.Repeat("0123456789abcde ", size/16) + `"`
	for name, result := range map[string]Result{
		"small": samples()[1].result,
		"rows":  {Status: StatusOK, Result: json.RawMessage(rows)},
		"text":  {Status: StatusOK, Result: json.RawMessage(text)},
		"print": {Status: StatusOK, Captured: &Captured{Stdout: strings.Repeat("a line of text\n", 10<<20/15)}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := result.Encode(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
