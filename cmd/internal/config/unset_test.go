package config

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOnlyIfSet(t *testing.T) {
	t.Parallel()
	const key = "security.max-output-size-mb"
	for _, tt := range []struct {
		name, etc, own string
		environ        []string
		flags          map[string]string
		want           float64
	}{
		{name: "the default", want: 0},
		{name: "a file", own: "security.max-output-size-mb = 10", want: 10},
		{name: "the system's file", etc: "security.max-output-size-mb = 7", want: 7},
		{name: "a variable", environ: []string{"PY3RUN_SECURITY_MAX_OUTPUT_SIZE_MB=3"}, want: 3},
		{name: "a flag", flags: map[string]string{key: "10"}, want: 10},
		{name: "a flag, to none", flags: map[string]string{key: "0"}, want: 0},
		{name: "a ceiling below the default", etc: "[ceiling]\nsecurity.max-output-size-mb = 4", want: 4},
		{name: "a ceiling above the default", etc: "[ceiling]\nsecurity.max-output-size-mb = 50.5", want: 50.5},
		{name: "a flag over a ceiling", etc: "[ceiling]\nsecurity.max-output-size-mb = 4", flags: map[string]string{key: "0"}, want: 4},
		{name: "a flag under a ceiling", etc: "[ceiling]\nsecurity.max-output-size-mb = 50", flags: map[string]string{key: "6"}, want: 6},
		{name: "other keys", own: "security.max-memory-mb = 64", want: 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			etc, own := filepath.Join(dir, "etc.toml"), filepath.Join(dir, "own.toml")
			for path, text := range map[string]string{etc: tt.etc, own: tt.own} {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			src := Sources{Environ: tt.environ, Flags: tt.flags, EtcFile: etc}
			if tt.own != "" {
				src.File = own
			}
			l, err := Load(src)
			if err != nil {
				t.Fatal(err)
			}
			l.OnlyIfSet(key)
			if got := l.Config.Security.MaxOutputSizeMB; got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
			if memory := l.Config.Security.MaxMemoryMB; memory == 0 {
				t.Error("another limit was lifted")
			}
		})
	}
}
