package cgroup

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Use is what a group uses at one moment, seen by another process than the one that has made it.
type Use struct {
	CPU       time.Duration // dead processes included; below 0: not counted
	Memory    int64         // bytes, anonymous and shared; below 0: not counted
	Processes int           // and threads; below 0: not counted
}

// UseLines describe a group for [UseOf]. A group without directories has none.
func (g *Group) UseLines() []string {
	var lines []string
	for _, line := range g.Lines() {
		if strings.HasPrefix(line, "group ") {
			lines = append(lines, line)
		}
	}
	if len(lines) > 0 && g.spent > 0 {
		lines = append(lines, "spent "+strconv.FormatInt(int64(g.spent), 10))
	}
	return lines
}

// UseOf is what the group uses that [Group.UseLines] describe. ok is false if it is gone.
func UseOf(lines []string) (u Use, ok bool) {
	u = Use{CPU: -1, Memory: -1, Processes: -1}
	for _, d := range Adopt(lines).dirs {
		if slices.ContainsFunc(d.controllers, d.version.counts) && u.CPU < 0 {
			u.CPU = d.version.cpu(read, d.path)
		}
		if text, err := read(filepath.Join(d.path, "memory.stat")); err == nil && slices.Contains(d.controllers, "memory") {
			u.Memory = d.version.memory(text).Held
		}
		if text, err := read(filepath.Join(d.path, "pids.current")); err == nil && slices.Contains(d.controllers, "pids") {
			u.Processes, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		}
		if _, err := read(filepath.Join(d.path, "cgroup.procs")); err == nil {
			ok = true
		}
	}
	for _, line := range lines {
		if spent, is := strings.CutPrefix(line, "spent "); is && u.CPU >= 0 {
			n, _ := strconv.ParseInt(spent, 10, 64)
			u.CPU = max(0, u.CPU-time.Duration(n))
		}
	}
	return u, ok
}
