package config

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A host has its files in a directory of the test: etc.toml, user.toml (below
// XDG_CONFIG_HOME) and named.toml. An empty text means that there is no such
// file.
type host struct{ etc, user, named string }

func (h host) sources(t *testing.T) (src Sources, dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range map[string]string{
		"etc.toml": h.etc, "xdg/py3run/config.toml": h.user, "named.toml": h.named,
	} {
		if text == "" {
			continue
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Sources{
		EtcFile: filepath.Join(dir, "etc.toml"),
		Environ: []string{"XDG_CONFIG_HOME=" + filepath.Join(dir, "xdg")},
	}, dir
}

// load loads with the files of h; TMP in a variable or in file stands for
// their directory, also in the error.
func (h host) load(t *testing.T, environ []string, file string, flags map[string]string) (*Loaded, string, error) {
	t.Helper()
	src, dir := h.sources(t)
	for _, entry := range environ {
		src.Environ = append(src.Environ, strings.ReplaceAll(entry, "TMP", dir))
	}
	src.File = strings.ReplaceAll(file, "TMP", dir)
	src.Flags = flags
	l, err := Load(src)
	return l, dir, err
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	say := func(mb string) string { return "[security]\nmax-memory-mb = " + mb + "\n" }
	tests := []struct {
		name    string
		host    host
		environ []string
		file    string
		flags   map[string]string
		value   float64
		want    string // origin
	}{
		{"nothing", host{}, nil, "", nil, 1024, "default"},
		{"etc over default", host{etc: say("1")}, nil, "", nil, 1, "file TMP/etc.toml"},
		{"user over etc", host{etc: say("1"), user: say("2")}, nil, "", nil, 2, "file TMP/xdg/py3run/config.toml"},
		{"user says nothing", host{etc: say("1"), user: "[input]\n"}, nil, "", nil, 1, "file TMP/etc.toml"},
		{"environment over user", host{user: say("2")}, []string{"PY3RUN_SECURITY_MAX_MEMORY_MB=3"}, "", nil, 3, "environment PY3RUN_SECURITY_MAX_MEMORY_MB"},
		{"empty variable", host{user: say("2")}, []string{"PY3RUN_SECURITY_MAX_MEMORY_MB="}, "", nil, 2, "file TMP/xdg/py3run/config.toml"},
		{"flag over environment", host{}, []string{"PY3RUN_SECURITY_MAX_MEMORY_MB=3"}, "", map[string]string{"security.max-memory-mb": "4"}, 4, "flag --set"},
		{"variable names file", host{etc: say("1"), user: say("2"), named: say("5")}, []string{"PY3RUN_CONFIG=TMP/named.toml"}, "", nil, 5, "file TMP/named.toml"},
		{"empty file variable", host{user: say("2"), named: say("5")}, []string{"PY3RUN_CONFIG="}, "", nil, 2, "file TMP/xdg/py3run/config.toml"},
		{"flag names file", host{named: say("5")}, []string{"PY3RUN_CONFIG=TMP/absent.toml"}, "TMP/named.toml", nil, 5, "file TMP/named.toml"},
		{"named file is silent", host{etc: say("1"), user: say("2"), named: "[input]\n"}, nil, "TMP/named.toml", nil, 1024, "default"},
		{"environment over named", host{named: say("5")}, []string{"PY3RUN_SECURITY_MAX_MEMORY_MB=3"}, "TMP/named.toml", nil, 3, "environment PY3RUN_SECURITY_MAX_MEMORY_MB"},
		{"etc named", host{etc: say("1"), user: say("2")}, nil, "TMP/etc.toml", nil, 1, "file TMP/etc.toml"},
		{"gateway tightens", host{user: say("2")}, []string{"PYTHON3_MAX_MEMORY_MB=1.5"}, "", map[string]string{"security.max-memory-mb": "4"}, 1.5, "environment PYTHON3_MAX_MEMORY_MB"},
		{"gateway tightens no limit", host{user: say("0")}, []string{"PYTHON3_MAX_MEMORY_MB=700"}, "", nil, 700, "environment PYTHON3_MAX_MEMORY_MB"},
		{"gateway never loosens", host{user: say("2")}, []string{"PYTHON3_MAX_MEMORY_MB=3"}, "", nil, 2, "file TMP/xdg/py3run/config.toml"},
		{"gateway's 0 loosens nothing", host{user: say("2")}, []string{"PYTHON3_MAX_MEMORY_MB=0"}, "", nil, 2, "file TMP/xdg/py3run/config.toml"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l, dir, err := tt.host.load(t, tt.environ, tt.file, tt.flags)
			if err != nil {
				t.Fatal(err)
			}
			if got := l.Config.Security.MaxMemoryMB; got != tt.value {
				t.Errorf("value %v, want %v", got, tt.value)
			}
			origin := l.Origins["security.max-memory-mb"].String()
			if got := strings.ReplaceAll(origin, dir, "TMP"); got != tt.want {
				t.Errorf("origin %q, want %q", got, tt.want)
			}
			if l.Warnings != nil {
				t.Errorf("warnings: %q", l.Warnings)
			}
		})
	}
}

func TestWhereTheUserFileIs(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	dir := filepath.Join(home, ".config", "py3run")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		environ []string
		want    []string // files
	}{
		{"home", []string{"HOME=" + home}, []string{path}},
		{"xdg is relative", []string{"XDG_CONFIG_HOME=.config", "HOME=" + home}, []string{path}},
		{"xdg is empty", []string{"XDG_CONFIG_HOME=", "HOME=" + home}, []string{path}},
		{"xdg elsewhere", []string{"XDG_CONFIG_HOME=/nonexistent", "HOME=" + home}, nil},
		{"nothing set", nil, nil},
		{"home is relative", []string{"HOME=."}, nil},
		{"home is no directory", []string{"HOME=/dev/null"}, nil},
		{"home is absent", []string{"HOME=/nonexistent"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l, err := Load(Sources{Environ: tt.environ, EtcFile: filepath.Join(home, "absent.toml")})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(l.Files, tt.want) || l.Warnings != nil {
				t.Errorf("files %q, warnings %q, want files %q", l.Files, l.Warnings, tt.want)
			}
		})
	}
}

func TestUnreadableUserFile(t *testing.T) {
	t.Parallel()
	src, dir := host{user: "[security]\n"}.sources(t)
	path := filepath.Join(dir, "xdg", "py3run", "config.toml")
	if os.Geteuid() == 0 {
		// Root reads it: nothing to pass over.
		if err := os.Chmod(path, 0); err != nil {
			t.Fatal(err)
		}
		if l, err := Load(src); err != nil || l.Warnings != nil {
			t.Errorf("as root: %v, %v", l, err)
		}
		return
	}
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(src); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("own file: %v, want permission denied", err)
	}
	// A home that this user really may not look into. One that it has closed itself is another thing: TestConfigurationClosedByItsOwner.
	if _, err := os.Lstat("/root/py3run"); !errors.Is(err, fs.ErrPermission) {
		t.Skip("/root is open to this user")
	}
	src.Environ = []string{"HOME=/root"}
	path = "/root/.config/py3run/config.toml"
	l, err := Load(src)
	want := []string{path + ": read: permission denied (passed over)"}
	if err != nil || !slices.Equal(l.Warnings, want) {
		t.Errorf("foreign home: %v, %v, want warnings %q", l, err, want)
	}
}

