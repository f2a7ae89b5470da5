package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestDecodeVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			request, warnings, err := Decode(v.request)
			if request.ID != v.id {
				t.Errorf("id %q, want %q", request.ID, v.id)
			}
			if !v.ok {
				checkRefusal(t, v, request, err)
				return
			}
			if err != nil {
				t.Fatalf("refused: %v", err)
			}
			if v.command != "" && string(request.Command) != v.command {
				t.Errorf("command %q, want %q", request.Command, v.command)
			}
			if len(warnings) != len(v.warnings) {
				t.Fatalf("warnings %q, want %q", warnings, v.warnings)
			}
			for i, w := range warnings {
				if w.Code != "unknown_field" || !strings.Contains(w.Message, v.warnings[i]) {
					t.Errorf("warning %q, want unknown_field with %q", w, v.warnings[i])
				}
			}
		})
	}
}

func checkRefusal(t *testing.T, v vector, request Request, err error) {
	t.Helper()
	var bad *BadRequest
	if !errors.As(err, &bad) {
		t.Fatalf("error %v, want a *BadRequest", err)
	}
	if bad.Field != v.field {
		t.Errorf("field %q, want %q", bad.Field, v.field)
	}
	if bad.Error() == "" || !strings.Contains(bad.Error(), v.message) {
		t.Errorf("message %q, want %q", bad.Error(), v.message)
	}
	if !strings.Contains(bad.Hint, v.hint) {
		t.Errorf("hint %q, want %q", bad.Hint, v.hint)
	}
	if strings.Contains(fmt.Sprintf("%+v", *bad), "s3cr3t") {
		t.Errorf("a secret in %+v", *bad)
	}
	if !reflect.DeepEqual(request, Request{ID: request.ID}) {
		t.Errorf("request %+v, want nothing but the id", request)
	}
}

