package audit

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"py3run/internal/activity"
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
				`"code":{"bytes":0},"variables":{"count":0,"bytes":0},` +
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

// Each case makes one list too big for a line. Its last entries go, those of lists that are missed less only if they are many, nothing else; and
// what goes is counted.
func TestFitDropsInOrder(t *testing.T) {
	t.Parallel()
	many := make([]string, 5000)
	for i := range many {
		many[i] = "some name"
	}
	hooks := func(h *activity.Summary) int {
		return len(h.FilesRead) + len(h.FilesWritten) + len(h.FilesDeleted) + len(h.DirsMade) + len(h.Binds) + len(h.Processes) + len(h.Connections) + len(h.FlaggedImports)
	}
	lists := []struct {
		name  string
		grow  func(*Record)
		count func(*Record) (kept, gone int) // of this list; gone: as the record says, with what was dropped before
	}{
		{"files read", func(r *Record) { r.Hooks.FilesRead = many }, func(r *Record) (int, int) { return len(r.Hooks.FilesRead), int(r.Hooks.Dropped) }},
		{"files written", func(r *Record) { r.Hooks.FilesWritten = many }, func(r *Record) (int, int) { return len(r.Hooks.FilesWritten), int(r.Hooks.Dropped) }},
		{"directories", func(r *Record) { r.Hooks.DirsMade = many }, func(r *Record) (int, int) { return len(r.Hooks.DirsMade), int(r.Hooks.Dropped) }},
		{"files deleted", func(r *Record) { r.Hooks.FilesDeleted = many }, func(r *Record) (int, int) { return len(r.Hooks.FilesDeleted), int(r.Hooks.Dropped) }},
		{"binds", func(r *Record) { r.Hooks.Binds = make([]activity.Connection, 1000) }, func(r *Record) (int, int) { return len(r.Hooks.Binds), int(r.Hooks.Dropped) }},
		{"processes", func(r *Record) { r.Hooks.Processes = make([]activity.Process, 1000) }, func(r *Record) (int, int) { return len(r.Hooks.Processes), int(r.Hooks.Dropped) }},
		{"connections", func(r *Record) { r.Hooks.Connections = make([]activity.Connection, 1000) }, func(r *Record) (int, int) { return len(r.Hooks.Connections), int(r.Hooks.Dropped) }},
		{"flagged imports", func(r *Record) { r.Hooks.FlaggedImports = make([]activity.FlaggedImport, 1000) }, func(r *Record) (int, int) { return len(r.Hooks.FlaggedImports), int(r.Hooks.Dropped) }},
		{
			"labels",
			func(r *Record) {
				r.Labels = make(map[string]string)
				for i := range 500 {
					r.Labels[strings.Repeat("x", i)] = "label"
				}
			},
			func(r *Record) (int, int) {
				gone, _ := strconv.Atoi(strings.TrimSuffix(r.Labels["…"], " more"))
				return len(r.Labels) - 1, gone + hooks(endRecord("").Hooks) + 1
			},
		},
	}
	for _, c := range lists {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			in, same, want := endRecord("r1"), endRecord("r1"), endRecord("r1")
			c.grow(&in)
			c.grow(&same)
			for _, limit := range []int{maxLine - 1, 4096} {
				d, err := fit(in, limit)
				if err != nil {
					t.Fatal(err)
				}
				line, _, err := d.encode()
				if err != nil {
					t.Fatal(err)
				}
				if len(line) > limit || len(line) < limit-200 {
					t.Errorf("a line of %d bytes, of %d that it may have", len(line), limit)
				}
				got := d.record
				kept, gone := c.count(&got)
				whole, _ := c.count(&in)
				if c.name == "labels" {
					whole++ // none says that others are gone
				}
				if before := int(want.Hooks.Dropped); kept == 0 || kept+gone != whole+before && c.name != "labels" {
					t.Errorf("%d kept, %d gone, of %d and %d dropped before", kept, gone, whole, before)
				}
				if !got.Truncated || !reflect.DeepEqual(got.Variables, want.Variables) || c.name != "labels" && !reflect.DeepEqual(got.Isolation, want.Isolation) {
					t.Errorf("got  %+v\nwant %+v", got, want)
				}
				if c.name != "labels" && hooks(got.Hooks)-kept != hooks(want.Hooks)-func() int { n, _ := c.count(&want); return n }() {
					t.Errorf("other lists have lost entries: %+v", got.Hooks)
				}
			}
			if !reflect.DeepEqual(in, same) {
				t.Error("the caller's record was changed")
			}
		})
	}
}

