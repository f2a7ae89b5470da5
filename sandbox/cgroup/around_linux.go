package cgroup

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Surroundings are what holds for this process already, and whether that can be changed from here.
type Surroundings struct {
	ReadOnly  bool   // no control group can be made: all hierarchies are mounted read-only
	Version2  bool   // the memory controller is in the v2 hierarchy
	Memory    int64  // bytes: the smallest limit on the groups of this process that can be seen from here; 0: none
	MemoryAt  string // the file that it is in
	Processes int64  // likewise
}

// Around looks at them. In a container this is its own limit, as far as its engine shows it.
func Around() Surroundings { return around("/") }

func around(root string) (s Surroundings) {
	mounts, own, err := hierarchies(root)
	if err != nil {
		return s
	}
	s.ReadOnly = len(mounts) > 0
	for _, m := range mounts {
		s.ReadOnly = s.ReadOnly && m.readOnly
		s.Version2 = s.Version2 || m.version == version(v2{}) && slices.Contains(words(filepath.Join(m.point, "cgroup.controllers")), "memory")
		rel, inside := strings.CutPrefix(own[m.key], strings.TrimSuffix(m.root, "/"))
		if !inside || strings.Contains(rel, "/..") {
			rel = "" // the path is one of the host's; the mount is what the engine shows of it
		}
		for at := filepath.Join(m.point, rel); ; at = filepath.Dir(at) {
			for _, name := range []string{"memory.max", "memory.limit_in_bytes"} {
				if n := limitAt(filepath.Join(at, name)); n > 0 && (s.Memory == 0 || n < s.Memory) {
					s.Memory, s.MemoryAt = n, filepath.Join(at, name)
				}
			}
			if n := limitAt(filepath.Join(at, "pids.max")); n > 0 && (s.Processes == 0 || n < s.Processes) {
				s.Processes = n
			}
			if at == m.point || len(at) <= len(m.point) {
				break
			}
		}
	}
	return s
}

// limitAt is the number in a file; 0 where there is none, or as good as none: v1 has a number of
// pages near 2^63 then.
func limitAt(path string) int64 {
	text, _ := read(path)
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || n >= 1<<60 {
		return 0
	}
	return n
}
