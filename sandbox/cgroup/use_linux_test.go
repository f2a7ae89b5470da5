package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestUseOf(t *testing.T) {
	t.Parallel()
	type files = map[string]string
	procs := files{"cgroup.procs": "1\n"}
	with := func(more files) files {
		all := files{"cgroup.procs": "1\n"}
		for name, text := range more {
			all[name] = text
		}
		return all
	}
	for _, tt := range []struct {
		name  string
		lines string // ROOT is the directory
		files map[string]files
		want  Use
		ok    bool
	}{
		{"v2", "group 2 memory,pids,cpu,kill ROOT/a", map[string]files{"a": with(files{"cpu.stat": "usage_usec 1500000\n", "memory.stat": "anon 5\nshmem 2\nfile 9\n", "pids.current": "3\n"})}, Use{1500 * time.Millisecond, 7, 3}, true},
		{"v2, adopted", "group 2 memory,pids,cpu,kill ROOT/a\nspent 500000000", map[string]files{"a": with(files{"cpu.stat": "usage_usec 1500000\n", "memory.stat": "", "pids.current": "3\n"})}, Use{time.Second, 0, 3}, true},
		{"v2, only to kill", "group 2 kill ROOT/a", map[string]files{"a": with(files{"cpu.stat": "usage_usec 1000000\n", "memory.stat": "anon 5\n", "pids.current": "3\n"})}, Use{time.Second, -1, -1}, true},
		{"v1 and v2", "group 1 memory ROOT/a\ngroup 1 pids ROOT/b\ngroup 2 kill ROOT/c", map[string]files{"a": with(files{"memory.stat": "total_rss 5\ntotal_shmem 2\n"}), "b": with(files{"pids.current": "4\n"}), "c": with(files{"cpu.stat": "usage_usec 2000000\n"})},
			Use{2 * time.Second, 7, 4}, true},
		{"gone", "group 2 memory,pids,cpu,kill ROOT/a", nil, Use{0, -1, -1}, false},
		{"none", "", nil, Use{-1, -1, -1}, false},
		{"no group's", "lack memory because\ngroup 9 memory ROOT/a", map[string]files{"a": procs}, Use{-1, -1, -1}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			for dir, list := range tt.files {
				if err := os.Mkdir(filepath.Join(root, dir), 0o700); err != nil {
					t.Fatal(err)
				}
				for name, text := range list {
					if err := os.WriteFile(filepath.Join(root, dir, name), []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			if got, ok := UseOf(strings.Split(strings.ReplaceAll(tt.lines, "ROOT", root), "\n")); got != tt.want || ok != tt.ok {
				t.Errorf("%+v, %t, want %+v, %t", got, ok, tt.want, tt.ok)
			}
		})
	}
}

// What another process reads of a group is what it uses.
func TestUseLines(t *testing.T) {
	t.Parallel()
	g := &Group{dirs: []dir{{path: "/a", version: v2{}, controllers: []string{"memory", "kill"}}}, why: map[string]string{"pids": "why"}, spent: 7}
	if got := strings.Join(g.UseLines(), "|"); got != "group 2 memory,kill /a|spent 7" {
		t.Errorf("%q", got)
	}
	if got := (&Group{spent: 7}).UseLines(); len(got) > 0 {
		t.Errorf("a group without directories has %q", got)
	}
}
