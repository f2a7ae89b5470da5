package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// v2 is the unified interface: one hierarchy for all controllers.
type v2 struct{}

func (v2) name() string { return "2" }

func (v2) directOnly() bool { return false }

func (v2) counts(string) bool { return true } // whatever controllers it has

// reachable tells whether a process of group own may move below group parent. In v2 that takes the
// right to write to the nearest group above both (cgroup-v2.rst, "delegation containment").
func (v2) reachable(m mount, own, parent string) error {
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

// place: a group with processes in it can have no controllers for its children (admin-guide, "no
// internal process constraint"), so the own group rarely will do; the next above it that this user
// may write is tried in turn.
func (v2) place(p *Place, m mount, path string, configured bool) {
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
				p.dirs = append(p.dirs, dir{path: at, version: v2{}, controllers: append(have, "kill")})
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
		p.dirs = append(p.dirs, dir{path: killOnly, version: v2{}, controllers: []string{"kill"}})
		if why == nil {
			why = errors.New(killOnly + ": the memory and pids controllers are not enabled here")
		}
	}
	p.lack(m, why.Error())
}

// delegated tells whether the children's controllers of a group are ours to choose: systemd marks
// what it has delegated; what an ordinary user can write was given to it.
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

func (v2) enter(g *Group, path string) (err error) {
	g.unified, err = open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	return err
}

func (v2) limit(path, controller string, l Limits) error {
	set := func(name, value string) error { return write(filepath.Join(path, name), value) }
	switch controller {
	case "memory":
		if err := set("memory.max", decimal(l.Memory)); err != nil {
			return err
		}
		set("memory.oom.group", "1") // since Linux 4.19; without it the launcher ends the rest
		if err := set("memory.swap.max", "0"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// Notice before the end: see Alarm. It throttles, but only a group that is about to be ended.
		set("memory.high", decimal(l.Memory-slack(l.Memory)))
	case "pids":
		return set("pids.max", strconv.Itoa(l.Processes))
	case "cpu":
		return set("cpu.max", fmt.Sprintf("%d %d", l.quota(), period))
	case "io":
		return l.eachRate(func(device, way string, rate int64) error {
			return set("io.max", fmt.Sprintf("%s %sbps=%d", device, way[:1], rate))
		})
	}
	return nil
}

func (v2) cpu(from reader, path string) time.Duration {
	return time.Duration(from.field(filepath.Join(path, "cpu.stat"), "usage_usec")) * time.Microsecond
}

func (v2) peakMemory(from reader, path string) int64 {
	return from.number(filepath.Join(path, "memory.peak")) // since Linux 5.19
}

// memory (cgroup-v2.rst): every field includes the groups below, kernel is all that the kernel
// keeps (since Linux 5.18), and of that only the reclaimable slabs come back.
func (v2) memory(stat []byte) (m Memory) {
	of := func(name string) int64 { n, _ := fieldOf(stat, name); return n }
	m.Held = of("anon") + of("shmem")
	if kernel, has := fieldOf(stat, "kernel"); has {
		m.Kernel = kernel - of("slab_reclaimable")
	} else {
		m.Kernel = of("kernel_stack") + of("pagetables") + of("percpu") + of("sock") + of("slab_unreclaimable")
	}
	m.Kernel = max(m.Kernel, 0)
	return m
}

func (v2) outOfMemory(from reader, path string) (kills int64, failed bool) {
	text, _ := from(filepath.Join(path, "memory.events"))
	kills, _ = fieldOf(text, "oom_kill")
	ooms, _ := fieldOf(text, "oom")
	return kills, kills > 0 || ooms > 0
}

func (v2) kill(path string) bool {
	return write(filepath.Join(path, "cgroup.kill"), "1") == nil // since Linux 5.14
}

// notice: memory.events changes when memory.high is passed, which limit has set.
func (v2) notice(path string, _ int64) (event int, ready int16, err error) {
	event, err = unix.Open(filepath.Join(path, "memory.events"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	return event, unix.POLLPRI, err
}

func (v2) heard(path string) { write(filepath.Join(path, "memory.high"), "max") }