// What names nothing that was done goes before the last entries of what does.
func TestFitVariables(t *testing.T) {
	t.Parallel()
	in, want := endRecord("r1"), endRecord("r1")
	in.Variables.Count, in.Variables.List = 1000, make([]Variable, 1000)
	d, err := fit(in, maxLine-1)
	if err != nil {
		t.Fatal(err)
	}
	v := d.record.Variables
	if v.Count != 1000 || len(v.List) < 100 || len(v.List) == 1000 || !d.record.Truncated || !reflect.DeepEqual(d.record.Hooks, want.Hooks) {
		t.Errorf("%d of %d variables, hooks %+v", len(v.List), v.Count, d.record.Hooks)
	}
}

func TestFitDropsReasons(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		grow func(*Record)
		gone func(*Record)
	}{
		{
			"reasons for missing isolation",
			func(r *Record) {
				r.Isolation.Missing = nil
				for range 20 {
					r.Isolation.Missing = append(r.Isolation.Missing, Gap{"cgroup", strings.Repeat("why ", 250)})
				}
			},
			func(r *Record) {
				for i := range r.Isolation.Missing {
					r.Isolation.Missing[i].Why = ""
				}
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			in, want := endRecord("r1"), endRecord("r1")
			c.grow(&in)
			c.grow(&want)
			c.gone(&want)
			d, err := fit(in, maxLine-1)
			if err != nil {
				t.Fatal(err)
			}
			if !d.record.Truncated || !reflect.DeepEqual(d.record.Isolation.Missing, want.Isolation.Missing) || !reflect.DeepEqual(d.record.Hooks, want.Hooks) {
				t.Errorf("got  %+v\nwant %+v", d.record, want)
			}
		})
	}
}

