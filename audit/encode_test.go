package audit

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
)

func TestEncodeStrings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, in, want string
	}{
		{"plain", "alice", `alice`},
		{"empty", "", ``},
		{"quote and backslash", `a"b\c`, `a\"b\\c`},
		{"backslash at the end", `a\`, `a\\`},
		{"markup", `<a href='x'>&`, `<a href='x'>&`},
		{"line breaks", "a\nb\rc", `a\nb\rc`},
		{"control characters", "\x00\x07\x1b[2J", `\u0000\u0007\u001b[2J`},
		{"DEL", "a\x7fb", `a\u007fb`},
		{"C1", "a\u0085b\u009bc", `a\u0085b\u009bc`},
		{"right-to-left override", "a\u202eb", `a\u202eb`},
		{"line and paragraph separator", "\u2028\u2029", `\u2028\u2029`},
		{"letters", "Zoë ж", `Zo\u00eb \u0436`},
		{"byte order mark", "\ufeffa", `\ufeffa`},
		{"last of the plane", "\uffff", `\uffff`},
		{"surrogate pair", "\U0001f600", `\ud83d\ude00`},
		{"first and last surrogate pair", "\U00010000\U0010ffff", `\ud800\udc00\udbff\udfff`},
		{"invalid UTF-8", "a\xffb\xc3", `a\ufffdb\ufffd`},
		{"encoded surrogate", "\xed\xa0\x80", `\ufffd\ufffd\ufffd`},
		{"longest", strings.Repeat("x", 2048), strings.Repeat("x", 2048)},
		{"too long", strings.Repeat("x", 2049), strings.Repeat("x", 2048) + `\u2026`},
		{"too long, last character wide", strings.Repeat("x", 2043) + "ëyy", strings.Repeat("x", 2043) + `\u2026`},
		{"too long, last character a pair", strings.Repeat("x", 2040) + "\U0001f600y", strings.Repeat("x", 2040) + `\u2026`},
		{"too long by escapes", strings.Repeat("\x1b", 400), strings.Repeat(`\u001b`, 341) + `\u2026`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := draft{record: Record{RunID: c.in, User: User{Name: "next"}}, maxString: maxString}
			line, shortened, err := d.encode()
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(line), `"run_id":"`+c.want+`","host"`) {
				t.Errorf("line %s\nwant run_id %q", line, c.want)
			}
			if want := strings.HasSuffix(c.want, `\u2026`); shortened != want {
				t.Errorf("shortened %v, want %v", shortened, want)
			}
			if !strings.Contains(string(line), `"name":"next"`) || !json.Valid(line) {
				t.Errorf("rest of the line is damaged: %s", line)
			}
		})
	}
}

// The whole line, as it is published: keys, their order, what is left out.
func TestLine(t *testing.T) {
	t.Parallel()
	const hash = "c1b9f0d5c1b9f0d5c1b9f0d5c1b9f0d5c1b9f0d5c1b9f0d5c1b9f0d5c1b9f0d5"
	bare := startRecord("r1")
	bare.Auth.OSUser, bare.Variables, bare.Limits = "", Variables{}, nil
	unprotected := bare
	unprotected.Isolation = &Isolation{Method: "none"}
	for _, c := range []struct {
		name   string
		record Record
		want   string
	}{
		{
			"start", bare,
			`{"v":0,"@timestamp":"","event":{"action":"execution-start","outcome":"unknown"},"seq":0,"prev":"","run_id":"r1",` +
				`"host":{"name":"gw-a","boot":"7b1e91ce"},"user":{"name":"alice"},"auth":{"method":"os-user","os_uid":1000},"client":{},"script":{},` +
				`"code":{"sha256":"` + hash + `","bytes":1843},"variables":{"count":0,"bytes":0}}`,
		},
		{
			"isolation without lists", unprotected,
			`{"v":0,"@timestamp":"","event":{"action":"execution-start","outcome":"unknown"},"seq":0,"prev":"","run_id":"r1",` +
				`"host":{"name":"gw-a","boot":"7b1e91ce"},"user":{"name":"alice"},"auth":{"method":"os-user","os_uid":1000},"client":{},"script":{},` +
				`"code":{"sha256":"` + hash + `","bytes":1843},"variables":{"count":0,"bytes":0},` +
				`"isolation":{"method":"none","enforced":[],"missing":[]}}`,
		},
		{
			"end", endRecord("r1"),
			`{"v":0,"@timestamp":"","event":{"action":"execution-end","outcome":"success","reason":"ok","duration_ns":1272375000},"seq":0,"prev":"","run_id":"r1","request_id":"q-1",` +
				`"host":{"name":"gw-a","boot":"7b1e91ce"},"user":{"id":"u-017","name":"alice"},"auth":{"method":"os-user","os_uid":1000,"os_user":"alice","key_id":"k7Qm2"},` +
				`"client":{"ip":"10.20.4.17","ip_source":"asserted"},"script":{"name":"tank-balance","version":"7"},"command":"execute",` +
				`"code":{"sha256":"` + hash + `","bytes":1843},"variables":{"count":1,"bytes":3,"list":[{"n":"tank_id","t":"int","b":3}]},` +
				`"labels":{"area":"2","plant":"north"},"limits":{"memory_mb":256,"timeout_seconds":1.5},"status":"ok",` +
				`"process":{"exit_code":0,"signal":"SIGKILL","cpu_ms":40,"peak_memory_bytes":42991616,"stdout_bytes":512,"stderr_bytes":0},` +
				`"python":{"version":"3.12.3","executable":"/usr/bin/python3"},` +
				`"isolation":{"method":"namespace","enforced":["pids"],"missing":[{"name":"cgroup","why":"not delegated"}]},` +
				`"hooks":{"imports":14,"flagged_imports":[{"module":"os","why":"operating system interface","direct":true}],` +
				`"connections":[{"host":"10.0.0.1","port":443,"via":"python","count":2},{"host":"10.0.0.2","port":443,"via":"native","count":1,"program":"/usr/bin/curl"}],"binds":[{"host":"*","port":8080,"via":"python","count":1}],` +
				`"processes":[{"program":"/bin/ls","args":["-l"],"via":"native","count":1}],"files_written":["out.csv"],"files_deleted":["old.csv"],"dropped":1}}`,
		},
		{
			"repair", repairRecord(bare, Repair{Bytes: 4, SHA256: hash, Kept: "torn-000000000002-1.frag"}, "torn-end"),
			`{"v":0,"@timestamp":"","event":{"action":"audit-repair","outcome":"success","reason":"torn-end"},"seq":0,"prev":"","run_id":"r1",` +
				`"host":{"name":"gw-a","boot":"7b1e91ce"},"user":{"name":"alice"},"auth":{"method":"os-user","os_uid":1000},"client":{},"script":{},` +
				`"code":{"sha256":"","bytes":0},"variables":{"count":0,"bytes":0},` +
				`"repair":{"bytes":4,"sha256":"` + hash + `","kept":"torn-000000000002-1.frag"}}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d, err := fit(c.record, maxLine)
			if err != nil {
				t.Fatal(err)
			}
			line, _, err := d.encode()
			if err != nil {
				t.Fatal(err)
			}
			if string(line) != c.want {
				t.Errorf("got  %s\nwant %s", line, c.want)
			}
		})
	}
}