func TestFilesInOrder(t *testing.T) {
	t.Parallel()
	all := host{etc: "[input]\n", user: "[input]\n", named: "[input]\n"}
	tests := []struct {
		name string
		file string
		want []string
	}{
		{"usual", "", []string{"TMP/etc.toml", "TMP/xdg/py3run/config.toml"}},
		{"named", "TMP/named.toml", []string{"TMP/etc.toml", "TMP/named.toml"}},
		{"etc named", "TMP/etc.toml", []string{"TMP/etc.toml"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l, dir, err := all.load(t, nil, tt.file, nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := range l.Files {
				l.Files[i] = strings.ReplaceAll(l.Files[i], dir, "TMP")
			}
			if !slices.Equal(l.Files, tt.want) {
				t.Errorf("got %q, want %q", l.Files, tt.want)
			}
		})
	}
}

// Every kind is written as in a file and as in a variable.
func TestKinds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		key  string
		toml string
		text string
		want any
	}{
		{"number", "security.max-memory-mb", `512`, `512`, 512.0},
		{"fraction", "security.max-cpu-seconds", `0.25`, `0.25`, 0.25},
		{"no limit", "security.max-disk-mb", `0`, `0`, 0.0},
		{"negative zero", "security.max-disk-mb", `-0.0`, `-0`, 0.0},
		{"count", "security.max-processes", `10`, `10`, 10},
		{"count as fraction", "security.max-processes", `10.0`, `10.0`, 10},
		{"count without limit", "security.max-open-files", `0`, `0`, 0},
		{"smallest count", "security.max-open-files", `64`, `64`, 64},
		{"request", "input.max-request-mb", `1024`, `1024`, 1024.0},
		{"false", "security.isolation.cleanup-on-exit", `false`, `false`, false},
		{"false as 0", "security.audit.enabled", `false`, `0`, false},
		{"choice", "security.isolation.method", `"process"`, `process`, "process"},
		{"true for a choice", "security.audit.log-variables", `true`, `true`, "names"},
		{"false for a choice", "security.audit.log-variables", `false`, `false`, "off"},
		{"directory", "security.audit.dir", `"/var/log/ü"`, `/var/log/ü`, "/var/log/ü"},
		{"working dir", "security.isolation.working-dir", `"/run/x/${executionId}"`, `/run/x/${executionId}`, "/run/x/${executionId}"},
		{"hidden working dir", "security.isolation.working-dir", `"/tmp/.${userId}.${executionId}"`, `/tmp/.${userId}.${executionId}`, "/tmp/.${userId}.${executionId}"},
		{"list", "security.isolation.hide", `["/a", "/b c"]`, `["/a", "/b c"]`, []string{"/a", "/b c"}},
		{"long list", "python.path", "[\n  \"/a\", # why\n]", "[\n  \"/a\", # why\n]", []string{"/a"}},
		{"empty list", "security.isolation.env-keep", `[]`, `[]`, []string(nil)},
		{"variables", "security.isolation.env-keep", `["A", "LC_*", "*"]`, `["A", "LC_*", "*"]`, []string{"A", "LC_*", "*"}},
		{"table", "python.flag-imports", `{ "os.path" = "why", _x1 = "" }`, `{ "os.path" = "why", _x1 = "" }`, map[string]string{"os.path": "why", "_x1": ""}},
		{"empty table", "python.flag-imports", `{}`, `{}`, map[string]string{}},
		{"version", "python.interpreter", `"3.12"`, `3.12`, "3.12"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, from := range []struct {
				host    host
				environ []string
				flags   map[string]string
			}{
				{host: host{user: tt.key + " = " + tt.toml + "\n"}},
				{environ: []string{variable(tt.key) + "=" + tt.text}},
				{flags: map[string]string{tt.key: tt.text}},
			} {
				l, _, err := from.host.load(t, from.environ, "", from.flags)
				if err != nil {
					t.Fatalf("%+v: %v", from, err)
				}
				if got := settingAt(tt.key).get(&l.Config); !reflect.DeepEqual(got, tt.want) {
					t.Errorf("%+v: got %#v, want %#v", from, got, tt.want)
				}
			}
		})
	}
}