// Long command lines are shortened before any entry goes, and what goes of them is counted.
func TestFitShortens(t *testing.T) {
	t.Parallel()
	r := endRecord("r1")
	r.Hooks.Processes = nil
	long := strings.Repeat("ж", 300)
	for range 4 {
		r.Hooks.Processes = append(r.Hooks.Processes, activity.Process{Program: "/bin/x", Args: slices.Repeat([]string{long}, 16), Via: "python", Count: 1, ArgsDropped: 3, ArgsCut: 2})
	}
	r.Hooks.FilesWritten = []string{"/short", "/" + long}
	d, err := fit(r, maxLine-1)
	if err != nil {
		t.Fatal(err)
	}
	short := strings.Repeat("ж", 40)
	want := slices.Repeat([]activity.Process{{Program: "/bin/x", Args: slices.Repeat([]string{short}, 3), Via: "python", Count: 1, ArgsDropped: 3 + 13, ArgsCut: 3}}, 4)
	if h := d.record.Hooks; !reflect.DeepEqual(h.Processes, want) || h.Dropped != r.Hooks.Dropped {
		t.Errorf("%+v, %d dropped\nwant %+v", h.Processes, h.Dropped, want)
	}
	if got, want := d.record.Hooks.FilesWritten, []string{"/short", "/" + short[len("ж"):] + "…"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if len(r.Hooks.Processes[0].Args) != 16 || r.Hooks.Processes[0].Args[0] != long {
		t.Error("the caller's record was changed")
	}
}

// Of many things of every kind the first of each stay.
func TestFitKeepsOfEach(t *testing.T) {
	t.Parallel()
	r := endRecord("r1")
	h := r.Hooks
	*h = activity.Summary{}
	for i := range 100 {
		name := fmt.Sprintf("/some/where/%d", i)
		h.FilesWritten, h.FilesDeleted, h.DirsMade, h.FilesRead = append(h.FilesWritten, name), append(h.FilesDeleted, name), append(h.DirsMade, name), append(h.FilesRead, name)
		h.Binds, h.Connections = append(h.Binds, activity.Connection{Host: name}), append(h.Connections, activity.Connection{Host: name})
		h.Processes = append(h.Processes, activity.Process{Program: name, Args: []string{"a", "b"}})
		h.FlaggedImports = append(h.FlaggedImports, activity.FlaggedImport{Module: name})
	}
	for _, limit := range []int{maxLine - 1, 4096} {
		d, err := fit(r, limit)
		if err != nil {
			t.Fatal(err)
		}
		got := d.record.Hooks
		sum := 0
		for _, n := range []int{len(got.FilesRead), len(got.FilesWritten), len(got.FilesDeleted), len(got.DirsMade), len(got.Binds), len(got.Connections), len(got.Processes), len(got.FlaggedImports)} {
			if sum += n; n < firstKept {
				t.Errorf("in %d bytes %d entries of one kind, want %d at least", limit, n, firstKept)
			}
		}
		if sum+int(got.Dropped) != 800 {
			t.Errorf("in %d bytes %d entries and %d dropped", limit, sum, got.Dropped)
		}
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

// A record of many files has what proves all of them, and as many names as there is room for.
func TestFitFiles(t *testing.T) {
	t.Parallel()
	set := FileSet{Count: 700, Bytes: 7, SHA256: strings.Repeat("a", 64)}
	for range 32 {
		set.List = append(set.List, FileEntry{Name: strings.Repeat("n", 2000), Bytes: 1, SHA256: strings.Repeat("b", 64)})
	}
	for _, limit := range []int{maxLine - 1, 4096} {
		r, collected := endRecord("r1"), set
		r.Files = &Files{Put: &set, Collected: &collected}
		d, err := fit(r, limit)
		if err != nil {
			t.Fatal(err)
		}
		line, _, err := d.encode()
		if err != nil || len(line) > limit || !d.record.Truncated {
			t.Errorf("%d bytes of at most %d, truncated %v, %v", len(line), limit, d.record.Truncated, err)
		}
		for _, s := range []*FileSet{d.record.Files.Put, d.record.Files.Collected} {
			if s.Count != 700 || s.Bytes != 7 || s.SHA256 != set.SHA256 || len(s.List) == len(set.List) {
				t.Errorf("%d files, %d entries in %d bytes", s.Count, len(s.List), limit)
			}
		}
		if len(set.List) != 32 || r.Files.Put != &set {
			t.Error("the caller's record was changed")
		}
	}
}

// Groups and the sentences of a change go before a name is cut; the roles stay, and the sentences are counted.
func TestFitPolicy(t *testing.T) {
	t.Parallel()
	r := startRecord("r1")
	r.User.Roles = []string{"python3-executor", "auditor"}
	r.Policy = &PolicyChange{Path: "/etc/py3run/policy.toml"}
	for i := range 50 { // as many as there can be
		r.Policy.Grants = append(r.Policy.Grants, fmt.Sprintf("%064d: python3-executor", i))
		r.Policy.AnyUserKeys = append(r.Policy.AnyUserKeys, fmt.Sprintf("k%07d", i))
	}
	for i := range 2000 {
		r.User.Groups = append(r.User.Groups, fmt.Sprintf("group-%04d", i))
		r.Policy.Changes = append(r.Policy.Changes, fmt.Sprintf("user u%04d: roles: + auditor", i))
	}
	d, err := fit(r, maxLine-1)
	if err != nil {
		t.Fatal(err)
	}
	line, _, err := d.encode()
	if err != nil {
		t.Fatal(err)
	}
	got := d.record
	if len(line) >= maxLine || len(got.User.Roles) != 2 || !got.Truncated || len(got.Policy.Changes) < firstKept || len(got.User.Groups) < firstKept ||
		len(got.Policy.Changes)+got.Policy.ChangesDropped != 2000 {
		t.Errorf("%d bytes, %d groups, %d changes and %d more: %.300s", len(line), len(got.User.Groups), len(got.Policy.Changes), got.Policy.ChangesDropped, line)
	}
	if len(got.Policy.Grants) != 50 || len(got.Policy.AnyUserKeys) != 50 || !strings.Contains(string(line), got.Policy.Grants[49]) {
		t.Errorf("%d grants, %d keys: %.300s", len(got.Policy.Grants), len(got.Policy.AnyUserKeys), line)
	}
	if len(r.Policy.Changes) != 2000 || len(r.User.Groups) != 2000 {
		t.Error("the caller's record was changed")
	}
}
