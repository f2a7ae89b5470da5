// Package cgroup makes the control group of one run, over as many hierarchies as the host has:
// cgroup v2, v1, or both at once.
//
// The launcher makes the group, and the program itself enters it, just before its execve. The
// launcher never moves. What a host does not give is a [Gap], with the cause. version_linux.go says
// what differs between v1 and v2. Sources: cgroups(7), the kernel's admin-guide/cgroup-v2.rst and
// cgroup-v1/, systemd's CGROUP_DELEGATION.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Group is the control group of one run.
type Group struct {
	dirs    []dir
	why     map[string]string // ability: why it is not there
	limits  Limits
	adopted bool
	ahead   *Limits       // that Ready has set; nil: none
	spent   time.Duration // CPU time before the group was adopted
	memory  *dir          // that has the controller, or nil
	pids    *dir
	cpu     *dir       // accounts for CPU time
	tasks   []*os.File // v1
	unified *os.File   // v2
	files   *files     // nil: each look opens them
}

// A dir is a group in one hierarchy.
type dir struct {
	path        string
	version     version
	controllers []string // that a group made here has
}

// Paths are the directories that Make may make for a name.
func (p Place) Paths(name string) (paths []string) {
	for _, d := range p.dirs {
		paths = append(paths, filepath.Join(d.path, name))
	}
	return paths
}

// Make makes a group with a name of its own and sets its limits. A limit that the host does not
// give is a gap; the group is there for the others. An error means that no directory could be made,
// or that the name is taken.
func (p Place) Make(name string, l Limits) (*Group, []Gap, error) {
	g, err := p.Prepare(name, l)
	if err != nil {
		return nil, nil, err
	}
	return g, g.Limit(l), nil
}

// needs are the controllers that limits take.
func (l Limits) needs() map[string]bool {
	return map[string]bool{"memory": l.Memory > 0, "pids": l.Processes > 0, "cpu": l.CPUs > 0, "io": l.ReadRate > 0 || l.WriteRate > 0, "kill": true}
}

// Prepare makes a group for limits of this kind, whatever their numbers, that [Group.Limit] sets later.
func (p Place) Prepare(name string, l Limits) (*Group, error) {
	g := &Group{why: maps.Clone(p.why)}
	need := l.needs()
	need["cpuacct"] = !p.has("kill") // a v2 group accounts for CPU without any controller
	for _, d := range p.dirs {
		if !slices.ContainsFunc(d.controllers, func(c string) bool { return need[c] }) {
			continue
		}
		d.path = filepath.Join(d.path, name)
		if err := os.Mkdir(d.path, 0o755); err != nil {
			if errors.Is(err, fs.ErrExist) {
				g.Close()
				g.Remove()
				return nil, fmt.Errorf("mkdir %s: %w", d.path, unix.EEXIST)
			}
			for _, c := range d.controllers {
				if need[c] {
					g.why[c] = "mkdir " + d.path + ": " + plain(err)
				}
			}
			continue
		}
		g.dirs = append(g.dirs, d)
		if err := d.version.enter(g, d.path); err != nil {
			for _, c := range d.controllers {
				g.why[c] = plain(err)
			}
			os.Remove(d.path)
			g.dirs = g.dirs[:len(g.dirs)-1]
		}
	}
	return g, nil
}

// Ready sets the limits that a group will probably get. Limit does not set the same ones again. It sets all of them if there is one that the host does not
// give, or one for each disk, because disks come and go. Ready also opens the files that will be read.
func (g *Group) Ready(l Limits) {
	if l.ReadRate == 0 && l.WriteRate == 0 && len(g.Limit(l)) == 0 {
		g.ahead = &l
	}
	g.KeepOpen()
	g.CPU()
	g.OutOfMemory()
	g.PeakMemory()
	g.PeakProcesses()
	g.Refused()
}

// Handover is the group for a run of this process: as [Adopt] of its Lines, with what Ready has done. The run closes its files.
func (g *Group) Handover() *Group {
	h := &Group{dirs: slices.Clone(g.dirs), why: maps.Clone(g.why), ahead: g.ahead, files: g.files, adopted: true}
	g.files = nil
	return h
}

// Limit sets the limits of a group, and returns those that the host does not give.
func (g *Group) Limit(l Limits) (gaps []Gap) {
	lack := func(controller, why string) { gaps = append(gaps, Gap{controller, why}) }
	g.limits = l
	need := l.needs()
	need["cpuacct"] = !slices.ContainsFunc(g.dirs, func(d dir) bool { return d.version.counts("kill") })
	for i := range g.dirs {
		d := &g.dirs[i]
		for _, c := range d.controllers {
			if !need[c] {
				continue
			}
			if g.ahead == nil || *g.ahead != l {
				if err := d.version.limit(d.path, c, l); err != nil {
					g.why[c] = plain(err)
					continue
				}
			}
			need[c] = false
			if c == "io" && l.WriteRate > 0 && d.version.directOnly() {
				lack("io-writes", "cgroup v1 slows down direct writes only, not those through the page cache")
			}
			switch c {
			case "memory":
				g.memory = d
			case "pids":
				g.pids = d
			}
			if d.version.counts(c) {
				g.cpu = d
			}
		}
	}
	for _, c := range abilities {
		if need[c] {
			lack(c, g.why[c])
		}
	}
	if g.adopted {
		g.spent, _ = g.CPU()
	}
	return gaps
}