func TestFlagCanBeEmpty(t *testing.T) {
	t.Parallel()
	l, _, err := host{user: "security.audit.dir = '/x'\n"}.load(t, nil, "", map[string]string{"security.audit.dir": ""})
	if err != nil || l.Config.Security.Audit.Dir != "" {
		t.Errorf("got %v, %v", l, err)
	}
}

func TestRefusedInFile(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		text string
		want string // all after the file name
		hint string
	}{
		{"mistyped key", "[security]\nmax-memroy-mb = 5\n", `:2: security.max-memroy-mb: unknown key, the nearest is security.max-memory-mb`, `did you mean "max-memory-mb"?`},
		{"mistyped section", "[secruity]\nmax-memory-mb = 5\n", `:1: secruity: unknown key, the nearest is security`, `did you mean "security"?`},
		{"mistyped ceiling", "[cieling]\n", `:1: cieling: unknown key, the nearest is ceiling`, `did you mean "ceiling"?`},
		{"no section", "max-memory-mb = 5\n", `:1: max-memory-mb: unknown key, the nearest is security.max-memory-mb`, `did you mean "security.max-memory-mb"?`},
		{"section above", "[security]\nnetwork = 'none'\n", `:2: security.network: unknown key, the nearest is security.isolation.network`, `did you mean "isolation.network"?`},
		{"underscores", "security.Max_Memory_MB = 5\n", `:1: security.Max_Memory_MB: unknown key, the nearest is security.max-memory-mb`, `did you mean "max-memory-mb"?`},
		{"inline table", "\nsecurity = { max-memroy-mb = 5 }\n", `:2: security.max-memroy-mb: unknown key, the nearest is security.max-memory-mb`, `did you mean "max-memory-mb"?`},
		{"nothing near", "[zebra]\nx = 1\n", `:1: zebra: unknown key`, `py3run config init prints every key`},
		{"strange name", "\"a\\u001b.b\" = 1\n", `:1: "a\u001b.b": unknown key`, `py3run config init prints every key`},
		{"later choice", "security.isolation.method = 'container'\n", `:1: security.isolation.method: "container" is not available in this version`, ``},
		{"section as value", "security = 5\n", `:1: security: must be a section, not 5`, `write [security]`},
		{"section as list", "[[security.audit]]\n", `:1: security.audit: must be a section, not a list`, `write [security.audit]`},
		{"key as section", "[security.max-memory-mb]\nx = 1\n", `:1: security.max-memory-mb: must be a number, not a table`, ``},
		{"first by line", "[input]\nmax-request-mb = 0\n[security]\nx-x-x-x = 1\n", `:2: input.max-request-mb: must be from 1 to 1024, not 0`, ``},

		{"number in quotes", "security.max-memory-mb = '512'\n", `:1: security.max-memory-mb: must be a number, not "512"`, ``},
		{"number as date", "security.max-memory-mb = 2024-01-01\n", `:1: security.max-memory-mb: must be a number, not a date`, ``},
		{"negative", "security.max-memory-mb = -1\n", `:1: security.max-memory-mb: must be 0 (no limit) or from 0.000001 to 1073741824, not -1`, ``},
		{"infinite", "security.max-memory-mb = inf\n", `:1: security.max-memory-mb: must be a finite number, not +Inf`, ``},
		{"not a number", "security.max-memory-mb = nan\n", `:1: security.max-memory-mb: must be a finite number, not NaN`, ``},
		{"almost nothing", "security.max-cpu-seconds = 1e-9\n", `:1: security.max-cpu-seconds: must be 0 (no limit) or from 0.001 to 1000000000, not 0.000000001`, ``},
		{"fraction of a process", "security.max-processes = 1.5\n", `:1: security.max-processes: must be a whole number, not 1.5`, ``},
		{"too few files", "security.max-open-files = 63\n", `:1: security.max-open-files: must be 0 (no limit) or from 64 to 1073741824, not 63`, ``},
		{"request too large", "input.max-request-mb = 1025\n", `:1: input.max-request-mb: must be from 1 to 1024, not 1025`, ``},
		{"truth as number", "security.audit.enabled = 1\n", `:1: security.audit.enabled: must be true or false, not 1`, ``},
		{"wrong choice", "security.isolation.network = 'on'\n", `:1: security.isolation.network: must be host or none, not "on"`, ``},
		{"truth as choice", "security.isolation.network = true\n", `:1: security.isolation.network: must be text in quotes, not true`, ``},
		{"relative directory", "security.audit.dir = '~/log'\n", `:1: security.audit.dir: must be an absolute path or empty, not "~/log"`, ``},
		{"control character", "security.audit.dir = \"/a\\u0000\"\n", `:1: security.audit.dir: must be UTF-8 text without control characters, not "/a\x00"`, ``},
		{"no interpreter", "python.interpreter = ''\n", `:1: python.interpreter: must not be empty, not ""`, ``},
		{"text as list", "python.path = '/a'\n", `:1: python.path: must be a list of texts such as ["a", "b"], not "/a"`, ``},
		{"number in list", "python.path = ['/a',\n 5]\n", `:1: python.path: must be a list of texts such as ["a", "b"], not 5`, ``},
		{"relative path in list", "python.path = ['lib']\n", `:1: python.path: must be an absolute path, not "lib"`, ``},
		{"assignment to keep", "security.isolation.env-keep = ['A=b']\n", `:1: security.isolation.env-keep: must be the name of a variable, with a * at most at its end, not "A=b"`, ``},
		{"list as table", "python.flag-imports = ['os']\n", `:1: python.flag-imports: must be a table of texts such as { a = "b" }, not a list`, ``},
		{"no module", "[python.flag-imports]\n'os.' = 'x'\n", `:1: python.flag-imports: must be the name of a module, not "os."`, ``},
		{"reason on two lines", "[python.flag-imports]\nos = \"a\\nb\"\n", `:1: python.flag-imports: must be UTF-8 text without control characters, not "a\nb"`, ``},
		{"module without quotes", "[python.flag-imports]\nos.path = 'x'\n", `:1: python.flag-imports: must be a table of texts such as { a = "b" }, not a table`, `quote a name that has dots: "os.…" = "…"`},

		{"syntax", "[security]\n\nmax-memory-mb 5\n", `:3: expected '.' or '=', but got '5' instead`, ``},
		{"twice", "[security]\nmax-disk-mb = 5\nmax-disk-mb = 6\n", `:3: Key 'security.max-disk-mb' has already been defined.`, ``},
		{"ceiling", "[input]\n[ceiling.security]\nmax-memory-mb = 5\n", `:2: ceiling: ceilings belong in TMP/etc.toml`, `there they hold for every user; nothing else can set or lift them`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, dir, err := host{user: tt.text}.load(t, nil, "", nil)
			e, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("got %v, want an *Error", err)
			}
			line := strings.TrimPrefix(err.Error(), dir+"/xdg/py3run/config.toml")
			if line = strings.ReplaceAll(line, dir, "TMP"); line != tt.want {
				t.Errorf("got  %s\nwant %s", line, tt.want)
			}
			if e.Hint != tt.hint {
				t.Errorf("hint %q, want %q", e.Hint, tt.hint)
			}
		})
	}
}

