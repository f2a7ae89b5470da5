package wire

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestEncodeReply(t *testing.T) {
	t.Parallel()
	large := `["` + strings.Repeat("x", 100<<10) + `"]`
	for _, tt := range []struct {
		name   string
		result Result
		want   string
	}{
		{"least", Result{Status: StatusOK}, `{"success":true,"result":null}`},
		{"a run", Result{ID: "7", RunID: sampleRun, Status: StatusOK, Result: json.RawMessage("[1,\n2]"), ResultType: "list", ResultText: "t", StartedAt: sampleTime,
			Captured: &Captured{Stdout: "a\nb", Stderr: "e", StdoutBytes: 3}, Limits: &Limits{MemoryMB: 1}, Isolation: &Isolation{}, Events: &Events{}, Python: &Python{},
			Usage: &Usage{}, Warnings: []Warning{{"c", "m"}}, Audit: &AuditReceipt{2, sampleHash}},
			`{"success":true,"result":[1,2],"output":"a\nb","id":"7","run_id":"` + sampleRun + `","warnings":[{"code":"c","message":"m"}],"audit":{"seq":2,"hash":"` + sampleHash + `"}}`},
		{"a failure", Result{RunID: sampleRun, Status: StatusError, Result: json.RawMessage("1"), Error: "E: x", Traceback: "T", Failure: &Failure{Code: "python_exception", Message: "E: x"},
			Captured: &Captured{Stdout: "before"}},
			`{"success":false,"error":"E: x","traceback":"T","output":"before","run_id":"` + sampleRun + `","failure":{"code":"python_exception","message":"E: x","retryable":false}}`},
		{"large", Result{Status: StatusOK, Result: json.RawMessage(large)}, `{"success":true,"result":` + large + `}`},
		{"large, with an id that looks like one", Result{ID: `"result":0`, Status: StatusOK, Result: json.RawMessage(large)}, `{"success":true,"result":` + large + `,"id":"\"result\":0"}`},
	} {
		line, err := tt.result.EncodeReply()
		if err != nil || string(line) != tt.want+"\n" {
			t.Errorf("%s: %v\n%.500s\nwant\n%.500s", tt.name, err, line, tt.want)
		}
	}
	bad := Result{Status: StatusOK, Result: json.RawMessage("{")}
	if _, err := bad.EncodeReply(); err == nil {
		t.Error("a value that is no JSON was accepted")
	}
}