// Each case makes one list too big for a line, so that it goes with all before
// it in the order, and nothing after it.
func TestFitDropsInOrder(t *testing.T) {
	t.Parallel()
	many := make([]string, 5000)
	for i := range many {
		many[i] = "some name"
	}
	lists := []struct {
		name string
		grow func(*Record)
		gone func(*Record) // what is left when this list is dropped
	}{
		{"files written", func(r *Record) { r.Hooks.FilesWritten = many }, func(r *Record) { r.Hooks.FilesWritten = nil }},
		{"files deleted", func(r *Record) { r.Hooks.FilesDeleted = many }, func(r *Record) { r.Hooks.FilesDeleted = nil }},
		{"binds", func(r *Record) { r.Hooks.Binds = make([]Connection, 1000) }, func(r *Record) { r.Hooks.Binds = nil }},
		{"processes", func(r *Record) { r.Hooks.Processes[0].Args = many }, func(r *Record) { r.Hooks.Processes = nil }},
		{"connections", func(r *Record) { r.Hooks.Connections = make([]Connection, 1000) }, func(r *Record) { r.Hooks.Connections = nil }},
		{"flagged imports", func(r *Record) { r.Hooks.FlaggedImports = make([]FlaggedImport, 1000) }, func(r *Record) { r.Hooks.FlaggedImports = nil }},
		{
			"reasons for missing isolation",
			func(r *Record) {
				r.Isolation.Missing = nil
				for range 20 {
					r.Isolation.Missing = append(r.Isolation.Missing, Missing{"cgroup", strings.Repeat("why ", 250)})
				}
			},
			func(r *Record) {
				for i := range r.Isolation.Missing {
					r.Isolation.Missing[i].Why = ""
				}
			},
		},
		{
			"labels",
			func(r *Record) {
				r.Labels = make(map[string]string)
				for i := range 500 {
					r.Labels[strings.Repeat("x", i)] = "label"
				}
			},
			func(r *Record) { r.Labels = nil },
		},
		{"variables", func(r *Record) { r.Variables.List = make([]Variable, 1000) }, func(r *Record) { r.Variables.List = nil }},
	}
	for i, c := range lists {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			in, same, want := endRecord("r1"), endRecord("r1"), endRecord("r1")
			c.grow(&in)
			c.grow(&same)
			c.grow(&want)
			for _, before := range lists[:i+1] {
				before.gone(&want)
			}
			want.Truncated = true

			d, err := fit(in, maxLine-1)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(d.record, want) {
				t.Errorf("got  %+v\nwant %+v", d.record, want)
			}
			if !reflect.DeepEqual(in, same) {
				t.Error("the caller's record was changed")
			}
		})
	}
}

