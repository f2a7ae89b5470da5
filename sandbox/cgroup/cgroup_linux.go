// Package cgroup makes the control group of one run, over as many hierarchies as the host has: cgroup v2, v1, or both at once.
//
// A group is made by the launcher and entered by the program itself, just before its execve; the launcher never
// moves. What a host does not give is told as a [Gap], with the cause. Sources: cgroups(7), the kernel's
// admin-guide/cgroup-v2.rst and cgroup-v1/, systemd's CGROUP_DELEGATION.
package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of one group. Zero means none.
type Limits struct {
	Memory    int64   // bytes of the whole tree, swap included
	Processes int     // processes and threads of the whole tree
	CPUs      float64 // processors' worth of time per second
	ReadRate  int64   // bytes a second from each block device
	WriteRate int64   // bytes a second to each block device
}

// A Gap is what was asked for and is not to be had here.
type Gap struct {
	Controller string // "memory", "pids", "cpu", "io", "kill"; "io-writes" when only writes past the page cache are slowed down
	Why        string
}

// A Place is where this process may make groups: one directory a hierarchy.
type Place struct {
	dirs []dir
	why  map[string]string // controller: why there is none
}

type dir struct {
	path        string
	v2          bool
	controllers []string // that a group made here has
}

// A Group is the control group of one run.
type Group struct {
	dirs    []dir
	why     map[string]string // ability: why it is not there
	limits  Limits
	adopted bool
	spent   time.Duration // CPU time before the group was adopted
	memory  *dir          // that has the controller, or nil
	pids    *dir
	cpu     *dir       // accounts for CPU time
	tasks   []*os.File // v1
	unified *os.File   // v2
}

// abilities are what a group may give a run: the controllers by their v2 name, and the kill of all its processes at once.
var abilities = []string{"memory", "pids", "cpu", "io", "kill"}

// wanted are the controllers among them.
var wanted = abilities[:4]

// v1 names of the same.
var v1Names = map[string]string{"memory": "memory", "pids": "pids", "cpu": "cpu", "io": "blkio", "cpuacct": "cpuacct"}

// Find finds where groups can be made. parent is a group below which they go in every hierarchy, such as
// "/py3run.slice": it is made if it is missing. Empty: below the group of this process, or the nearest above it where the
// controllers are to be had. Find changes nothing but, in a delegated v2 group, which controllers its children have.
func Find(parent string) Place { return find("/", parent) }

// find is Find under a root directory, for tests.
func find(root, parent string) Place {
	p := Place{why: map[string]string{}}
	mounts, own, err := hierarchies(root)
	if err != nil {
		for _, c := range abilities {
			p.why[c] = err.Error()
		}
		return p
	}
	for _, m := range mounts {
		path, ok := own[m.key]
		if !ok {
			continue
		}
		rel, inside := strings.CutPrefix(path, strings.TrimSuffix(m.root, "/"))
		if !inside || strings.Contains(rel, "/..") {
			p.lack(m, "this process's group is outside of what is mounted at "+m.point)
			continue
		}
		if parent != "" {
			if err := reachable(m, rel, parent); err != nil {
				p.lack(m, err.Error())
				continue
			}
			rel = parent
			if err := os.MkdirAll(filepath.Join(m.point, rel), 0o755); err != nil {
				p.lack(m, plain(err))
				continue
			}
		}
		if m.v2 {
			p.unified(m, filepath.Join(m.point, rel), parent != "")
		} else {
			p.legacy(m, filepath.Join(m.point, rel))
		}
	}
	for _, c := range abilities {
		if p.why[c] == "" && !p.has(c) {
			p.why[c] = "no such controller is mounted here"
		}
	}
	return p
}

// reachable tells whether a process of group own may move below group parent. In v2 that takes the right to write to the nearest group above
// both (cgroup-v2.rst, "delegation containment").
func reachable(m mount, own, parent string) error {
	if !m.v2 {
		return nil
	}
	above := filepath.Clean("/" + own)
	for above != "/" && above != filepath.Clean(parent) && !strings.HasPrefix(filepath.Clean(parent), above+"/") {
		above = filepath.Dir(above)
	}
	path := filepath.Join(m.point, above, "cgroup.procs")
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("no way from this process's group %s to %s: %s: %w", own, parent, path, err)
	}
	return nil
}

func (p *Place) has(controller string) bool {
	return slices.ContainsFunc(p.dirs, func(d dir) bool { return slices.Contains(d.controllers, controller) })
}

