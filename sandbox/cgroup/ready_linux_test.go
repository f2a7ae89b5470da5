package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

// Limits that were set ahead are not set again; others are. Who prepared them has handed over the open files.
func TestReady(t *testing.T) {
	t.Parallel()
	place := t.TempDir()
	for _, name := range []string{"memory.limit_in_bytes", "memory.oom_control", "memory.max_usage_in_bytes"} {
		if err := os.WriteFile(filepath.Join(place, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	limit := func() string {
		text, err := os.ReadFile(filepath.Join(place, "memory.limit_in_bytes"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	prepared := func(l Limits) *Group {
		g := &Group{why: map[string]string{}, dirs: []dir{{path: place, version: v1{}, controllers: []string{"memory", "kill", "cpuacct"}}}}
		g.Ready(l)
		return g
	}
	usual := Limits{Memory: 1 << 20}
	g := prepared(usual)
	if limit() != "1048576" {
		t.Fatalf("limit %q", limit())
	}
	os.Truncate(filepath.Join(place, "memory.limit_in_bytes"), 0)
	run := g.Handover()
	if g.files != nil || run.files == nil {
		t.Error("the open files were not handed over")
	}
	if gaps := run.Limit(usual); len(gaps) > 0 || limit() != "" || !run.Limits("memory") {
		t.Errorf("gaps %v, limit %q, in force %t", gaps, limit(), run.Limits("memory"))
	}
	run.Close()
	if run.files.open != nil {
		t.Error("files are still open")
	}
	run = prepared(usual).Handover()
	if run.Limit(Limits{Memory: 2 << 20}); limit() != "2097152" {
		t.Errorf("limit %q", limit())
	}
	run.Close()
}
