package cgroup

import "time"

// A version is what differs between the two versions of the kernel's interface: v1 (cgroup-v1/) and
// v2 (cgroup-v2.rst). Paths are directories of groups.
type version interface {
	name() string // in Group.Lines

	// place finds where below a mounted hierarchy this process may make groups. configured: only at
	// path itself.
	place(p *Place, m mount, path string, configured bool)
	// reachable tells whether a process of group own may move below group parent.
	reachable(m mount, own, parent string) error
	// enter opens, in the group, the file by which processes enter.
	enter(g *Group, path string) error
	// limit sets what one controller limits.
	limit(path, controller string, l Limits) error
	// directOnly tells whether only writes past the page cache are slowed down.
	directOnly() bool
	// counts tells whether a group with this controller counts CPU time.
	counts(controller string) bool
	cpu(from reader, path string) time.Duration
	peakMemory(from reader, path string) int64
	memory(stat []byte) Memory
	// outOfMemory: see Group.OutOfMemory.
	outOfMemory(from reader, path string) (kills int64, failed bool)
	// kill kills all processes of the group at once. False: it cannot.
	kill(path string) bool
	// notice opens a descriptor that is ready, for these events of poll(2), when the use of memory
	// passes a number of bytes.
	notice(path string, bytes int64) (event int, ready int16, err error)
	// heard ends what the notice does beside it.
	heard(path string)
}

// versions are both, by name.
var versions = map[string]version{"1": v1{}, "2": v2{}}
