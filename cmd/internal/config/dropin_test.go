package config

import (
	"os"
	"path/filepath"
	"testing"
)

func TestForDropIn(t *testing.T) {
	t.Parallel()
	const variable = "PYTHON3_MAX_MEMORY_MB"
	for _, tt := range []struct {
		name, etc          string
		environ            []string
		flags              map[string]string
		memory, time, idle float64
	}{
		{name: "nothing", memory: 1024},
		{name: "a larger variable", environ: []string{variable + "=2048"}, memory: 2048},
		{name: "a smaller variable", environ: []string{variable + "=256"}, memory: 256},
		{name: "a variable without sense", environ: []string{variable + "=much"}, memory: 1024},
		{name: "a configured value below the variable", environ: []string{variable + "=2048"}, flags: map[string]string{"security.max-memory-mb": "512"}, memory: 512},
		{name: "a ceiling below the variable", etc: "[ceiling]\nsecurity.max-memory-mb = 1500", environ: []string{variable + "=2048"}, memory: 1500},
		{name: "limits that are set", flags: map[string]string{"security.execution-timeout-seconds": "5", "security.idle-timeout-seconds": "7"}, memory: 1024, time: 5, idle: 7},
		{name: "a ceiling counts as set", etc: "[ceiling]\nsecurity.execution-timeout-seconds = 900", memory: 1024, time: 900},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			etc := filepath.Join(t.TempDir(), "etc.toml")
			if err := os.WriteFile(etc, []byte(tt.etc), 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := Load(Sources{Environ: tt.environ, Flags: tt.flags, EtcFile: etc})
			if err != nil {
				t.Fatal(err)
			}
			l.ForDropIn(tt.environ)
			s := l.Config.Security
			if s.MaxMemoryMB != tt.memory || s.ExecutionTimeoutSeconds != tt.time || s.IdleTimeoutSeconds != tt.idle || s.MaxOutputSizeMB != 0 || s.MaxDiskMB != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}
