package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

// What a file system has cached is never part of what a group holds, in either version and on old
// kernels.
func TestMemoryOf(t *testing.T) {
	t.Parallel()
	const stat1 = "cache 300000000\nrss 9\nshmem 9\nmapped_file 8\nswap 1\ninactive_file 5\nhierarchical_memory_limit 134217728\n" +
		"total_cache 310000000\ntotal_rss 7340032\ntotal_rss_huge 2097152\ntotal_shmem 1048576\ntotal_mapped_file 4096\ntotal_swap 4096\ntotal_inactive_file 300000000\n"
	const stat2 = "anon 7340032\nfile 310000000\nkernel 5242880\nkernel_stack 65536\npagetables 131072\npercpu 512\nsock 4096\nvmalloc 0\nshmem 1048576\n" +
		"file_mapped 4096\nslab_reclaimable 4194304\nslab_unreclaimable 262144\nslab 4456448\nworkingset_refault_anon 3\n"
	const before518 = "anon 7340032\nfile 310000000\nkernel_stack 65536\npagetables 131072\npercpu 512\nsock 4096\nshmem 1048576\nslab_reclaimable 4194304\nslab_unreclaimable 262144\n"
	tests := []struct {
		name, stat string
		version    version
		want       Memory
	}{
		{"v1, with the groups below", stat1, v1{}, Memory{Held: 7340032 + 1048576 + 4096}},
		{"v2", stat2, v2{}, Memory{Held: 7340032 + 1048576, Kernel: 1048576}},
		{"v2 before Linux 5.18", before518, v2{}, Memory{Held: 7340032 + 1048576, Kernel: 65536 + 131072 + 512 + 4096 + 262144}},
		{"v2, all of the kernel's can be given back", "anon 1\nkernel 5\nslab_reclaimable 9\n", v2{}, Memory{Held: 1}},
		{"nothing", "", v2{}, Memory{}},
		{"not a number", "anon x\nshmem 5\n\nodd", v2{}, Memory{Held: 5}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.version.memory([]byte(tt.stat)); got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, events, control string
		version               version
		kills                 int64
		want                  bool
	}{
		{"v2, reached and reclaimed", "low 0\nhigh 7\nmax 12\noom 0\noom_kill 0\n", "", v2{}, 0, false},
		{"v2, an allocation failed", "low 0\nhigh 7\nmax 12\noom 1\noom_kill 0\n", "", v2{}, 0, true},
		{"v2, a kill", "low 0\nhigh 7\nmax 12\noom 1\noom_kill 1\noom_group_kill 1\n", "", v2{}, 1, true},
		{"v1, nothing", "", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", v1{}, 0, false},
		{"v1, a kill", "", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", v1{}, 2, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := t.TempDir()
			at := &dir{path: path, version: tt.version}
			for name, text := range map[string]string{"memory.events": tt.events, "memory.oom_control": tt.control, "memory.stat": "anon 3\n"} {
				if err := os.WriteFile(filepath.Join(path, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			g := &Group{}
			if kills, failed := g.OutOfMemory(); kills > 0 || failed {
				t.Error("a group without the controller is out of memory")
			}
			if _, known := g.Memory(); known {
				t.Error("a group without the controller knows its memory")
			}
			g.memory = at
			if kills, failed := g.OutOfMemory(); kills != tt.kills || failed != tt.want {
				t.Errorf("%d kills, failed %t, want %d, %t", kills, failed, tt.kills, tt.want)
			}
			if _, known := g.Memory(); !known {
				t.Error("memory.stat is not read")
			}
		})
	}
}