func TestRefusedElsewhere(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		host    host
		environ []string
		file    string
		flags   map[string]string
		want    string
		hint    string
	}{
		{name: "number", environ: []string{"PY3RUN_SECURITY_MAX_MEMORY_MB=512MB"}, want: `PY3RUN_SECURITY_MAX_MEMORY_MB: security.max-memory-mb: must be a number, not "512MB"`},
		{name: "infinite", environ: []string{"PY3RUN_SECURITY_MAX_MEMORY_MB=inf"}, want: `PY3RUN_SECURITY_MAX_MEMORY_MB: security.max-memory-mb: must be a finite number, not +Inf`},
		{name: "truth", environ: []string{"PY3RUN_SECURITY_AUDIT_ENABLED=yes"}, want: `PY3RUN_SECURITY_AUDIT_ENABLED: security.audit.enabled: must be true or false, not "yes"`},
		{name: "choice", environ: []string{"PY3RUN_SECURITY_ISOLATION_METHOD=vm"}, want: `PY3RUN_SECURITY_ISOLATION_METHOD: security.isolation.method: must be auto or namespace or process, not "vm"`},
		{name: "not UTF-8", environ: []string{"PY3RUN_SECURITY_AUDIT_DIR=/\xff"}, want: `PY3RUN_SECURITY_AUDIT_DIR: security.audit.dir: must be UTF-8 text without control characters, not "/\xff"`},
		{name: "list without brackets", environ: []string{"PY3RUN_PYTHON_PATH=/a:/b"}, want: `PY3RUN_PYTHON_PATH: python.path: must be a list of texts such as ["a", "b"], not "/a:/b"`},
		{name: "more than a list", environ: []string{"PY3RUN_PYTHON_PATH=[]\nx = 1"}, want: `PY3RUN_PYTHON_PATH: python.path: must be a list of texts such as ["a", "b"], not "[]\nx = 1"`},
		{name: "list for a table", environ: []string{`PY3RUN_PYTHON_FLAG_IMPORTS=["os"]`}, want: `PY3RUN_PYTHON_FLAG_IMPORTS: python.flag-imports: must be a table of texts such as { a = "b" }, not a list`},
		{name: "unknown flag key", flags: map[string]string{"security.max-memroy-mb": "5"}, want: `--set: security.max-memroy-mb: unknown key, the nearest is security.max-memory-mb`, hint: `did you mean "security.max-memory-mb"?`},
		{name: "ceiling by flag", flags: map[string]string{"ceiling.security.max-disk-mb": "5"}, want: `--set: ceiling.security.max-disk-mb: unknown key, the nearest is security.max-disk-mb`, hint: `did you mean "security.max-disk-mb"?`},
		{name: "flag value", flags: map[string]string{"security.max-disk-mb": ""}, want: `--set: security.max-disk-mb: must be a number, not ""`,
			hint: "want 0 (no limit) or from 0.000001 to 1073741824; py3run config init prints every key and what it can be"},
		{name: "flag without such a choice", flags: map[string]string{"bridge.state": "foo"}, want: `--set: bridge.state: must be fresh or keep, not "foo"`,
			hint: "want fresh or keep; py3run config init prints every key and what it can be"},
		{name: "first flag by name", flags: map[string]string{"b": "", "a": "", "c": ""}, want: `--set: a: unknown key`, hint: "py3run config init prints every key"},
		{name: "named file absent", file: "TMP/absent", want: `TMP/absent: read: no such file or directory`, hint: "--config names this file; it replaces the usual ones and must exist"},
		{name: "file of variable absent", environ: []string{"PY3RUN_CONFIG=TMP/absent"}, want: `TMP/absent: read: no such file or directory`, hint: "PY3RUN_CONFIG names this file; it replaces the usual ones and must exist"},
		{name: "etc named and absent", file: "TMP/etc.toml", want: `TMP/etc.toml: read: no such file or directory`, hint: "--config names this file; it replaces the usual ones and must exist"},
		{name: "directory", file: "TMP", want: `TMP: read: is a directory`},
		{name: "etc is broken", host: host{etc: "[", named: "[input]\n"}, file: "TMP/named.toml", want: `TMP/etc.toml:1: unexpected end of table name (table names cannot be empty)`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, dir, err := tt.host.load(t, tt.environ, tt.file, tt.flags)
			e, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("got %v, want an *Error", err)
			}
			if got := strings.ReplaceAll(err.Error(), dir, "TMP"); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if e.Hint != tt.hint {
				t.Errorf("hint %q, want %q", e.Hint, tt.hint)
			}
		})
	}
}

