package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// The defaults as the contract lists them.
func TestDefault(t *testing.T) {
	t.Parallel()
	want := Config{
		Security: Security{
			MaxMemoryMB: 1024, MaxCPUSeconds: 300, MaxOutputSizeMB: 10,
			MaxProcesses: 64, MaxOpenFiles: 1024, MaxFileSizeMB: 1024, MaxDiskMB: 2048,
			ExecutionTimeoutSeconds: 600, IdleTimeoutSeconds: 3600, GraceSeconds: 0.5,
			Isolation: Isolation{
				Method: "auto", OnMissing: "warn", Network: "host",
				WorkingDir: "/tmp/py3run-${uid}/python3-${userId}-${executionId}", Shm: "private", CleanupOnExit: true,
				Dev: "host", Seccomp: "default", CgroupParent: "auto",
				IDMap:   "own",
				EnvKeep: []string{"LANG", "LC_*", "TZ", "PATH", "HOME", "USER", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_*", "REQUESTS_CA_BUNDLE"},
			},
			Audit:     Audit{Enabled: true, LogVariables: "names", LogOutput: "sizes", RetentionDays: 90, OnFailure: "refuse", Native: "auto", Files: "auto"},
			RateLimit: RateLimit{PerUserPerMinute: 60, PerUserPerHour: 1000, GlobalPerMinute: 500, ConcurrentPerUser: 8},
		},
		Input: Input{MaxRequestMB: 32, TimeoutSeconds: 10},
		Python: Python{Interpreter: "auto", Site: "eager", FlagImports: map[string]string{
			"subprocess": "system command execution", "os": "operating system interface",
			"ctypes": "low-level memory access", "multiprocessing": "process creation",
		}},
		Warm:   Warm{Spares: 2},
		Bridge: Bridge{TimeoutSeconds: 25, State: "fresh"},
		Alerts: Alerts{Denials: 5, DenialsWithinMinutes: 5, RateLimits: 30, Keys: true, Policy: true, LimitsInARow: 3, NewModules: true, NewHosts: true, Tampering: true},
	}
	if got := Default(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// Each row of the table must be sound in itself, and each field of Config have
// exactly one row.
func TestSettings(t *testing.T) {
	t.Parallel()
	var c Config
	fields := map[any]string{}
	variables := map[string]string{}
	sections := []string{}
	for i := range settings {
		s := &settings[i]
		if s.doc == "" || strings.Contains(s.comment(), "\n") {
			t.Errorf("%s: comment %q", s.key, s.comment())
		}
		if other, taken := fields[s.field(&c)]; taken {
			t.Errorf("%s and %s have one field", s.key, other)
		}
		fields[s.field(&c)] = s.key
		v := variable(s.key)
		if other, taken := variables[v]; taken {
			t.Errorf("%s and %s have one variable", s.key, other)
		}
		variables[v] = s.key
		if settingOf(v) != s || settingAt(s.key) != s {
			t.Errorf("%s: not found by key or as %s", s.key, v)
		}
		if isOthersVariable(v) || isSection(s.key) {
			t.Errorf("%s is something else too", s.key)
		}
		switch s.fallback.(type) {
		case float64, int:
			if s.min <= 0 || s.max <= s.min {
				t.Errorf("%s: bounds %v and %v", s.key, s.min, s.max)
			}
			key := strings.TrimSuffix(s.key, "-per-second")
			if unit := key[strings.LastIndexByte(key, '-')+1:]; s.unit != "" && strings.ToLower(s.unit) != unit {
				t.Errorf("%s is in %s", s.key, s.unit)
			}
		}
		// The default passes the checks that anything else has to pass.
		if got, err := s.fromText(plain(s)); err != nil || !reflect.DeepEqual(got, s.get(new(Default()))) {
			t.Errorf("%s: the default is read as %v, %v", s.key, got, err)
		}
		if n := len(sections); n == 0 || sections[n-1] != section(s.key) {
			sections = append(sections, section(s.key))
		}
	}
	if n := countFields(reflect.TypeFor[Config]()); n != len(settings) {
		t.Errorf("%d fields, %d settings", n, len(settings))
	}
	slices.Sort(sections)
	if len(slices.Compact(slices.Clone(sections))) != len(sections) {
		t.Errorf("a section is in pieces: %q", sections)
	}
}

// plain writes a default as one would write it in a variable.
func plain(s *setting) string {
	c := Default()
	if t, ok := s.get(&c).(string); ok {
		return t
	}
	return format(s.get(&c))
}

func countFields(t reflect.Type) int {
	n := 0
	for i := range t.NumField() {
		if f := t.Field(i).Type; f.Kind() == reflect.Struct {
			n += countFields(f)
		} else {
			n++
		}
	}
	return n
}

// Everything that lists settings lists all of them.
func TestEverySettingIsEverywhere(t *testing.T) {
	t.Parallel()
	l := &Loaded{Config: Default(), Origins: map[string]Origin{}}
	schema := properties(decodeJSON(t, Schema()), "")
	init, show := decode(t, Init()), decode(t, Show(l, false))
	for i := range settings {
		key := settings[i].key
		path := strings.Split(key, ".")
		if said := strings.Contains(string(Init()), "\n# "+path[len(path)-1]+" = "); !init.IsDefined(path...) && !(settings[i].onlyIfSet && said) {
			t.Errorf("%s is not in Init", key)
		}
		if !show.IsDefined(path...) {
			t.Errorf("%s is not in Show", key)
		}
		if !slices.Contains(schema, key) {
			t.Errorf("%s is not in Schema", key)
		}
		if got := slices.Contains(schema, "ceiling."+key); got != settings[i].hasCeiling() {
			t.Errorf("%s: ceiling in Schema %v, want %v", key, got, !got)
		}
		l, _, err := host{}.load(t, []string{variable(key) + "=" + plain(&settings[i])}, "", nil)
		want := Origin{Kind: FromEnvironment, Name: variable(key)}
		if plain(&settings[i]) == "" {
			want = Origin{Kind: FromDefault}
		}
		if err != nil || l.Origins[key] != want {
			t.Errorf("%s: by its variable: %v, %v", key, l, err)
		}
	}
}

func decode(t *testing.T, text []byte) *toml.MetaData {
	t.Helper()
	var ignored map[string]any
	meta, err := toml.Decode(string(text), &ignored)
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return &meta
}

func decodeJSON(t *testing.T, text []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// properties lists the dotted names of a schema.
func properties(schema any, above string) []string {
	var names []string
	sub, _ := schema.(map[string]any)["properties"].(map[string]any)
	for name, s := range sub {
		names = append(names, above+name)
		names = append(names, properties(s, above+name+".")...)
	}
	return names
}

// Init and Show write what Load reads back.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	changed := Default()
	changed.Security.MaxMemoryMB = 0.5
	changed.Security.MaxProcesses = 0
	changed.Security.Audit.Enabled = false
	changed.Security.Audit.Dir = "/a \"b\" \\ \u200b 🙂"
	changed.Security.Isolation.Hide = []string{"/x", "/y'z"}
	changed.Security.Isolation.EnvKeep = nil
	changed.Python.FlagImports = map[string]string{"os.path": "a \"reason\"", "x": ""}
	tests := []struct {
		name string
		text []byte
		want Config
	}{
		{"init", Init(), Default()},
		{"default", Show(&Loaded{Config: Default()}, false), Default()},
		{"changed", Show(&Loaded{Config: changed}, false), changed},
		{"with origins", Show(&Loaded{Config: changed}, true), changed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l, _, err := host{user: string(tt.text)}.load(t, nil, "", nil)
			if err != nil {
				t.Fatalf("%v in:\n%s", err, tt.text)
			}
			if !reflect.DeepEqual(l.Config, tt.want) {
				t.Errorf("got  %+v\nwant %+v", l.Config, tt.want)
			}
		})
	}
}

// Each key has its comment on the line above.
func TestInitComments(t *testing.T) {
	t.Parallel()
	lines := strings.Split(string(Init()), "\n")
	for i, line := range lines {
		if strings.Contains(line, " = ") && !strings.HasPrefix(line, "#") && !strings.HasPrefix(lines[i-1], "# ") {
			t.Errorf("no comment above %q", line)
		}
	}
	for _, want := range []string{
		"\n[security]\n\n# Memory of the whole process tree, in MB; 0 = no limit\nmax-memory-mb = 1024\n",
		"\n# The network that the code sees: host | none\nnetwork = \"host\"\n",
		"\n# Size of a request, in MB; from 1 to 1024\nmax-request-mb = 32\n",
	} {
		if !strings.Contains(string(Init()), want) {
			t.Errorf("not in Init: %s", want)
		}
	}
}

// The ceiling that Init shows as a comment is right when it is taken in use.
func TestInitCeiling(t *testing.T) {
	t.Parallel()
	text := strings.NewReplacer("# [ceiling.", "[ceiling.", "# max-memory-mb", "max-memory-mb").Replace(string(Init()))
	l, _, err := host{etc: text}.load(t, nil, "", nil)
	if err != nil || l.Origins["security.max-memory-mb"].Ceiling.Value != "4096" {
		t.Errorf("got %v, %v", l, err)
	}
}

func TestShow(t *testing.T) {
	t.Parallel()
	l, dir, err := host{etc: "[ceiling.security]\nmax-memory-mb = 512\n", user: "security.max-processes = 8\n"}.load(t,
		[]string{"PY3RUN_SECURITY_MAX_MEMORY_MB=600", "PY3RUN_INPUT_TIMEOUT_SECONDS=5"}, "", map[string]string{"python.path": `["/a"]`})
	if err != nil {
		t.Fatal(err)
	}
	got := strings.ReplaceAll(string(Show(l, true)), dir, "TMP")
	for _, want := range []string{
		"[security]\nmax-memory-mb = 512  # environment PY3RUN_SECURITY_MAX_MEMORY_MB, asked 600 (ceiling 512 from TMP/etc.toml)\n",
		"\nmax-cpu-seconds = 300  # default\n",
		"\nmax-processes = 8  # file TMP/xdg/py3run/config.toml\n",
		"\n\n[input]\nmax-request-mb = 32  # default\ntimeout-seconds = 5  # environment PY3RUN_INPUT_TIMEOUT_SECONDS\n",
		"\npath = [\"/a\"]  # flag --set\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("not in Show: %s", want)
		}
	}
	if strings.Contains(string(Show(l, false)), "#") {
		t.Error("origins although not asked for")
	}
}

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	if err := c.AddResource("config.json", decodeJSON(t, Schema())); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("config.json") // checks it against the 2020-12 meta-schema as well
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSchema(t *testing.T) {
	t.Parallel()
	if regexp.MustCompile(`"default":\s*null`).Match(Schema()) {
		t.Error("a default is null")
	}
	schema := compileSchema(t)
	tests := []struct {
		name string
		text string
		want bool // valid
	}{
		{"init", string(Init()), true},
		{"empty", "", true},
		{"no limit", "security.max-open-files = 0\n", true},
		{"too few", "security.max-open-files = 63\n", false},
		{"no request at all", "input.max-request-mb = 0\n", false},
		{"fraction of a process", "security.max-processes = 1.5\n", false},
		{"unknown key", "[security]\nmax-memroy-mb = 5\n", false},
		{"unknown section", "[secruity]\n", false},
		{"wrong choice", "security.isolation.method = 'container'\n", false},
		{"truth for a choice", "security.audit.log-variables = false\n", true},
		{"relative path", "security.audit.dir = 'log'\n", false},
		{"shared directory", "security.isolation.working-dir = '/tmp/x'\n", false},
		{"relative path in list", "python.path = ['lib']\n", false},
		{"assignment to keep", "security.isolation.env-keep = ['A=b']\n", false},
		{"module", "python.flag-imports = { 'os.path' = 'x' }\n", true},
		{"no module", "python.flag-imports = { 'os.' = 'x' }\n", false},
		{"no reason", "python.flag-imports = { os = 1 }\n", false},
		{"ceiling", "[ceiling.security]\nmax-memory-mb = 5\nisolation.network = 'none'\n", true},
		{"ceiling for a text", "[ceiling.python]\ninterpreter = 'auto'\n", false},
		{"ceiling of 0", "[ceiling.security]\nmax-memory-mb = 0\n", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var file map[string]any
			if _, err := toml.Decode(tt.text, &file); err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(file)
			if err != nil {
				t.Fatal(err)
			}
			err = schema.Validate(decodeJSON(t, text))
			if got := err == nil; got != tt.want {
				t.Errorf("valid %v, want %v: %v", got, tt.want, err)
			}
			// An editor that follows the schema must not refuse what Load takes.
			if _, wrong := parseFile("/etc/x", tt.text, "/etc/x"); wrong == nil && !tt.want {
				t.Error("the schema refuses what Load takes")
			}
		})
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	tests := []struct {
		rule *rule
		text string
		want bool
	}{
		{&notEmpty, "", false},
		{&notEmpty, "x", true},
		{&absolutePath, "/", true},
		{&absolutePath, "", false},
		{&absolutePath, "a/b", false},
		{&absolutePathOrNone, "", true},
		{&absolutePathOrNone, "/a", true},
		{&absolutePathOrNone, "./a", false},
		{&runDirectory, "/tmp/${executionId}", true},
		{&runDirectory, "/tmp/${userId}/${executionId}/x", true},
		{&runDirectory, "/tmp/..${executionId}", true},
		{&runDirectory, "/tmp/${userId}", false},
		{&runDirectory, "/tmp/$executionId", false},
		{&runDirectory, "/tmp/${executionId}/${other}", false},
		{&runDirectory, "/tmp/${executionId}/$HOME", false},
		{&runDirectory, "/tmp/${user${userId}Id}/${executionId}", false},
		{&runDirectory, "tmp/${executionId}", false},
		{&runDirectory, "${executionId}", false},
		{&runDirectory, "/tmp/../${executionId}", false},
		{&runDirectory, "/tmp/${executionId}/..", false},
		{&runDirectory, "/tmp/.${userId}./${executionId}", false},
		{&variablePattern, "LANG", true},
		{&variablePattern, "LC_*", true},
		{&variablePattern, "*", true},
		{&variablePattern, "", false},
		{&variablePattern, "*A", false},
		{&variablePattern, "A**", false},
		{&variablePattern, "A=", false},
		{&variablePattern, "A B", false},
		{&moduleName, "os", true},
		{&moduleName, "_x.y1.Z", true},
		{&moduleName, "", false},
		{&moduleName, "1x", false},
		{&moduleName, ".os", false},
		{&moduleName, "os.", false},
		{&moduleName, "os..path", false},
		{&moduleName, "os-path", false},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s/%s", tt.rule.says, tt.text), func(t *testing.T) {
			t.Parallel()
			if got := tt.rule.holds(tt.text); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			// The pattern may know less, but never refuses what is right.
			if tt.want && !regexp.MustCompile(tt.rule.pattern).MatchString(tt.text) {
				t.Errorf("the pattern %s does not match", tt.rule.pattern)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, want string }{
		{"security.max-memroy-mb", "security.max-memory-mb"},
		{"security.max-mem-mb", "security.max-memory-mb"},
		{"max-cpu-seconds", "security.max-cpu-seconds"},
		{"security.audit.max-cpu-secs", "security.max-cpu-seconds"},
		{"isolation", "security.isolation"},
		{"python.flag-import", "python.flag-imports"},
		{"pyton", "python"},
		{"inputs", "input"},
		{"limits", ""},
		{"x", ""},
		{"", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := nearest(tt.name); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// The file that Init prints changes nothing where it stands, not even for run, whose output has a limit only where one is set.
func TestInitChangesNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, Init(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"", path} {
		l, err := Load(Sources{File: file, EtcFile: "/nonexistent/config.toml"})
		if err != nil {
			t.Fatal(err)
		}
		want := Default()
		want.Security.MaxOutputSizeMB = 0
		if l.OnlyIfSet("security.max-output-size-mb"); !reflect.DeepEqual(l.Config, want) {
			t.Errorf("%q: %+v, want %+v", file, l.Config, want)
		}
	}
}