func TestDecodeWhole(t *testing.T) {
	t.Parallel()
	stdin := "in"
	tests := []struct {
		name    string
		request string
		want    Request
	}{
		{"defaults", `{"code": ""}`,
			Request{Command: CommandExecute, Filename: "main.py", ResultFormat: "plain", ResultFrom: "auto"}},
		{"everything",
			`{"protocol": 1, "id": "i", "command": "call_module", "code": "c", "expression": "e", "module": "m", "function": "f",
			"args": [1.50, null], "kwargs": {"k": true}, "variables": {"v": {"n": 12345678901234567890}}, "line": 2, "column": 3,
			"argv": ["a"], "stdin": "in", "filename": "n.py", "user": "u", "client_ip": "::1", "security_mode": "ADMIN",
			"limits": {"idle_seconds": 8, "timeout_seconds": 0.5, "processes": 4e0}, "result_format": "tagged", "result_from": "none",
			"labels": {"l": "x"}, "files": {"a/b": "t", "c": {"base64": "AP8="}}, "collect": ["**"]}`,
			Request{ID: "i", Command: CommandCallModule, Code: "c", Expression: "e", Module: "m", Function: "f",
				Args: []any{Number("1.50"), nil}, Kwargs: &Object{Names: []string{"k"}, Values: []any{true}},
				Variables: &Object{Names: []string{"v"}, Values: []any{&Raw{Text: `{"n": 12345678901234567890}`, Size: 26}}},
				Line:      2, Column: 3, Argv: []string{"a"}, Stdin: &stdin, Filename: "n.py", User: "u", ClientIP: "::1", SecurityMode: "ADMIN",
				Limits: Limits{TimeoutSeconds: 0.5, Processes: 4, IdleSeconds: 8}, ResultFormat: "tagged", ResultFrom: "none",
				Labels: &Object{Names: []string{"l"}, Values: []any{"x"}},
				Files:  []File{{"a/b", "t"}, {"c", "\x00\xff"}}, Collect: []Pattern{{"**", []string{"**"}}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, warnings, err := Decode([]byte(tt.request))
			if err != nil || warnings != nil {
				t.Fatalf("%v, %v", err, warnings)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

// What a Java client sends of a field that has no value means the same as the field left out.
func TestDecodeNulls(t *testing.T) {
	t.Parallel()
	want, _, err := Decode([]byte(`{"code": "", "labels": {}}`))
	if err != nil {
		t.Fatal(err)
	}
	nulls := `{"code": "", "labels": {"l": null}, "limits": {`
	for i, name := range LimitNames() {
		nulls += strings.Repeat(",", min(i, 1)) + `"` + name + `": null`
	}
	nulls += "}"
	for _, name := range fieldNames() {
		if name != "code" && name != "labels" && name != "limits" {
			nulls += `, "` + name + `": null`
		}
	}
	got, warnings, err := Decode([]byte(nulls + "}"))
	if err != nil || warnings != nil {
		t.Fatalf("%v, %v", warnings, err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// Labels of a command line keep the rules of the request's.
func TestParseLabels(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pairs []string
		want  string // what the error says; empty: none
	}{
		{nil, ""},
		{[]string{"a=1", "b=", "c=x=y"}, ""},
		{[]string{"a"}, "want NAME=VALUE"},
		{[]string{"=1"}, "want NAME=VALUE"},
		{[]string{"a=1", "a=1"}, "each name once"},
		{[]string{"a=\xff"}, "want NAME=VALUE"},
		{[]string{"a=" + strings.Repeat("x", 257)}, "labels.a: 257 characters, at most 256"},
		{[]string{strings.Repeat("n", 65) + "=1"}, "at most 64"},
	} {
		got, err := ParseLabels(tt.pairs)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %q", tt.pairs, err, tt.want)
		}
		if err == nil && len(got.Names) != len(tt.pairs) {
			t.Errorf("%q: %+v", tt.pairs, got)
		}
	}
	var many []string
	for i := range 33 {
		many = append(many, fmt.Sprintf("n%d=v", i))
	}
	if _, err := ParseLabels(many); err == nil || !strings.Contains(err.Error(), "33 labels") {
		t.Errorf("%v", err)
	}
	if got, err := ParseLabels([]string{"c=x=y"}); err != nil || got.Values[0] != "x=y" {
		t.Errorf("%+v, %v", got, err)
	}
}

// A request that is all names must not cost more than its length, nor fill the result with warnings.
func TestDecodeManyUnknown(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(`{"code": ""`)
	for i := range 100_000 {
		fmt.Fprintf(&b, `, "%s%d": 0`, strings.Repeat("x", 10), i)
	}
	b.WriteString("}")
	_, warnings, err := Decode([]byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) != maxNamed+1 || warnings[maxNamed].Message != "and 99984 more unknown fields, ignored" {
		t.Errorf("%d warnings, the last %q", len(warnings), warnings[len(warnings)-1])
	}
}

// fold stands for strings.EqualFold where comparing every pair would take too long.
func TestFoldIsEqualFold(t *testing.T) {
	t.Parallel()
	names := []string{"user", "USER", "u\u017fer", "uzer", "k", "K", "\u212a", "ß", "ẞ", "ss", "Σ", "σ", "ς", "ǅ", "ǆ", "Ǆ", "ı", "i", "İ", "θ", "ϑ", "ϴ", ""}
	for _, a := range names {
		for _, b := range names {
			if got, want := fold(a) == fold(b), strings.EqualFold(a, b); got != want {
				t.Errorf("%q and %q: %t, want %t", a, b, got, want)
			}
		}
	}
}

func TestCommandTable(t *testing.T) {
	t.Parallel()
	runs := map[Command]bool{CommandExecute: true, CommandEvaluate: true, CommandCallModule: true, CommandCheckSyntax: false,
		CommandGetCompletions: false, CommandVersion: false, CommandListModules: false, CommandPing: false, "": false, "shutdown": false}
	for command, want := range runs {
		if got := command.RunsCode(); got != want {
			t.Errorf("%q runs code: %t, want %t", command, got, want)
		}
	}
	names := fieldNames()
	for _, row := range commands {
		for _, need := range row.needs {
			if !slices.Contains(names, need) {
				t.Errorf("%s needs %s, which is no field", row.name, need)
			}
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	// Every field of the struct stands in the table once, in the struct's order.
	names := LimitNames()
	if got, want := len(names), reflect.TypeFor[Limits]().NumField(); got != want {
		t.Fatalf("%d names, want %d", got, want)
	}
	var all Limits
	for i, name := range names {
		if !all.Set(name, float64(i+1)) {
			t.Errorf("cannot set %s", name)
		}
		if got, ok := all.Get(name); !ok || got != float64(i+1) {
			t.Errorf("%s is %v, %t", name, got, ok)
		}
		if got := reflect.ValueOf(all).Field(i).Float(); got != float64(i+1) {
			t.Errorf("field %d is %v after %s was set", i, got, name)
		}
	}
	if _, ok := all.Get("memory_mbs"); ok || all.Set("memory_mbs", 1) {
		t.Error("an unknown name was found")
	}

	tests := []struct {
		name   string
		limits Limits
		want   string
	}{
		{"none", Limits{}, `{}`},
		{"all", all, `{"timeout_seconds":1,"cpu_seconds":2,"memory_mb":3,"processes":4,"output_mb":5,"file_mb":6,"disk_mb":7,"idle_seconds":8}`},
		{"fractions", Limits{CPUSeconds: 0.25, MemoryMB: 1e15, IdleSeconds: 1e-9}, `{"cpu_seconds":0.25,"memory_mb":1e+15,"idle_seconds":1e-09}`},
		{"large", Limits{MemoryMB: 1e14}, `{"memory_mb":100000000000000}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := json.Marshal(tt.limits)
			if err != nil || string(got) != tt.want {
				t.Errorf("%s, %v, want %s", got, err, tt.want)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, word string
		want       string
	}{
		{"one letter too many", "memory_mbs", "memory_mb"},
		{"two letters swapped", "memroy_mb", "memory_mb"},
		{"the beginning", "cpu", "cpu_seconds"},
		{"the end", "max_disk_mb", "disk_mb"},
		{"the closest", "file_mbs", "file_mb"},
		{"nothing like it", "colour", ""},
		{"too short to tell", "mb", ""},
		{"empty", "", ""},
		{"too long to look", strings.Repeat("memory_mb", 9), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want := tt.want
			if want != "" {
				want = `; did you mean "` + want + `"?`
			}
			if got := didYouMean(tt.word, LimitNames()); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	request := []byte(`{"id": "req-7", "code": "result = x * 2", "variables": {"x": 21, "readings": [1.5, 2.5, 3.5]},
		"user": "alice", "client_ip": "10.20.4.17", "security_mode": "ADMIN", "limits": {"timeout_seconds": 5, "memory_mb": 256}}`)
	b.SetBytes(int64(len(request)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Decode(request); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzDecode: whatever comes in, an answer comes out, and what is accepted is what the schema of a run may rely on.
func FuzzDecode(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.request)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		request, _, err := Decode(data)
		var bad *BadRequest
		switch {
		case errors.As(err, &bad):
			if bad.Message == "" || len(bad.Message)+len(bad.Field)+len(bad.Hint) > 4096 {
				t.Errorf("message of %d bytes: %.100q", len(bad.Message), bad.Message)
			}
		case err != nil:
			t.Errorf("error %T", err)
		default:
			if request.Command == "" || request.Filename == "" || request.ResultFormat == "" || request.ResultFrom == "" {
				t.Errorf("incomplete: %+v", request)
			}
			if _, err := json.Marshal(request.Limits); err != nil {
				t.Error(err)
			}
		}
	})
}

// A line for a bridge is a request, or one of two commands more.
func TestDecodeLine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		line  string
		want  Command
		id    string
		wrong string // in the message of the refusal
	}{
		{`{"command": "shutdown", "id": "x"}`, CommandShutdown, "x", ""},
		{`{"command": "clear_globals", "code": null}` + "\r", CommandClearGlobals, "", ""},
		{`{"command": "ping", "security_mode": null, "id": null}`, CommandPing, "", ""},
		{`{"code": ""}`, CommandExecute, "", ""},
		{`{"command": "Shutdown", "id": "x"}`, "", "x", "unknown command"},
		{`{"command": 1}`, "", "", "want a string"},
		{`{"command": "shutdown", "command": "ping"}`, "", "", "twice"},
		{``, "", "", "empty"},
	} {
		r, _, err := DecodeLine([]byte(tt.line))
		if r.Command != tt.want || r.ID != tt.id || (err == nil) != (tt.wrong == "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
			t.Errorf("%s: %+v, %v", tt.line, r, err)
		}
		if _, _, err := Decode([]byte(tt.line)); (tt.want == CommandShutdown || tt.want == CommandClearGlobals) && err == nil {
			t.Errorf("%s: accepted as a request", tt.line)
		}
	}
}

// The text of a key is nowhere in the request's bytes once it was read, and the key itself is gone after Forget. What else the
// request holds stays as it was.
func TestForgetKey(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, request string
		refused       bool
	}{
		{"accepted", `{"code": "result = 1", "api_key": "p3r_s3cr3t", "variables": {"v": [1, 2]}}`, false},
		{"refused for another field", `{"code": 7, "api_key": "p3r_s3cr3t"}`, true},
		{"refused for the key", `{"code": "", "api_key": "p3r_s3cr3t` + strings.Repeat("x", keyMost) + `"}`, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			data := []byte(tt.request)
			r, _, err := Decode(data)
			if (err != nil) != tt.refused {
				t.Fatal(err)
			}
			if strings.Contains(string(data), "s3cr3t") {
				t.Errorf("it is still in %q", data)
			}
			if tt.refused {
				return
			}
			if r.Key.Text() != "p3r_s3cr3t" || r.Code != "result = 1" || strings.Contains(fmt.Sprintf("%v %+v %#v", r, r, r), "s3cr3t") {
				t.Errorf("%+v", r)
			}
			held := r.Key
			r.Key.Forget()
			if strings.Contains(string(held), "s3cr3t") {
				t.Error("Forget leaves it")
			}
		})
	}
}
