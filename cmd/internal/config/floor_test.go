package config

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestFloor(t *testing.T) {
	t.Parallel()
	const floor = "[floor.security.audit]\nretention-days = 365\n"
	const variable = "PY3RUN_SECURITY_AUDIT_RETENTION_DAYS"
	tests := []struct {
		name    string
		host    host
		environ []string
		file    string
		flags   map[string]string
		value   int
		want    string // origin
	}{
		{"default", host{etc: floor}, nil, "", nil, 365, "default, asked 90 (floor 365 from TMP/etc.toml)"},
		{"above", host{etc: floor, user: "security.audit.retention-days = 400\n"}, nil, "", nil, 400, "file TMP/xdg/py3run/config.toml (floor 365 from TMP/etc.toml)"},
		{"for ever", host{etc: floor, user: "security.audit.retention-days = 0\n"}, nil, "", nil, 0, "file TMP/xdg/py3run/config.toml (floor 365 from TMP/etc.toml)"},
		{"equal", host{etc: floor}, []string{variable + "=365"}, "", nil, 365, "environment " + variable + " (floor 365 from TMP/etc.toml)"},
		{"same file", host{etc: "security.audit.retention-days = 30\n" + floor}, nil, "", nil, 365, "file TMP/etc.toml, asked 30 (floor 365 from TMP/etc.toml)"},
		{"user file", host{etc: floor, user: "security.audit.retention-days = 1\n"}, nil, "", nil, 365, "file TMP/xdg/py3run/config.toml, asked 1 (floor 365 from TMP/etc.toml)"},
		{"variable", host{etc: floor}, []string{variable + "=1"}, "", nil, 365, "environment " + variable + ", asked 1 (floor 365 from TMP/etc.toml)"},
		{"flag", host{etc: floor}, nil, "", map[string]string{"security.audit.retention-days": "1"}, 365, "flag --set, asked 1 (floor 365 from TMP/etc.toml)"},
		{"named file", host{etc: floor, named: "security.audit.retention-days = 2\n"}, nil, "TMP/named.toml", nil, 365, "file TMP/named.toml, asked 2 (floor 365 from TMP/etc.toml)"},
		{"nobody removes anything", host{etc: "floor.security.audit.retention-days = 0\n"}, []string{variable + "=4000"}, "", nil, 0, "environment " + variable + ", asked 4000 (floor 0 from TMP/etc.toml)"},
		{"below a ceiling", host{etc: "ceiling.security.audit.retention-days = 500\n" + floor}, []string{variable + "=600"}, "", nil, 500, "environment " + variable + ", asked 600 (ceiling 500 from TMP/etc.toml) (floor 365 from TMP/etc.toml)"},
		{"above a ceiling", host{etc: "ceiling.security.audit.retention-days = 50\n" + floor}, nil, "", nil, 365, "default, asked 90 (ceiling 50 from TMP/etc.toml), asked 50 (floor 365 from TMP/etc.toml)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l, dir, err := tt.host.load(t, tt.environ, tt.file, tt.flags)
			if err != nil {
				t.Fatal(err)
			}
			if got := l.Config.Security.Audit.RetentionDays; got != tt.value {
				t.Errorf("value %v, want %v", got, tt.value)
			}
			if got := strings.ReplaceAll(l.Origins["security.audit.retention-days"].String(), dir, "TMP"); got != tt.want {
				t.Errorf("origin %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRefusedFloor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ etc, user, want, hint string }{
		{"[floor.security]\nmax-memory-mb = 5\n", "", `:2: floor.security.max-memory-mb: cannot have a floor: what is stricter is always allowed`, "only security.audit.retention-days can"},
		{"[floor.python]\nsite = 'lazy'\n", "", `:2: floor.python.site: cannot have a floor: less of it harms nobody but who asks for it`, "only security.audit.retention-days can"},
		{"[floor.security.audit]\nretention-days = 'x'\n", "", `:2: floor.security.audit.retention-days: must be a number, not "x"`, ""},
		{"[floor.security.audit]\nretention-dayz = 5\n", "", `:2: floor.security.audit.retention-dayz: unknown key, the nearest is floor.security.audit.retention-days`, `did you mean "retention-days"?`},
		{"floor = 5\n", "", `:1: floor: must be a section, not 5`, `write [floor]`},
		{"[flor]\n", "", `:1: flor: unknown key, the nearest is floor`, `did you mean "floor"?`},
		{"", "[floor.security.audit]\nretention-days = 5\n", `:1: floor: floors belong in TMP/etc.toml`, `there they hold for every user; nothing else can set or lift them`},
	} {
		_, dir, err := host{etc: tt.etc, user: tt.user}.load(t, nil, "", nil)
		e, ok := errors.AsType[*Error](err)
		if !ok {
			t.Errorf("%s%s: %v", tt.etc, tt.user, err)
			continue
		}
		if got := strings.ReplaceAll(e.Error(), dir, "TMP"); !strings.HasSuffix(got, tt.want) || e.Hint != tt.hint {
			t.Errorf("%q, hint %q, want %q, %q", got, e.Hint, tt.want, tt.hint)
		}
	}
	src, _ := host{etc: "security.audit.retention-days = 30\nceiling.security.audit.retention-days = 40\nfloor.security.audit.retention-days = 50\n"}.sources(t)
	var got []string
	for _, f := range check(src.EtcFile, src.EtcFile) {
		got = append(got, strings.TrimPrefix(f.Error(), src.EtcFile+":"))
	}
	if want := []string{`1: security.audit.retention-days: 30 is below the floor 50 of this file`,
		`2: ceiling.security.audit.retention-days: 40 is below the floor 50 of this file, which wins`}; !slices.Equal(got, want) {
		t.Errorf("check says %q, want %q", got, want)
	}
}

// The floor that Init shows as a comment is right when it is taken in use, and Schema has floors where there can be one.
func TestInitFloor(t *testing.T) {
	t.Parallel()
	text := strings.NewReplacer("# [floor.", "[floor.", "# retention-days = 365", "retention-days = 365").Replace(string(Init()))
	l, _, err := host{etc: text}.load(t, nil, "", nil)
	if err != nil || l.Origins["security.audit.retention-days"].Floor.Value != "365" {
		t.Errorf("got %v, %v", l, err)
	}
	schema := properties(decodeJSON(t, Schema()), "")
	for i := range settings {
		if got := slices.Contains(schema, "floor."+settings[i].key); got != settings[i].floor {
			t.Errorf("%s: floor in Schema %v, want %v", settings[i].key, got, settings[i].floor)
		}
	}
}
