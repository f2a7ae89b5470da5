package wire

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func compile(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	text, ok := Schema(name)
	if !ok {
		t.Fatalf("no schema %s", name)
	}
	// The schemas are requests' kin: strict JSON, no name twice.
	if _, err := Parse(text, maxRequestDepth); err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat()
	if err := compiler.AddResource(name, document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func validate(t *testing.T, schema *jsonschema.Schema, text []byte) error {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(document)
}

func TestSchemaUnknown(t *testing.T) {
	t.Parallel()
	if text, ok := Schema("config"); ok || text != nil {
		t.Errorf("%s, %t", text, ok)
	}
}

func TestRequestSchema(t *testing.T) {
	t.Parallel()
	schema := compile(t, "request")
	for _, v := range vectors(t) {
		if !v.ok && !v.shape {
			continue // a mistake that a schema cannot see
		}
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			if err := validate(t, schema, v.request); (err == nil) != v.ok {
				t.Errorf("error %v, want accepted: %t", err, v.ok)
			}
		})
	}
}

func TestSchemasHaveAllNames(t *testing.T) {
	t.Parallel()
	keys := func(m map[string]*jsonschema.Schema) []string {
		var names []string
		for name := range m {
			names = append(names, name)
		}
		slices.Sort(names)
		return names
	}
	words := func(list []any) []string {
		var names []string
		for _, v := range list {
			if v != nil { // which stands for absent
				names = append(names, v.(string))
			}
		}
		return names
	}
	var known, statusNames []string
	for _, row := range commands {
		known = append(known, string(row.name))
	}
	for _, s := range Statuses() {
		statusNames = append(statusNames, string(s))
	}
	request, result, audit := compile(t, "request"), compile(t, "result"), compile(t, "audit")
	sorted := func(names []string) []string { slices.Sort(names); return names }
	tests := []struct {
		name string
		got  []string
		want []string
	}{
		{"fields", keys(request.Properties), sorted(fieldNames())},
		{"commands", words(request.Properties["command"].Enum.Values), known},
		{"limits of a request", keys(request.Properties["limits"].Properties), sorted(LimitNames())},
		{"limits of a result", keys(result.Properties["limits"].Properties), sorted(LimitNames())},
		{"limits of a record", keys(audit.Properties["limits"].Properties), sorted(LimitNames())},
		{"statuses of a result", words(result.Properties["status"].Enum.Values), statusNames},
		{"statuses of a record", words(audit.Properties["status"].Enum.Values), statusNames},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if !slices.Equal(tt.got, tt.want) {
				t.Errorf("%q, want %q", tt.got, tt.want)
			}
		})
	}
}

