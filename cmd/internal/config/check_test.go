package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		text string
		want []string
	}{
		{"init", string(Init()), nil},
		{"all problems", "[security]\nmax-memroy-mb = 5\n\nmax-cpu-seconds = 'x'\n[python]\npath = [\n  'a',\n]\n[zebra]\n", []string{
			`2: security.max-memroy-mb: unknown key, the nearest is security.max-memory-mb`,
			`4: security.max-cpu-seconds: must be a number, not "x"`,
			`6: python.path: must be an absolute path, not "a"`,
			`9: zebra: unknown key`,
		}},
		{"lines behind a long value", "[security.audit]\ndir = '''\n/a'''\n# [x]\n\n'on-failure' = 'x'\r\n", []string{
			`6: security.audit.on-failure: must be refuse or warn, not "x"`,
		}},
		{"syntax", "[security]\nmax-disk-mb = \n", []string{`2: expected value but found '\n' instead`}},
		{"above its own ceiling", "[security]\nmax-disk-mb = 0\nmax-cpu-seconds = 5\n[ceiling.security]\nmax-disk-mb = 5\nmax-cpu-seconds = 5\nmax-memory-mb = 5\n", []string{
			`2: security.max-disk-mb: 0 is above the ceiling 5 of this file`,
		}},
		{"audit without audit", "[security.audit]\nenabled = false\ndir = '/x'\non-failure = 'warn'\n", []string{
			`3: security.audit.dir: has no effect, security.audit.enabled is false`,
			`4: security.audit.on-failure: has no effect, security.audit.enabled is false`,
		}},
		{"hidden from Python", "security.isolation.hide = ['/opt/', '/a/../b']\n[python]\ninterpreter = '/opt/python/bin/python3'\npath = ['/option', '/b/lib']\n", []string{
			`3: python.interpreter: lies in "/opt/", which security.isolation.hide hides from Python`,
			`4: python.path: "/b/lib" lies in "/a/../b", which security.isolation.hide hides from Python`,
		}},
		{"problem and contradiction", "[security.audit]\nenabled = false\ndir = '/x'\nzebra = 1\n", []string{
			`4: security.audit.zebra: unknown key`,
			`3: security.audit.dir: has no effect, security.audit.enabled is false`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src, _ := host{etc: tt.text}.sources(t)
			var got []string
			for _, f := range check(src.EtcFile, src.EtcFile) {
				got = append(got, strings.TrimPrefix(f.Error(), src.EtcFile+":"))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestCheckOtherFile(t *testing.T) {
	t.Parallel()
	src, _ := host{etc: "[ceiling.security]\nmax-memroy-mb = 5\n"}.sources(t)
	path := src.EtcFile
	want := []Finding{
		{Where: path + ":1", Key: "ceiling", Problem: "ceilings belong in /etc/py3run/config.toml", Hint: "there they hold for every user; nothing else can set or lift them"},
		{Where: path + ":2", Key: "ceiling.security.max-memroy-mb", Problem: "unknown key, the nearest is ceiling.security.max-memory-mb", Hint: `did you mean "max-memory-mb"?`},
	}
	if got := Check(path); !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	absent := filepath.Join(filepath.Dir(path), "absent")
	if got := Check(absent); len(got) != 1 || got[0].Error() != absent+": read: no such file or directory" {
		t.Errorf("absent: %+v", got)
	}
}

func TestWorkingDirOpenToAll(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		mode os.FileMode
		want bool // found
	}{
		{"private", 0o700, false},
		{"open", 0o777, true},
		{"open and sticky", 0o777 | os.ModeSticky, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.Chmod(dir, tt.mode); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "config.toml")
			text := "security.isolation.working-dir = '" + dir + "/py-${userId}/${executionId}'\n"
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			findings := Check(path)
			if got := len(findings) == 1 && findings[0].Where == path+":1" && findings[0].Hint == "chmod +t "+dir; got != tt.want {
				t.Errorf("got %+v, want a finding: %v", findings, tt.want)
			}
		})
	}
}
