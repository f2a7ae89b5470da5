package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Kill kills every process in the group. It returns when none is left, or after a time that is
// enough for that.
func (g *Group) Kill() error {
	for _, d := range g.dirs {
		if d.version.kill(d.path) {
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

// Remove removes the group, and groups that the run has made in it. Its processes must have ended;
// Remove waits for those that are just ending.
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

// Sweep kills what is in a directory of a group whose launcher is gone, and removes it. It does not
// touch what is no control group.
func Sweep(path string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil || fs.Type != unix.CGROUP_SUPER_MAGIC && fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil // gone, or a line that the launcher did not finish
	}
	d := dir{path: path, version: v1{}}
	if fs.Type == unix.CGROUP2_SUPER_MAGIC {
		d.version = v2{}
	}
	(&Group{dirs: []dir{d}}).Kill()
	return RemoveDir(path)
}

// SweepEmpty removes a directory of a group if no process is in it, and tells whether it is gone.
// It does not touch what is no control group.
func SweepEmpty(path string) (gone bool) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil || fs.Type != unix.CGROUP_SUPER_MAGIC && fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return true
	}
	return len(words(filepath.Join(path, "cgroup.procs"))) == 0 && RemoveDir(path) == nil
}
