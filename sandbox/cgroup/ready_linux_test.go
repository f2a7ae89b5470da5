package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

// A file that is kept open is read anew each time, like one that is not; when it is gone, or nothing is kept any more, as by its path.
func TestKept(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k := newKept()
	for _, open := range []bool{true, false} {
		for _, text := range []string{"max 3\n", "low 1\nmax 41\n", "max 5\n"} {
			put(text)
			if got, want := k.field(path, "max"), (*kept)(nil).field(path, "max"); got != want || want == 0 {
				t.Errorf("open %t: %d, want %d", open, got, want)
			}
			if (len(k.open) == 1) != open {
				t.Errorf("open %t: %v", open, k.open)
			}
		}
		k.close()
	}
	if _, err := newKept().read(path + ".none"); !os.IsNotExist(err) {
		t.Errorf("error %v, want that of a file that does not exist", err)
	}
	(*kept)(nil).close()
}

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
	if g.kept != nil || run.kept == nil {
		t.Error("the open files were not handed over")
	}
	if gaps := run.Limit(usual); len(gaps) > 0 || limit() != "" || !run.Limits("memory") {
		t.Errorf("gaps %v, limit %q, in force %t", gaps, limit(), run.Limits("memory"))
	}
	run.Close()
	if run.kept.open != nil {
		t.Error("files are still open")
	}
	run = prepared(usual).Handover()
	if run.Limit(Limits{Memory: 2 << 20}); limit() != "2097152" {
		t.Errorf("limit %q", limit())
	}
	run.Close()
}
