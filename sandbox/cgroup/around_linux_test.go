package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAround(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, cgroup, mountinfo string
		files                   map[string]string
		want                    Surroundings // MemoryAt below the root
	}{
		{"a container of its own namespace, read-only", "0::/\n", "35 23 0:32 / /cg ro,nosuid - cgroup2 cgroup rw,nsdelegate\n",
			map[string]string{"cg/cgroup.controllers": "cpu memory pids", "cg/memory.max": "536870912\n", "cg/pids.max": "500\n"},
			Surroundings{ReadOnly: true, Version2: true, Memory: 512 << 20, MemoryAt: "cg/memory.max", Processes: 500}},
		{"a host without a limit", "0::/user.slice/a\n", "35 23 0:32 / /cg rw,nosuid - cgroup2 cgroup2 rw\n",
			map[string]string{"cg/cgroup.controllers": "memory pids", "cg/user.slice/a/memory.max": "max\n", "cg/user.slice/memory.max": "max\n"},
			Surroundings{Version2: true}},
		{"the tightest of those above", "0::/a/b\n", "35 23 0:32 / /cg rw - cgroup2 cgroup2 rw\n",
			map[string]string{"cg/cgroup.controllers": "memory", "cg/a/b/memory.max": "2000\n", "cg/a/memory.max": "1000\n", "cg/a/pids.max": "7\n", "cg/a/b/pids.max": "9\n"},
			Surroundings{Version2: true, Memory: 1000, MemoryAt: "cg/a/memory.max", Processes: 7}},
		{"v1, the file system read-only", "4:memory:/docker/id\n2:pids:/docker/id\n",
			"31 23 0:28 /docker/id /cg/memory ro - cgroup cgroup ro,memory\n33 23 0:30 /docker/id /cg/pids rw - cgroup cgroup ro,pids\n",
			map[string]string{"cg/memory/memory.limit_in_bytes": "268435456\n", "cg/pids/pids.max": "max\n"},
			Surroundings{ReadOnly: true, Memory: 256 << 20, MemoryAt: "cg/memory/memory.limit_in_bytes"}},
		{"v1, no limit", "4:memory:/\n", "31 23 0:28 / /cg/memory rw - cgroup cgroup rw,memory\n",
			map[string]string{"cg/memory/memory.limit_in_bytes": "9223372036854771712\n"}, Surroundings{}},
		{"some read-only", "4:memory:/\n2:pids:/\n", "31 23 0:28 / /cg/memory ro - cgroup cgroup rw,memory\n33 23 0:30 / /cg/pids rw - cgroup cgroup rw,pids\n", nil, Surroundings{}},
		{"a path of the host's", "0::/../../kubepods/x\n", "35 23 0:32 / /cg ro - cgroup2 cgroup2 rw\n",
			map[string]string{"cg/cgroup.controllers": "memory", "cg/memory.max": "1048576\n"}, Surroundings{ReadOnly: true, Version2: true, Memory: 1 << 20, MemoryAt: "cg/memory.max"}},
		{"nothing mounted", "0::/\n", "", nil, Surroundings{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := host(t, tt.cgroup, tt.mountinfo, nil)
			for path, text := range tt.files {
				path = filepath.Join(root, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got := around(root)
			got.MemoryAt = strings.TrimPrefix(got.MemoryAt, root+"/")
			if got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}