// Has tells whether groups made here have a controller.
func (p Place) Has(controller string) bool { return p.has(controller) }

// lack notes why the controllers of a hierarchy are not to be had.
func (p *Place) lack(m mount, why string) {
	controllers := m.controllers
	if m.v2 {
		controllers = abilities
	}
	for _, c := range controllers {
		if p.why[c] == "" {
			p.why[c] = why
		}
	}
}

// legacy is a v1 hierarchy: groups go below the own one.
func (p *Place) legacy(m mount, path string) {
	if err := writable(path); err != nil {
		p.lack(m, path+": "+plain(err))
		return
	}
	p.dirs = append(p.dirs, dir{path: path, controllers: m.controllers})
}

// unified is the v2 hierarchy. A group with processes in it can have no controllers for its children (admin-guide, "no internal process
// constraint"), so the own group rarely will do; the next above it that this user may write is tried in turn.
func (p *Place) unified(m mount, path string, configured bool) {
	killOnly := ""
	var why error
	for at := path; ; at = filepath.Dir(at) {
		err := writable(at)
		if err == nil && killOnly == "" {
			killOnly = at
		}
		if err == nil {
			have := words(filepath.Join(at, "cgroup.subtree_control"))
			if want := missing(have, wanted); len(want) > 0 && (configured || delegated(at)) {
				for _, c := range want { // one by one: a host may lack one of them
					if e := write(filepath.Join(at, "cgroup.subtree_control"), "+"+c); e != nil && why == nil {
						why = fmt.Errorf("%s: controller %s: %s", at, c, plain(e))
					}
				}
				have = words(filepath.Join(at, "cgroup.subtree_control"))
			}
			if len(missing(have, []string{"memory", "pids"})) == 0 {
				p.dirs = append(p.dirs, dir{path: at, v2: true, controllers: append(have, "kill")})
				return
			}
		} else if why == nil {
			why = fmt.Errorf("%s: %s", at, plain(err))
		}
		if at == m.point || configured {
			break
		}
	}
	if killOnly != "" {
		p.dirs = append(p.dirs, dir{path: killOnly, v2: true, controllers: []string{"kill"}})
		if why == nil {
			why = errors.New(killOnly + ": the memory and pids controllers are not enabled here")
		}
	}
	p.lack(m, why.Error())
}

// delegated tells whether the children's controllers of a group are ours to choose: systemd marks what it has delegated;
// what an ordinary user can write was given to it.
func delegated(path string) bool {
	if os.Geteuid() != 0 {
		return true
	}
	for _, name := range []string{"trusted.delegate", "user.delegate"} {
		value := make([]byte, 1)
		if n, err := unix.Getxattr(path, name, value); err == nil && n == 1 && value[0] == '1' {
			return true
		}
	}
	return false
}

// writable tells whether groups can be made in a directory, and entered from it.
func writable(path string) error {
	for _, p := range []string{path, filepath.Join(path, "cgroup.procs")} {
		if err := unix.Faccessat(unix.AT_FDCWD, p, unix.W_OK, unix.AT_EACCESS); err != nil {
			return err
		}
	}
	return nil
}

// Paths are the directories that Make may make for a name.
func (p Place) Paths(name string) (paths []string) {
	for _, d := range p.dirs {
		paths = append(paths, filepath.Join(d.path, name))
	}
	return paths
}

// Make makes a group with a name of its own and sets its limits. A limit that cannot be had is a gap; the group is
// there for the others. The error is that not even a directory could be made, or that the name is taken.
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
		var err error
		if d.v2 {
			g.unified, err = open(d.path, unix.O_RDONLY|unix.O_DIRECTORY)
		} else {
			var tasks *os.File
			if tasks, err = open(filepath.Join(d.path, "tasks"), unix.O_WRONLY); err == nil {
				g.tasks = append(g.tasks, tasks)
			}
		}
		if err != nil {
			for _, c := range d.controllers {
				g.why[c] = plain(err)
			}
			os.Remove(d.path)
			g.dirs = g.dirs[:len(g.dirs)-1]
		}
	}
	return g, nil
}