func TestErrnoOfAbsentFile(t *testing.T) {
	t.Parallel()
	if _, _, err := (host{}).load(t, nil, "TMP/absent", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist in it", err)
	}
}

func TestCeiling(t *testing.T) {
	t.Parallel()
	const memory = "[ceiling.security]\nmax-memory-mb = 512\n"
	tests := []struct {
		name    string
		host    host
		environ []string
		file    string
		flags   map[string]string
		key     string
		value   any
		want    string // origin
	}{
		{"default", host{etc: memory}, nil, "", nil, "security.max-memory-mb", 512.0, "default, asked 1024 (ceiling 512 from TMP/etc.toml)"},
		{"below", host{etc: memory, user: "security.max-memory-mb = 100\n"}, nil, "", nil, "security.max-memory-mb", 100.0, "file TMP/xdg/py3run/config.toml (ceiling 512 from TMP/etc.toml)"},
		{"equal", host{etc: memory, user: "security.max-memory-mb = 512\n"}, nil, "", nil, "security.max-memory-mb", 512.0, "file TMP/xdg/py3run/config.toml (ceiling 512 from TMP/etc.toml)"},
		{"same file", host{etc: "security.max-memory-mb = 600\n" + memory}, nil, "", nil, "security.max-memory-mb", 512.0, "file TMP/etc.toml, asked 600 (ceiling 512 from TMP/etc.toml)"},
		{"user file", host{etc: memory, user: "security.max-memory-mb = 600\n"}, nil, "", nil, "security.max-memory-mb", 512.0, "file TMP/xdg/py3run/config.toml, asked 600 (ceiling 512 from TMP/etc.toml)"},
		{"variable", host{etc: memory}, []string{"PY3RUN_SECURITY_MAX_MEMORY_MB=600"}, "", nil, "security.max-memory-mb", 512.0, "environment PY3RUN_SECURITY_MAX_MEMORY_MB, asked 600 (ceiling 512 from TMP/etc.toml)"},
		{"flag", host{etc: memory}, nil, "", map[string]string{"security.max-memory-mb": "600"}, "security.max-memory-mb", 512.0, "flag --set, asked 600 (ceiling 512 from TMP/etc.toml)"},
		{"no limit", host{etc: memory}, nil, "", map[string]string{"security.max-memory-mb": "0"}, "security.max-memory-mb", 512.0, "flag --set, asked 0 (ceiling 512 from TMP/etc.toml)"},
		{"named file does not lift it", host{etc: memory, named: "security.max-memory-mb = 600\n"}, nil, "TMP/named.toml", nil, "security.max-memory-mb", 512.0, "file TMP/named.toml, asked 600 (ceiling 512 from TMP/etc.toml)"},
		{"nor does the variable", host{etc: memory, named: "[input]\n"}, []string{"PY3RUN_CONFIG=TMP/named.toml"}, "", nil, "security.max-memory-mb", 512.0, "default, asked 1024 (ceiling 512 from TMP/etc.toml)"},
		{"etc named", host{etc: memory}, nil, "TMP/etc.toml", nil, "security.max-memory-mb", 512.0, "default, asked 1024 (ceiling 512 from TMP/etc.toml)"},
		{"gateway below", host{etc: memory}, []string{"PYTHON3_MAX_MEMORY_MB=100"}, "", nil, "security.max-memory-mb", 100.0, "environment PYTHON3_MAX_MEMORY_MB (ceiling 512 from TMP/etc.toml)"},
		{"gateway above", host{etc: memory}, []string{"PYTHON3_MAX_MEMORY_MB=600"}, "", nil, "security.max-memory-mb", 512.0, "environment PYTHON3_MAX_MEMORY_MB, asked 600 (ceiling 512 from TMP/etc.toml)"},
		{"dotted", host{etc: "[ceiling]\nsecurity.max-processes = 8\n"}, nil, "", map[string]string{"security.max-processes": "0"}, "security.max-processes", 8, "flag --set, asked 0 (ceiling 8 from TMP/etc.toml)"},
		{"wait for ever", host{etc: "ceiling.input.timeout-seconds = 5\n"}, nil, "", map[string]string{"input.timeout-seconds": "0"}, "input.timeout-seconds", 5.0, "flag --set, asked 0 (ceiling 5 from TMP/etc.toml)"},
		{"no network", host{etc: "ceiling.security.isolation.network = 'none'\n"}, nil, "", map[string]string{"security.isolation.network": "host"}, "security.isolation.network", "none", `flag --set, asked "host" (ceiling "none" from TMP/etc.toml)`},
		{"any network", host{etc: "ceiling.security.isolation.network = 'host'\n"}, nil, "", map[string]string{"security.isolation.network": "none"}, "security.isolation.network", "none", `flag --set (ceiling "host" from TMP/etc.toml)`},
		{"refuse", host{etc: "ceiling.security.isolation.on-missing = 'refuse'\n"}, nil, "", nil, "security.isolation.on-missing", "refuse", `default, asked "warn" (ceiling "refuse" from TMP/etc.toml)`},
		{"audit", host{etc: "ceiling.security.audit.enabled = true\n"}, []string{"PY3RUN_SECURITY_AUDIT_ENABLED=false"}, "", nil, "security.audit.enabled", true, `environment PY3RUN_SECURITY_AUDIT_ENABLED, asked false (ceiling true from TMP/etc.toml)`},
		{"a caller's flag keeps the limits of the operating-system user", host{etc: "ceiling.security.rate-limit.os-users = true\n"}, nil, "", map[string]string{"security.rate-limit.os-users": "false"}, "security.rate-limit.os-users", true, `flag --set, asked false (ceiling true from TMP/etc.toml)`},
		{"a user's file keeps them", host{etc: "ceiling.security.rate-limit.os-users = true\n", user: "security.rate-limit.os-users = false\n"}, nil, "", nil, "security.rate-limit.os-users", true, `file TMP/xdg/py3run/config.toml, asked false (ceiling true from TMP/etc.toml)`},
		{"without a ceiling they do not", host{etc: "security.rate-limit.os-users = true\n"}, []string{"PY3RUN_SECURITY_RATE_LIMIT_OS_USERS=false"}, "", nil, "security.rate-limit.os-users", false, `environment PY3RUN_SECURITY_RATE_LIMIT_OS_USERS`},
		{"audit may be off", host{etc: "ceiling.security.audit.enabled = false\n"}, nil, "", nil, "security.audit.enabled", true, `default (ceiling false from TMP/etc.toml)`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l, dir, err := tt.host.load(t, tt.environ, tt.file, tt.flags)
			if err != nil {
				t.Fatal(err)
			}
			if got := settingAt(tt.key).get(&l.Config); got != tt.value {
				t.Errorf("value %v, want %v", got, tt.value)
			}
			if got := strings.ReplaceAll(l.Origins[tt.key].String(), dir, "TMP"); got != tt.want {
				t.Errorf("origin %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRefusedCeiling(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		text string
		want string
		hint string
	}{
		{"text", "[ceiling.python]\ninterpreter = 'auto'\n", `:2: ceiling.python.interpreter: cannot have a ceiling`,
			"numbers can, and security.isolation.on-missing, security.isolation.network, security.isolation.shm, security.isolation.dev, security.isolation.seccomp, security.isolation.no-new-privileges, security.audit.enabled, security.audit.log-code, security.audit.native, security.audit.files, security.audit.reads, security.rate-limit.os-users, identity.require, bridge.state"},
		{"truth", "[ceiling]\nsecurity.isolation.cleanup-on-exit = true\n", `:2: ceiling.security.isolation.cleanup-on-exit: cannot have a ceiling`,
			"numbers can, and security.isolation.on-missing, security.isolation.network, security.isolation.shm, security.isolation.dev, security.isolation.seccomp, security.isolation.no-new-privileges, security.audit.enabled, security.audit.log-code, security.audit.native, security.audit.files, security.audit.reads, security.rate-limit.os-users, identity.require, bridge.state"},
		{"0", "[ceiling.security]\nmax-disk-mb = 0\n", `:2: ceiling.security.max-disk-mb: 0 is no limit, so this ceiling would bound nothing`, "leave it out"},
		{"count 0", "[ceiling.security]\nmax-processes = 0\n", `:2: ceiling.security.max-processes: 0 is no limit, so this ceiling would bound nothing`, "leave it out"},
		{"bounds", "[ceiling.security]\nmax-open-files = 5\n", `:2: ceiling.security.max-open-files: must be 0 (no limit) or from 64 to 1073741824, not 5`, ""},
		{"mistyped", "[ceiling.security]\nmax-memroy-mb = 5\n", `:2: ceiling.security.max-memroy-mb: unknown key, the nearest is ceiling.security.max-memory-mb`, `did you mean "max-memory-mb"?`},
		{"no section", "[ceiling]\nmax-memory-mb = 5\n", `:2: ceiling.max-memory-mb: unknown key, the nearest is ceiling.security.max-memory-mb`, `did you mean "security.max-memory-mb"?`},
		{"no table", "ceiling = 5\n", `:1: ceiling: must be a section, not 5`, `write [ceiling]`},
		{"section as value", "ceiling.security = 5\n", `:1: ceiling.security: must be a section, not 5`, `write [ceiling.security]`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, dir, err := host{etc: tt.text}.load(t, nil, "", nil)
			e, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("got %v, want an *Error", err)
			}
			if got := strings.TrimPrefix(err.Error(), dir+"/etc.toml"); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if e.Hint != tt.hint {
				t.Errorf("hint %q, want %q", e.Hint, tt.hint)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		entry string
		want  []string
	}{
		{"mistyped", "PY3RUN_SECURITY_MAX_MEMROY_MB=5", []string{`"PY3RUN_SECURITY_MAX_MEMROY_MB": unknown variable, did you mean PY3RUN_SECURITY_MAX_MEMORY_MB?`}},
		{"no section", "PY3RUN_MAX_MEMORY_MB=5", []string{`"PY3RUN_MAX_MEMORY_MB": unknown variable, did you mean PY3RUN_SECURITY_MAX_MEMORY_MB?`}},
		{"lower case", "PY3RUN_security_audit_dir=/x", []string{`"PY3RUN_security_audit_dir": unknown variable, did you mean PY3RUN_SECURITY_AUDIT_DIR?`}},
		{"nothing near", "PY3RUN_ZEBRA=5", []string{`"PY3RUN_ZEBRA": unknown variable`}},
		{"a section", "PY3RUN_SECURITY=5", []string{`"PY3RUN_SECURITY": unknown variable`}},
		{"strange name", "PY3RUN_\x1b[31m=5", []string{`"PY3RUN_\x1b[31m": unknown variable`}},
		{"empty", "PY3RUN_ZEBRA=", nil},
		{"no value", "PY3RUN_ZEBRA", nil},
		{"key file", "PY3RUN_API_KEY_FILE=/x", nil},
		{"tests", "PY3RUN_TEST_REQUIRE=1", nil},
		{"cases", "PY3RUN_CASES=1", nil},
		{"cases directory", "PY3RUN_CASES_DIR=/x", nil},
		{"warm", "PY3RUN_WARM_SOCKET=/x", []string{`"PY3RUN_WARM_SOCKET": unknown variable`}},
		{"almost ours", "PY3RUNNER=1", nil},
		{"gateway's number", "PYTHON3_MAX_CPU_SECONDS=soon", []string{`PYTHON3_MAX_CPU_SECONDS: must be a number, not "soon" (passed over)`}},
		{"gateway's negative", "PYTHON3_MAX_MEMORY_MB=-1", []string{`PYTHON3_MAX_MEMORY_MB: must be 0 (no limit) or from 0.000001 to 1073741824, not -1 (passed over)`}},
		{"gateway's empty", "PYTHON3_MAX_MEMORY_MB=", nil},
		{"gateway's directory", "PYTHON3_DATA_DIR=/x", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l, _, err := host{}.load(t, []string{tt.entry}, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(l.Warnings, tt.want) {
				t.Errorf("got %q, want %q", l.Warnings, tt.want)
			}
			if !reflect.DeepEqual(l.Config, Default()) {
				t.Errorf("the configuration changed: %+v", l.Config)
			}
		})
	}
}

func TestConfigsShareNothing(t *testing.T) {
	t.Parallel()
	a := Default()
	clear(a.Python.FlagImports)
	a.Security.Isolation.EnvKeep[0] = "changed"
	b := Default()
	want := []string{"ctypes", "multiprocessing", "os", "subprocess"}
	if got := slices.Sorted(maps.Keys(b.Python.FlagImports)); !slices.Equal(got, want) || b.Security.Isolation.EnvKeep[0] != "LANG" {
		t.Errorf("got %+v", b)
	}
}

func BenchmarkLoadWithoutFiles(b *testing.B) {
	src := Sources{EtcFile: filepath.Join(b.TempDir(), "absent.toml"), Environ: []string{"HOME=/nonexistent"}}
	for range 60 { // as many variables as a login shell has
		src.Environ = append(src.Environ, "SOME_VARIABLE_OF_OTHERS=with some value")
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Load(src); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoadOneFile(b *testing.B) {
	path := filepath.Join(b.TempDir(), "config.toml")
	if err := os.WriteFile(path, Init(), 0o644); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Load(Sources{EtcFile: path}); err != nil {
			b.Fatal(err)
		}
	}
}

// The files that were looked for come with their hashes: what was read is what is recorded.
func TestLooked(t *testing.T) {
	t.Parallel()
	const text = "[input]\n"
	sum := func(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }
	tests := []struct {
		name    string
		host    host
		environ []string
		file    string
		want    []Looked
	}{
		{"none there", host{}, nil, "", []Looked{{"TMP/etc.toml", ""}, {"TMP/xdg/py3run/config.toml", ""}}},
		{"both", host{etc: text, user: "# mine\n"}, nil, "", []Looked{{"TMP/etc.toml", sum(text)}, {"TMP/xdg/py3run/config.toml", sum("# mine\n")}}},
		{"a named one", host{etc: text, named: "# named\n"}, nil, "TMP/named.toml", []Looked{{"TMP/etc.toml", sum(text)}, {"TMP/named.toml", sum("# named\n")}}},
		{"the null device", host{}, []string{"PY3RUN_CONFIG=/dev/null"}, "", []Looked{{"TMP/etc.toml", ""}, {"/dev/null", sum("")}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l, dir, err := tt.host.load(t, tt.environ, tt.file, nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := range l.Looked {
				l.Looked[i].Path = strings.ReplaceAll(l.Looked[i].Path, dir, "TMP")
			}
			if !slices.Equal(l.Looked, tt.want) {
				t.Errorf("got  %v\nwant %v", l.Looked, tt.want)
			}
		})
	}
}

// What is no file of a reasonable size is refused at once, and nobody waits for it.
func TestConfigurationIsARegularFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe, large, socket := filepath.Join(dir, "pipe"), filepath.Join(dir, "large"), filepath.Join(dir, "socket")
	listener, err := net.Listen("unix", socket)
	if err == nil {
		t.Cleanup(func() { listener.Close() })
		err = syscall.Mkfifo(pipe, 0o600)
	}
	if err == nil {
		err = os.WriteFile(large, bytes.Repeat([]byte("# comment\n"), fileMost/10+1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ path, want string }{
		{pipe, "read: not a regular file"},
		{socket, "read: no such device or address"},
		{"/dev/zero", "read: not a regular file"},
		{"/dev/random", "read: not a regular file"},
		{"/proc/self/mem", "read: input/output error"},
		{large, "read: larger than 1 MB"},
		{dir, "read: is a directory"},
	} {
		t.Run(tt.path, func(t *testing.T) {
			t.Parallel()
			for _, src := range []Sources{{File: tt.path, EtcFile: "/nonexistent"}, {Environ: []string{"PY3RUN_CONFIG=" + tt.path}, EtcFile: "/nonexistent"}, {EtcFile: tt.path}} {
				_, err := Load(src)
				if err == nil || err.Error() != tt.path+": "+tt.want {
					t.Errorf("%+v: error %v, want %s", src, err, tt.want)
				}
			}
		})
	}
}

// A user's own configuration that cannot be looked for, because a directory of the user's own is closed, is not passed over: a run can close one. That in
// somebody else's home is.
func TestConfigurationClosedByItsOwner(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root is not kept out")
	}
	home := t.TempDir()
	dir := filepath.Join(home, ".config")
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "py3run"), 0o700), os.WriteFile(filepath.Join(dir, "py3run", "config.toml"), []byte("[security]\nmax-processes = 7\n"), 0o600), os.Chmod(dir, 0)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(dir, 0o700) })
	_, err := Load(Sources{Environ: []string{"HOME=" + home}, EtcFile: "/nonexistent/config.toml"})
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(e.Hint, "chmod u+rx "+dir) {
		t.Errorf("%v", err)
	}
}
