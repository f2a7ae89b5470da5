package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A Place is where this process may make groups: one directory a hierarchy.
type Place struct {
	dirs []dir
	why  map[string]string // controller: why there is none
}

// abilities are what a group may give a run: the controllers by their v2 name, and the kill of all
// its processes at once.
var abilities = []string{"memory", "pids", "cpu", "io", "kill"}

// wanted are the controllers among them.
var wanted = abilities[:4]

// Find finds where groups can be made. parent is a group below which they go in every hierarchy,
// such as "/py3run.slice"; Find makes it if it is missing. Empty: below the group of this process,
// or the nearest above it that has the controllers. Find changes nothing else but, in a delegated
// v2 group, which controllers its children have.
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
			if err := m.version.reachable(m, rel, parent); err != nil {
				p.lack(m, err.Error())
				continue
			}
			rel = parent
			if err := os.MkdirAll(filepath.Join(m.point, rel), 0o755); err != nil {
				p.lack(m, plain(err))
				continue
			}
		}
		m.version.place(&p, m, filepath.Join(m.point, rel), parent != "")
	}
	for _, c := range abilities {
		if p.why[c] == "" && !p.has(c) {
			p.why[c] = "no such controller is mounted here"
		}
	}
	return p
}

func (p *Place) has(controller string) bool {
	return slices.ContainsFunc(p.dirs, func(d dir) bool { return slices.Contains(d.controllers, controller) })
}

// Has tells whether groups made here have a controller.
func (p Place) Has(controller string) bool { return p.has(controller) }

// lack notes why the controllers of a hierarchy are not to be had.
func (p *Place) lack(m mount, why string) {
	for _, c := range m.controllers {
		if p.why[c] == "" {
			p.why[c] = why
		}
	}
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