// Lines describe a prepared group for another process of this user: see [Adopt].
func (g *Group) Lines() (lines []string) {
	for _, d := range g.dirs {
		lines = append(lines, "group "+d.version.name()+" "+strings.Join(d.controllers, ",")+" "+d.path)
	}
	for _, c := range abilities {
		if why := g.why[c]; why != "" {
			lines = append(lines, "lack "+c+" "+strings.ReplaceAll(why, "\n", " "))
		}
	}
	return lines
}

// Adopt is the group that [Group.Lines] describe. It has no files: the process that has prepared it
// lets processes in.
func Adopt(lines []string) *Group {
	g := &Group{why: map[string]string{}, adopted: true}
	for _, line := range lines {
		switch f := strings.SplitN(line, " ", 4); {
		case len(f) == 4 && f[0] == "group" && versions[f[1]] != nil:
			g.dirs = append(g.dirs, dir{path: f[3], version: versions[f[1]], controllers: strings.Split(f[2], ",")})
		case len(f) >= 3 && f[0] == "lack":
			g.why[f[1]] = strings.Join(f[2:], " ")
		}
	}
	return g
}

// Paths are the directories of the group.
func (g *Group) Paths() (paths []string) {
	for _, d := range g.dirs {
		paths = append(paths, d.path)
	}
	return paths
}

// Tasks are files of the v1 hierarchies: a process with one thread that writes "0" to each has
// entered. (For a thread that moves itself the kernel takes no lock over all processors; a write to
// cgroup.procs takes one, which costs ten milliseconds and more.) The group owns them.
func (g *Group) Tasks() []*os.File { return g.tasks }

// Entries are files of all hierarchies that let the process in which writes "0" to them, if it has
// one thread. The group owns them. For v2 that takes as long as [Group.Tasks] tells of
// cgroup.procs.
func (g *Group) Entries() ([]*os.File, error) {
	entries := g.tasks
	if g.unified != nil {
		fd, err := unix.Openat(int(g.unified.Fd()), "cgroup.procs", unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("open cgroup.procs: %w", err)
		}
		g.tasks = append(g.tasks, os.NewFile(uintptr(fd), "cgroup.procs"))
		entries = g.tasks
	}
	return entries, nil
}

// Unified is the group's directory in v2, or nil: for clone3(2) with CLONE_INTO_CGROUP. The group
// owns it.
func (g *Group) Unified() *os.File { return g.unified }

// Close closes these files, which are needed until the program has entered, and those that Ready has opened.
func (g *Group) Close() {
	g.CloseFiles()
	for _, f := range g.tasks {
		f.Close()
	}
	g.unified.Close() // nil is fine
	g.tasks, g.unified = nil, nil
}

// Limits tells whether the group limits memory ("memory") or processes ("pids").
func (g *Group) Limits(controller string) bool {
	return controller == "memory" && g.memory != nil || controller == "pids" && g.pids != nil
}

// OOMKills is how many processes the kernel has killed because the group's memory was used up.
func (g *Group) OOMKills() int64 {
	kills, _ := g.OutOfMemory()
	return kills
}

// PeakMemory is the most memory that the group has used, in bytes, the page cache included; 0 if
// that is not known.
func (g *Group) PeakMemory() int64 {
	if g.memory == nil {
		return 0
	}
	return g.memory.version.peakMemory(g.read, g.memory.path)
}

// Refused is how often a process or thread could not be made because of the limit.
func (g *Group) Refused() int64 {
	if g.pids == nil {
		return 0
	}
	return reader(g.read).field(filepath.Join(g.pids.path, "pids.events"), "max")
}

// Processes is how many processes and threads there are now.
func (g *Group) Processes() int {
	if g.pids == nil {
		return 0
	}
	return int(reader(g.read).number(filepath.Join(g.pids.path, "pids.current")))
}

// PeakProcesses is the most processes and threads at once; 0 if that is not known.
func (g *Group) PeakProcesses() int {
	if g.pids == nil {
		return 0
	}
	return int(reader(g.read).number(filepath.Join(g.pids.path, "pids.peak"))) // since Linux 6.1
}

// Counted tells whether the group counts CPU time.
func (g *Group) Counted() bool { return g.cpu != nil }

// CPU is the time that all processes of the group have used, dead ones included, since it was made
// or adopted. known is false where it is not counted.
func (g *Group) CPU() (used time.Duration, known bool) {
	if g.cpu == nil {
		return 0, false
	}
	return g.cpu.version.cpu(g.read, g.cpu.path) - g.spent, true
}
