package config

import (
	"os"
	"path/filepath"
	"testing"
)

func TestForBridge(t *testing.T) {
	t.Parallel()
	type want struct {
		memory, timeout float64
		warm            bool
		memoryFrom      string // Origin.Name
		timeoutKey      string // Origin.Key
	}
	usual := want{memory: 1024, timeout: 25, warm: true, timeoutKey: "bridge.timeout-seconds"}
	with := func(change func(*want)) want {
		w := usual
		change(&w)
		return w
	}
	const variable = "PYTHON3_MAX_MEMORY_MB"
	for _, tt := range []struct {
		name, etc string
		environ   []string
		flags     map[string]string
		want      want
	}{
		{name: "nothing", want: usual},
		{name: "a larger variable", environ: []string{variable + "=2048"}, want: with(func(w *want) { w.memory, w.memoryFrom = 2048, variable })},
		{name: "a smaller variable", environ: []string{variable + "=256"}, want: with(func(w *want) { w.memory, w.memoryFrom = 256, variable })},
		{name: "a variable without sense", environ: []string{variable + "=much"}, want: usual},
		{name: "no limit by the variable", environ: []string{variable + "=0"}, want: with(func(w *want) { w.memory, w.memoryFrom = 0, variable })},
		{name: "a configured value below the variable", environ: []string{variable + "=2048"}, flags: map[string]string{"security.max-memory-mb": "1024"},
			want: with(func(w *want) { w.memoryFrom = "--set" })},
		{name: "a configured value above the variable", environ: []string{variable + "=2048"}, flags: map[string]string{"security.max-memory-mb": "4096"},
			want: with(func(w *want) { w.memory, w.memoryFrom = 2048, variable })},
		{name: "a ceiling below the variable", etc: "[ceiling]\nsecurity.max-memory-mb = 1500", environ: []string{variable + "=2048"},
			want: with(func(w *want) { w.memory, w.memoryFrom = 1500, variable })},
		{name: "a ceiling above the variable", etc: "[ceiling]\nsecurity.max-memory-mb = 3000", environ: []string{variable + "=2048"},
			want: with(func(w *want) { w.memory, w.memoryFrom = 2048, variable })},
		{name: "a shorter limit of all runs", flags: map[string]string{"security.execution-timeout-seconds": "5"}, want: with(func(w *want) { w.timeout, w.timeoutKey = 5, "" })},
		{name: "no limit of all runs", flags: map[string]string{"security.execution-timeout-seconds": "0"}, want: usual},
		{name: "a longer limit of a bridge", flags: map[string]string{"bridge.timeout-seconds": "90"}, want: with(func(w *want) { w.timeout = 90 })},
		{name: "no limit of a bridge", flags: map[string]string{"bridge.timeout-seconds": "0"}, want: with(func(w *want) { w.timeout, w.timeoutKey = 600, "" })},
		{name: "warm is switched off", flags: map[string]string{"warm.enabled": "false"}, want: with(func(w *want) { w.warm = false })},
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
			l.ForBridge(tt.environ)
			got := want{l.Config.Security.MaxMemoryMB, l.Config.Security.ExecutionTimeoutSeconds, l.Config.Warm.Enabled,
				l.Origins["security.max-memory-mb"].Name, l.Origins["security.execution-timeout-seconds"].Key}
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}
