package cgroup

import (
	"bytes"
	"path/filepath"
	"strconv"
)

// Memory is what a group holds at one moment, in bytes, as its memory.stat says. The page cache is in neither number: the kernel takes it back
// before an allocation fails.
type Memory struct {
	Held   int64 // anonymous and shared memory, swapped out or not
	Kernel int64 // what the kernel keeps for the group and cannot give back: stacks, page tables, sockets. Not known in v1
}

// Memory is what the group holds now. known is false where nothing counts it.
func (g *Group) Memory() (m Memory, known bool) {
	if g.memory == nil {
		return m, false
	}
	text, err := read(filepath.Join(g.memory.path, "memory.stat"))
	return memoryOf(text, g.memory.v2), err == nil
}

// memoryOf reads memory.stat. In v1 (cgroup-v1/memory.rst, section 5.2) the total_ fields include the groups below; rss is anonymous memory
// only, shmem is tmpfs, shared anonymous mappings and System V segments, and swap is of both. In v2 (cgroup-v2.rst) every field includes the
// groups below, kernel is all that the kernel keeps (since Linux 5.18), and of that only the reclaimable slabs come back.
func memoryOf(stat []byte, v2 bool) (m Memory) {
	fields := map[string]int64{}
	for line := range bytes.Lines(stat) {
		name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		fields[string(name)], _ = strconv.ParseInt(string(value), 10, 64)
	}
	if !v2 {
		return Memory{Held: fields["total_rss"] + fields["total_shmem"] + fields["total_swap"]}
	}
	m.Held = fields["anon"] + fields["shmem"]
	if kernel, has := fields["kernel"]; has {
		m.Kernel = kernel - fields["slab_reclaimable"]
	} else {
		m.Kernel = fields["kernel_stack"] + fields["pagetables"] + fields["percpu"] + fields["sock"] + fields["slab_unreclaimable"]
	}
	m.Kernel = max(m.Kernel, 0)
	return m
}

// OutOfMemory tells how many processes the kernel has killed because the group's memory was used up (see [Group.OOMKills]), and whether the
// group had none to give when it was asked for some, and nothing to take back: a process was killed for it or, in v2, an allocation failed.
func (g *Group) OutOfMemory() (kills int64, failed bool) {
	switch {
	case g.memory == nil:
		return 0, false
	case g.memory.v2:
		list := words(filepath.Join(g.memory.path, "memory.events"))
		kills = named(list, "oom_kill")
		return kills, kills > 0 || named(list, "oom") > 0
	}
	kills = g.OOMKills()
	return kills, kills > 0
}
