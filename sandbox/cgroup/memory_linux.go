package cgroup

import "path/filepath"

// Memory is what a group holds at one moment, in bytes, as its memory.stat says. The page cache is
// in neither number: the kernel takes it back before an allocation fails.
type Memory struct {
	Held   int64 // anonymous and shared memory, swapped out or not
	Kernel int64 // what the kernel keeps for the group and cannot give back: stacks, page tables, sockets. Not known in v1
}

// Memory is what the group holds now. known is false where nothing counts it.
func (g *Group) Memory() (m Memory, known bool) {
	if g.memory == nil {
		return m, false
	}
	text, err := g.read(filepath.Join(g.memory.path, "memory.stat"))
	return g.memory.version.memory(text), err == nil
}

// OutOfMemory tells how many processes the kernel has killed because the group's memory was used
// up, and whether the group had none to give when it was asked for some, and nothing to take back:
// a process was killed for it or, in v2, an allocation failed.
func (g *Group) OutOfMemory() (kills int64, failed bool) {
	if g.memory == nil {
		return 0, false
	}
	return g.memory.version.outOfMemory(g.read, g.memory.path)
}