func TestFitStrings(t *testing.T) {
	t.Parallel()
	hidden := strings.Repeat("\u202e", 5000)
	giant := endRecord("r1")
	giant.User = User{ID: hidden, Name: hidden}
	giant.Auth.OSUser, giant.Auth.KeyID = hidden, hidden
	giant.Client = Client{IP: hidden, IPSource: hidden}
	giant.Script = Script{Name: hidden, Version: hidden}
	giant.Host = Host{Name: hidden, Boot: hidden}

	one := endRecord("r1")
	one.User.Name = hidden

	for _, c := range []struct {
		name     string
		record   Record
		wantName string
		wantKept bool // the lists
	}{
		{"one giant value", one, strings.Repeat("\u202e", 341) + "…", true},
		{"every value giant", giant, strings.Repeat("\u202e", 42) + "…", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d, err := fit(c.record, maxLine-1)
			if err != nil {
				t.Fatal(err)
			}
			line, _, err := d.encode()
			if err != nil {
				t.Fatal(err)
			}
			var got Record
			if err := json.Unmarshal(line, &got); err != nil {
				t.Fatal(err)
			}
			if !got.Truncated {
				t.Error("not marked as truncated")
			}
			if got.Code != c.record.Code {
				t.Errorf("code %+v, want %+v", got.Code, c.record.Code)
			}
			if got.User.Name != c.wantName {
				t.Errorf("name %q, want %q", got.User.Name, c.wantName)
			}
			if kept := got.Variables.List != nil && got.Hooks.Connections != nil; kept != c.wantKept {
				t.Errorf("lists kept %v, want %v", kept, c.wantKept)
			}
		})
	}
}

func TestFitRefuses(t *testing.T) {
	t.Parallel()
	tooMany := startRecord("r1")
	tooMany.Limits = make(map[string]float64)
	for i := range 2000 {
		tooMany.Limits[strings.Repeat("x", i)] = 1
	}
	notANumber := startRecord("r1")
	notANumber.Limits = map[string]float64{"cpu_seconds": math.NaN()}
	for _, c := range []struct {
		name   string
		record Record
		want   string
	}{
		{"no list left to drop", tooMany, "with everything cut that may be"},
		{"not a number", notANumber, "NaN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if _, err := fit(c.record, maxLine-1); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestView(t *testing.T) {
	t.Parallel()
	l := openLog(t, logDir(t))
	r := endRecord("r1")
	for range 800 {
		r.Hooks.FilesWritten = append(r.Hooks.FilesWritten, "out.csv")
	}
	receipt := mustAppend(t, l, r)
	for _, c := range []struct {
		name  string
		limit int
		want  string // what the view must hold
	}{
		{"all of it", len(receipt.Line), string(receipt.Line)},
		{"one byte less", len(receipt.Line) - 1, `"files_deleted":["old.csv"]`},
		{"standard error", 4096, `"connections":[{`},
		{"without lists", 1200, `"truncated":true`},
		{"too little for anything", 100, `{"truncated":true}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			view := receipt.View(c.limit)
			if len(view) > c.limit || !json.Valid(view) || !strings.Contains(string(view), c.want) {
				t.Errorf("view of %d bytes: %s\nwant at most %d with %s", len(view), view, c.limit, c.want)
			}
			if cut := strings.Contains(string(view), `"truncated":true`); cut != (c.limit < len(receipt.Line)) {
				t.Errorf("marked as truncated: %v", cut)
			}
		})
	}
}