func TestResultSchema(t *testing.T) {
	t.Parallel()
	schema := compile(t, "result")
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			line, err := s.result.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if err := validate(t, schema, line); err != nil {
				t.Error(err)
			}
		})
	}
	line := samples()[2].want
	tests := []struct {
		name, old, new string
	}{
		{"unknown field", `"protocol":1`, `"protocol":1,"colour":1`},
		{"unknown field inside", `"retryable":true`, `"retryable":true,"colour":1`},
		{"unknown status", `"timeout"`, `"late"`},
		{"success of a failure", `"success":false`, `"success":true`},
		{"result of a failure", `"error"`, `"result":1,"error"`},
		{"null", `"traceback":"Traceback <x>"`, `"traceback":null`},
		{"error missing", `"error":"stopped after 5 s",`, ``},
		{"stderr missing", `"stderr":"",`, ``},
		{"run id of another kind", `"run_id":"0193577c-9a1f-7c3e`, `"run_id":"0193577c-9a1f-4c3e`},
		{"limits with an unknown name", `"isolation"`, `"limits":{"memory":1},"isolation"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			changed := strings.Replace(line, tt.old, tt.new, 1)
			if changed == line {
				t.Fatal("nothing to change")
			}
			if validate(t, schema, []byte(changed)) == nil {
				t.Errorf("accepted %s", changed)
			}
		})
	}
}

func TestAuditSchema(t *testing.T) {
	t.Parallel()
	schema := compile(t, "audit")
	const (
		zeros = "0000000000000000000000000000000000000000000000000000000000000000"
		head  = `{"v":1,"@timestamp":"2026-11-23T20:15:02.114327Z","event":{"action":"execution-start","outcome":"unknown"},"seq":1,"prev":"` + zeros + `",`
		who   = `"host":{"name":"gw-a","boot":"7b1e91ce"},"user":{"name":"alice"},"auth":{"method":"asserted","os_uid":998,"os_user":"gw"},` +
			`"client":{"ip":"10.20.4.17","ip_source":"asserted"},"script":{},`
		start = head + `"run_id":"` + sampleRun + `",` + who + `"command":"execute","code":{"sha256":"` + sampleHash + `","bytes":1843},` +
			`"variables":{"count":1,"bytes":3,"list":[{"n":"tank_id","t":"int","b":3}]},"labels":{"job":"7"},"limits":{"timeout_seconds":5}`
		end = `,"status":"signal","process":{"signal":"SIGSEGV","cpu_ms":31,"peak_memory_bytes":41216,"stdout_bytes":512,"stderr_bytes":0},` +
			`"python":{"version":"3.12.3","executable":"/usr/bin/python3"},"isolation":{"method":"process","enforced":["rlimits"],"missing":[{"name":"userns","why":"EPERM"},{"name":"cgroup"}]},` +
			`"hooks":{"imports":14,"flagged_imports":[{"module":"os","why":"w","direct":true}],"connections":[{"host":"::1","port":80,"via":"native","count":1,"program":"/usr/bin/curl"}],"binds":[{"host":"*","via":"python","count":1}],` +
			`"processes":[{"program":"sh","via":"python","count":1}],"files_written":["a"],"files_deleted":["b"],"dropped":0},"truncated":true`
		repair = `"run_id":"",` + `"host":{"name":"gw-a","boot":"7b1e91ce"},"user":{"name":""},"auth":{"method":"os-user","os_uid":0},"client":{},"script":{},` +
			`"code":{"sha256":"","bytes":0},"variables":{"count":0,"bytes":0},"repair":{"bytes":12,"sha256":"` + sampleHash + `","kept":"audit.torn-1"}`
	)
	ended := strings.NewReplacer("execution-start", "execution-end", `"unknown"`, `"failure","reason":"signal","duration_ns":1272375000`)
	repaired := strings.NewReplacer("execution-start", "audit-repair", `"unknown"`, `"success"`)
	tests := []struct {
		name, record string
		want         bool
	}{
		{"start", start + "}", true},
		{"end", ended.Replace(start) + end + "}", true},
		{"repair", repaired.Replace(head) + repair + "}", true},
		{"key event", strings.Replace(head, "execution-start", "key-revoke", 1) + `"user":{"name":"root"}}`, true},
		{"start with its configuration", start + `,"configuration":[{"path":"/etc/py3run/config.toml","sha256":"` + sampleHash + `"},{"path":"/x"}]}`, true},
		{"how it was called", strings.Replace(start, `"code"`, `"invocation":{"command":"exec","argv":["a"],"argv_dropped":2,"stdin":{"bytes":3,"sha256":"`+sampleHash+`"}},"code"`, 1) + "}", true},
		{"called in another way", strings.Replace(start, `"code"`, `"invocation":{"command":"ssh"},"code"`, 1) + "}", false},
		{"a script's file", strings.Replace(start, `"script":{}`, `"script":{"name":"a.py","source":"file","path":"/a.py"}`, 1) + "}", true},
		{"who logged in", strings.Replace(start, `"os_uid":998`, `"os_uid":0,"login_uid":1000,"sudo_user":"alice","sudo_source":"login-uid"`, 1) + "}", true},
		{"change of policy", strings.Replace(strings.Replace(start, "execution-start", "policy-change", 1), `"unknown"`, `"success"`, 1) + `,"policy":{"path":"/x","new_sha256":"` + sampleHash + `"}}`, true},
		{"lost memory", repaired.Replace(start) + `,"repair":{"found":{"seq":3,"hash":"` + sampleHash + `"}}}`, true},
		{"end without what ends say", ended.Replace(start) + "}", false},
		{"start without a run", head + who + `"code":{"sha256":"` + sampleHash + `","bytes":0},"variables":{"count":0,"bytes":0}}`, false},
		{"start with an empty run id", strings.Replace(start, sampleRun, "", 1) + "}", false},
		{"repair without its repair", repaired.Replace(start) + "}", false},
		{"unknown action", strings.Replace(start, "execution-start", "execution-begin", 1) + "}", false},
		{"unknown field", start + `,"colour":1}`, false},
		{"a variable's value", strings.Replace(start, `"b":3`, `"b":3,"v":117`, 1) + "}", false},
		{"upper-case hash", strings.Replace(start, sampleHash, strings.ToUpper(sampleHash), 1) + "}", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if err := validate(t, schema, []byte(tt.record)); (err == nil) != tt.want {
				t.Errorf("error %v, want accepted: %t", err, tt.want)
			}
		})
	}
}
