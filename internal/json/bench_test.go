package json

import "testing"

type other map[string]float64

var limits = map[string]float64{"timeout_seconds": 30, "cpu_seconds": 10, "idle_seconds": 0, "memory_mb": 1024, "processes": 64, "file_mb": 64, "disk_mb": 256, "output_mb": 10, "open_files": 256}

func BenchmarkLimits(b *testing.B) {
	for name, v := range map[string]any{"special": struct{ L map[string]float64 }{limits}, "general": struct{ L other }{other(limits)}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			room := make([]byte, 0, 4096)
			for b.Loop() {
				Append(room, v)
			}
		})
	}
}
