package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every key has what a page shows of it, and what is in force comes with its origin.
func TestKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	etc := filepath.Join(dir, "etc.toml")
	if err := os.WriteFile(etc, []byte("[security]\nmax-memory-mb = 512\n[ceiling.security]\nmax-processes = 8\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Load(Sources{EtcFile: etc, Environ: []string{"PY3RUN_WARM_ENABLED=true"}})
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]Key{}
	for _, k := range l.Keys() {
		by[k.Name] = k
		if k.Meaning == "" || k.Bounds == "" || k.Value == "" || k.Default == "" || !strings.HasPrefix(k.Name, k.Section+".") || k.Variable != variable(k.Name) {
			t.Errorf("%+v", k)
		}
	}
	if k := by["security.max-memory-mb"]; k.Value != "512" || k.Default != "1024" || !k.Changed() || k.Origin.Name != etc {
		t.Errorf("%+v", k)
	}
	if k := by["security.max-processes"]; k.Value != "8" || k.Origin.Ceiling.Value != "8" || k.Origin.Ceiling.Asked != "64" {
		t.Errorf("%+v", k)
	}
	if k := by["warm.enabled"]; k.Value != "true" || k.Origin.Kind != FromEnvironment || k.Cost == "" {
		t.Errorf("%+v", k)
	}
	for _, name := range []string{"alerts.command", "alerts.webhook", "python.interpreter"} {
		if by[name].ByHand == "" {
			t.Errorf("a page could change %s", name)
		}
	}
}

func TestRewrite(t *testing.T) {
	t.Parallel()
	file := "# limits of this plant\n[security]\nmax-memory-mb = 512   # as agreed\nmax-processes = 8\n\n[python]\n# ours\nsite = 'lazy'\n"
	tests := []struct {
		name, text string
		edit       Edit
		want       string // the text, or the beginning of the problem
	}{
		{"value in its place", file, Edit{Key: "security.max-memory-mb", Value: "256"}, strings.Replace(file, "512", "256", 1)},
		{"key after the last of its table", file, Edit{Key: "security.max-cpus", Value: "1.50"}, strings.Replace(file, "= 8\n", "= 8\nmax-cpus = 1.5\n", 1)},
		{"text without quotes", file, Edit{Key: "python.site", Value: "eager"}, strings.Replace(file, "'lazy'", `"eager"`, 1)},
		{"list", file, Edit{Key: "python.path", Value: `["/a", "/b"]`}, file + "path = [\"/a\", \"/b\"]\n"},
		{"empty list", file, Edit{Key: "python.path", Value: `[]`}, file + "path = []\n"},
		{"new table", "", Edit{Key: "warm.enabled", Value: "true"}, "\n[warm]\nenabled = true\n"},
		{"removed", file, Edit{Key: "security.max-processes", Unset: true}, strings.Replace(file, "max-processes = 8\n", "", 1)},
		{"removed, and not there", file, Edit{Key: "warm.enabled", Unset: true}, file},
		{"unknown", file, Edit{Key: "security.max-memry-mb", Value: "1"}, "!unknown key"},
		{"section", file, Edit{Key: "security", Value: "1"}, "!"},
		{"ceiling", file, Edit{Key: "ceiling.security.max-memory-mb", Value: "1"}, "!unknown key"},
		{"too small", file, Edit{Key: "security.max-memory-mb", Value: "-1"}, "!must be 0"},
		{"not a number", file, Edit{Key: "security.max-memory-mb", Value: "1 # x"}, "!must be a number"},
		{"text that would end the line", file, Edit{Key: "security.isolation.run-as", Value: "x"}, "!only the file itself"},
		{"control characters", file, Edit{Key: "security.isolation.cgroup-parent", Value: "/a\n[security]\nmax-memory-mb = 1"}, "!must be UTF-8"},
		{"list with more behind it", file, Edit{Key: "python.path", Value: "[\"/a\"]\n[security.audit]\nenabled = false"}, "!must be a list"},
		{"program", file, Edit{Key: "alerts.command", Value: `["/bin/sh", "-c", "id"]`}, "!only the file itself"},
		{"broken file", "[security\n", Edit{Key: "warm.enabled", Value: "true"}, "!"},
		{"no place for it", "security = { max-memory-mb = 1 }\n", Edit{Key: "security.max-processes", Value: "8"}, "!the file is written in a way"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := tt.edit.Rewrite("/x/config.toml", tt.text)
			problem, fails := strings.CutPrefix(tt.want, "!")
			var e *Error
			switch {
			case fails && (!errors.As(err, &e) || !strings.HasPrefix(e.Problem, problem)):
				t.Errorf("%v, want %q", err, problem)
			case !fails && (err != nil || got != tt.want):
				t.Errorf("%v\n%s\nwant\n%s", err, got, tt.want)
			}
		})
	}
}

// What would be in force can be asked before a file is written.
func TestInstead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	etc := filepath.Join(dir, "etc.toml")
	l, err := Load(Sources{EtcFile: etc, Instead: map[string]string{etc: "[security]\nmax-memory-mb = 512\n"}})
	if err != nil || l.Config.Security.MaxMemoryMB != 512 {
		t.Errorf("%v", err)
	}
	if _, err := Load(Sources{EtcFile: etc, Instead: map[string]string{etc: "[security]\nmax-memory-mb = -1\n"}}); err == nil {
		t.Error("a text with a mistake is accepted")
	}
	if _, err := os.Stat(etc); err == nil {
		t.Error("the file was made")
	}
}

func TestOwn(t *testing.T) {
	t.Parallel()
	environ := []string{"XDG_CONFIG_HOME=/home/a/.config"}
	tests := []struct {
		name   string
		from   Sources
		root   bool
		want   string
		system bool
	}{
		{"user", Sources{Environ: environ}, false, "/home/a/.config/py3run/config.toml", false},
		{"root", Sources{Environ: environ}, true, "/etc/py3run/config.toml", true},
		{"named", Sources{Environ: environ, File: "x.toml"}, true, "/here/x.toml", false},
		{"variable", Sources{Environ: append(environ, "PY3RUN_CONFIG=/y.toml")}, false, "/y.toml", false},
		{"named system file", Sources{File: "/etc/py3run/config.toml"}, true, "/etc/py3run/config.toml", true},
		{"nowhere", Sources{}, false, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if path, system := tt.from.Own("/here", tt.root); path != tt.want || system != tt.system {
				t.Errorf("%s, %v", path, system)
			}
		})
	}
}