// Limit sets the limits of a group, and says what of them cannot be had.
func (g *Group) Limit(l Limits) (gaps []Gap) {
	lack := func(controller, why string) { gaps = append(gaps, Gap{controller, why}) }
	g.limits = l
	need := l.needs()
	need["cpuacct"] = !slices.ContainsFunc(g.dirs, func(d dir) bool { return d.v2 })
	for i := range g.dirs {
		d := &g.dirs[i]
		for _, c := range d.controllers {
			if !need[c] {
				continue
			}
			if err := d.limit(c, l); err != nil {
				g.why[c] = plain(err)
				continue
			}
			need[c] = false
			if c == "io" && !d.v2 && l.WriteRate > 0 {
				lack("io-writes", "cgroup v1 slows down direct writes only, not those through the page cache")
			}
			switch c {
			case "memory":
				g.memory = d
			case "pids":
				g.pids = d
			}
			if d.v2 || c == "cpuacct" {
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
		version := "1"
		if d.v2 {
			version = "2"
		}
		lines = append(lines, "group "+version+" "+strings.Join(d.controllers, ",")+" "+d.path)
	}
	for _, c := range abilities {
		if why := g.why[c]; why != "" {
			lines = append(lines, "lack "+c+" "+strings.ReplaceAll(why, "\n", " "))
		}
	}
	return lines
}

// Adopt is the group that [Group.Lines] describe. It has no files: whoever has prepared it lets processes in.
func Adopt(lines []string) *Group {
	g := &Group{why: map[string]string{}, adopted: true}
	for _, line := range lines {
		switch f := strings.SplitN(line, " ", 4); {
		case len(f) == 4 && f[0] == "group":
			g.dirs = append(g.dirs, dir{path: f[3], v2: f[1] == "2", controllers: strings.Split(f[2], ",")})
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

// limit sets what one controller limits.
func (d dir) limit(controller string, l Limits) error {
	set := func(name, value string) error { return write(filepath.Join(d.path, name), value) }
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	const period = 100000 // microseconds
	switch {
	case controller == "memory" && d.v2:
		if err := set("memory.max", number(l.Memory)); err != nil {
			return err
		}
		set("memory.oom.group", "1") // since Linux 4.19; without it the launcher ends the rest
		if err := set("memory.swap.max", "0"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// Notice before the end: see Group.AlmostFull. It throttles, but only a group that is about to be ended.
		set("memory.high", number(l.Memory-slack(l.Memory)))
	case controller == "memory":
		if err := set("memory.limit_in_bytes", number(l.Memory)); err != nil {
			return err
		}
		// Memory and swap together; the file is missing where swap is not accounted for.
		if err := set("memory.memsw.limit_in_bytes", number(l.Memory)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	case controller == "pids":
		return set("pids.max", strconv.Itoa(l.Processes))
	case controller == "cpu" && d.v2:
		return set("cpu.max", fmt.Sprintf("%d %d", max(1000, int64(l.CPUs*period)), period))
	case controller == "cpu":
		if err := set("cpu.cfs_period_us", number(period)); err != nil {
			return err
		}
		return set("cpu.cfs_quota_us", number(max(1000, int64(l.CPUs*period))))
	case controller == "io":
		for _, device := range disks() {
			for _, way := range []struct {
				rate   int64
				v2, v1 string
			}{{l.ReadRate, "rbps", "read"}, {l.WriteRate, "wbps", "write"}} {
				if way.rate == 0 {
					continue
				}
				var err error
				if d.v2 {
					err = set("io.max", fmt.Sprintf("%s %s=%d", device, way.v2, way.rate))
				} else {
					err = set("blkio.throttle."+way.v1+"_bps_device", fmt.Sprintf("%s %d", device, way.rate))
				}
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// disks are the block devices that have a size, as major:minor.
func disks() (numbers []string) {
	sizes, _ := filepath.Glob("/sys/block/*/size")
	for _, path := range sizes {
		size, _ := os.ReadFile(path)
		number, err := os.ReadFile(filepath.Join(filepath.Dir(path), "dev"))
		if err == nil && strings.TrimSpace(string(size)) != "0" {
			numbers = append(numbers, strings.TrimSpace(string(number)))
		}
	}
	return numbers
}

// Tasks are files of the v1 hierarchies: a process with one thread that writes "0" to each has entered. (For a thread that moves itself
// the kernel takes no lock over all processors; a write to cgroup.procs takes one, which costs ten milliseconds and more.) The group owns them.
func (g *Group) Tasks() []*os.File { return g.tasks }

// Entries are files of all hierarchies that let the process in which writes "0" to them, if it has one thread. The group owns them. For v2 that takes
// as long as [Group.Tasks] tells of cgroup.procs.
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

// Unified is the group's directory in v2, or nil: for clone3(2) with CLONE_INTO_CGROUP. The group owns it.
func (g *Group) Unified() *os.File { return g.unified }

// Close closes these files, which are needed until the program has entered.
func (g *Group) Close() {
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
	if g.memory == nil {
		return 0
	}
	if g.memory.v2 {
		return field(filepath.Join(g.memory.path, "memory.events"), "oom_kill")
	}
	return field(filepath.Join(g.memory.path, "memory.oom_control"), "oom_kill")
}

// PeakMemory is the most memory that the group has used, in bytes, the page cache included; 0 if that is not known.
func (g *Group) PeakMemory() int64 {
	if g.memory == nil {
		return 0
	}
	if g.memory.v2 {
		return number(filepath.Join(g.memory.path, "memory.peak")) // since Linux 5.19
	}
	return number(filepath.Join(g.memory.path, "memory.max_usage_in_bytes"))
}

// Refused is how often a process or thread could not be made because of the limit.
func (g *Group) Refused() int64 {
	if g.pids == nil {
		return 0
	}
	return field(filepath.Join(g.pids.path, "pids.events"), "max")
}

// Processes is how many processes and threads there are now.
func (g *Group) Processes() int {
	if g.pids == nil {
		return 0
	}
	return int(number(filepath.Join(g.pids.path, "pids.current")))
}

// PeakProcesses is the most processes and threads at once; 0 if that is not known.
func (g *Group) PeakProcesses() int {
	if g.pids == nil {
		return 0
	}
	return int(number(filepath.Join(g.pids.path, "pids.peak"))) // since Linux 6.1
}

// CPU is the time that all processes of the group have used, dead ones included, since it was made or adopted. known is false where it is not counted.
func (g *Group) CPU() (used time.Duration, known bool) {
	switch {
	case g.cpu == nil:
		return 0, false
	case g.cpu.v2:
		used = time.Duration(field(filepath.Join(g.cpu.path, "cpu.stat"), "usage_usec")) * time.Microsecond
	default:
		used = time.Duration(number(filepath.Join(g.cpu.path, "cpuacct.usage")))
	}
	return used - g.spent, true
}

// Kill kills every process in the group. It returns once none is left, or after a time that should do for it.
func (g *Group) Kill() error {
	for _, d := range g.dirs {
		if d.v2 && write(filepath.Join(d.path, "cgroup.kill"), "1") == nil { // since Linux 5.14
			return nil
		}
	}
	for range 100 {
		left := g.processes()
		if len(left) == 0 {
			return nil
		}
		for _, pid := range left {
			unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(time.Millisecond)
	}
	return errors.New("processes of the group do not end")
}

func (g *Group) processes() (pids []int) {
	for _, d := range g.dirs {
		for _, word := range words(filepath.Join(d.path, "cgroup.procs")) {
			if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// Remove removes the group, and groups that the run has made in it. Its processes must have ended; those that are just ending are waited for.
func (g *Group) Remove() error {
	var errs []error
	until := time.Now().Add(removeMost)
	for _, d := range g.dirs {
		errs = append(errs, removeDir(d.path, until))
	}
	return errors.Join(errs...)
}

// RemoveDir removes one directory of a group, as Remove does; one that is gone already is fine.
func RemoveDir(path string) error { return removeDir(path, time.Now().Add(removeMost)) }

// removeMost bounds the removal of a group, whatever groups are in it.
const removeMost = 2 * time.Second

func removeDir(path string, until time.Time) error {
	for wait := 100 * time.Microsecond; ; wait *= 2 {
		err := unix.Rmdir(path)
		if err == nil || err == unix.ENOENT {
			return nil
		}
		if err != unix.EBUSY || time.Now().After(until) {
			return fmt.Errorf("rmdir %s: %w", path, err)
		}
		inner := false
		if entries, _ := os.ReadDir(path); len(entries) > 0 {
			for _, e := range entries {
				if e.IsDir() && time.Now().Before(until) {
					inner = removeDir(filepath.Join(path, e.Name()), until) == nil || inner
				}
			}
		}
		if !inner {
			time.Sleep(min(wait, time.Until(until)))
		}
	}
}

// Sweep kills what is in a directory of a group whose launcher is gone, and removes it. What is no control group is left alone.
func Sweep(path string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil || fs.Type != unix.CGROUP_SUPER_MAGIC && fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil // gone, or a line that the launcher did not finish
	}
	d := dir{path: path}
	_, err := os.Stat(filepath.Join(path, "cgroup.kill"))
	d.v2 = err == nil
	(&Group{dirs: []dir{d}}).Kill()
	return RemoveDir(path)
}

// SweepEmpty removes a directory of a group if no process is in it, and tells whether it is gone. What is no control group is left alone.
func SweepEmpty(path string) (gone bool) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil || fs.Type != unix.CGROUP_SUPER_MAGIC && fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return true
	}
	return len(words(filepath.Join(path, "cgroup.procs"))) == 0 && RemoveDir(path) == nil
}

// slack is the distance from the memory limit at which AlmostFull is told.
func slack(limit int64) int64 { return min(limit/8, 8<<20) }

type mount struct {
	point, root string
	v2          bool
	readOnly    bool
	key         string   // of the hierarchy in /proc/self/cgroup
	controllers []string // v1: by their v2 names
}

// hierarchies reads what is mounted, and which group of each this process is in.
func hierarchies(root string) (mounts []mount, own map[string]string, err error) {
	text, err := read(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return nil, nil, err
	}
	own = map[string]string{}
	for line := range strings.Lines(string(text)) {
		if parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3); len(parts) == 3 {
			own[parts[1]] = parts[2]
		}
	}
	if text, err = read(filepath.Join(root, "proc/self/mountinfo")); err != nil {
		return nil, nil, err
	}
	for line := range strings.Lines(string(text)) {
		// 36 35 98:0 /root /point options optional… - type source superoptions
		before, after, ok := strings.Cut(line, " - ")
		if !strings.HasPrefix(after, "cgroup") {
			continue
		}
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 6 || len(right) < 3 {
			continue
		}
		m := mount{point: filepath.Join(root, unescape(left[4])), root: unescape(left[3]), readOnly: readOnly(left[5]) || readOnly(right[2])}
		switch right[0] {
		case "cgroup2":
			m.v2 = true
		case "cgroup":
			for name := range own {
				if name != "" && sameSet(strings.Split(name, ","), strings.Split(right[2], ",")) {
					m.key = name
				}
			}
			for c, v1 := range v1Names {
				if m.key != "" && slices.Contains(strings.Split(m.key, ","), v1) {
					m.controllers = append(m.controllers, c)
				}
			}
			if len(m.controllers) == 0 {
				continue
			}
		default:
			continue
		}
		if !slices.ContainsFunc(mounts, func(o mount) bool { return o.v2 == m.v2 && o.key == m.key }) {
			mounts = append(mounts, m)
		}
	}
	return mounts, own, nil
}

// readOnly tells it of a mount's options, or of its file system's.
func readOnly(options string) bool { return options == "ro" || strings.HasPrefix(options, "ro,") }

// sameSet tells whether a mount's options hold all controllers of a hierarchy, such as rw,cpu,cpuacct.
func sameSet(controllers, options []string) bool { return len(missing(options, controllers)) == 0 }

// missing is what is in want and not in have.
func missing(have, want []string) (none []string) {
	for _, w := range want {
		if !slices.Contains(have, w) {
			none = append(none, w)
		}
	}
	return none
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	if !strings.Contains(s, `\`) { // as a rule
		return s
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// read, write and open are what package os has, without what it does for files that can be waited for: there are many of these small ones in each run.
func read(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	text := make([]byte, 0, 1024)
	for {
		n, err := unix.Read(fd, text[len(text):cap(text)])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return text, nil
		default:
			text = slices.Grow(text[:len(text)+n], 1)
		}
	}
}

func write(path, value string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(value)); err != nil {
		return &fs.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}

func open(path string, flags int) (*os.File, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func words(path string) []string {
	text, _ := read(path)
	return strings.Fields(string(text))
}

func number(path string) int64 {
	text, _ := read(path)
	n, _ := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	return n
}

// field is the number behind a name in a flat keyed file.
func field(path, name string) int64 { return named(words(path), name) }

func named(list []string, name string) int64 {
	for i := 0; i+1 < len(list); i += 2 {
		if list[i] == name {
			n, _ := strconv.ParseInt(list[i+1], 10, 64)
			return n
		}
	}
	return 0
}

// plain is the errno of a wrapped path error.
func plain(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return err.Error()
}
