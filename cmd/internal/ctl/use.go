package ctl

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"py3run/audit"
	"py3run/sandbox/cgroup"
)

// useOf is what a run uses now, by its control group, and what that does not count by its processes.
// from is where the numbers come from, empty if nothing can be seen.
func useOf(l audit.Live) (use cgroup.Use, from string) {
	use, ok := cgroup.UseOf(l.Group)
	if ok && use.CPU >= 0 && use.Memory >= 0 && use.Processes >= 0 {
		return use, "group"
	}
	tree, seen := treeUse("/proc", l.Init)
	switch {
	case !seen && !ok:
		return use, ""
	case !seen:
		return use, "group"
	case !ok:
		return tree, "processes"
	}
	if use.CPU < 0 {
		use.CPU = tree.CPU
	}
	if use.Memory < 0 {
		use.Memory = tree.Memory
	}
	if use.Processes < 0 {
		use.Processes = tree.Processes
	}
	return use, "processes"
}

// clockTick is the unit of the times in /proc/PID/stat: USER_HZ, which is 100 on every architecture
// that Go knows (proc(5)).
const clockTick = time.Second / 100

// treeUse adds up what the processes below a run's init use, as proc(5) shows it. Of those that have
// ended it knows the processor time that their parents have waited for.
func treeUse(proc string, init int) (use cgroup.Use, seen bool) {
	todo := children(proc, init)
	if init <= 0 || len(todo) == 0 {
		return use, false
	}
	for done := map[int]bool{init: true}; len(todo) > 0; {
		pid := todo[0]
		if todo = todo[1:]; done[pid] {
			continue
		}
		done[pid] = true
		todo = append(todo, children(proc, pid)...)
		dir := filepath.Join(proc, strconv.Itoa(pid))
		text, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue
		}
		seen = true
		// The name in parentheses can hold anything; the fields behind it begin with the third.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) > 17 {
			for _, f := range fields[11:15] { // utime stime cutime cstime
				n, _ := strconv.ParseInt(f, 10, 64)
				use.CPU += time.Duration(n) * clockTick
			}
			threads, _ := strconv.Atoi(fields[17])
			use.Processes += threads
		}
		status, _ := os.ReadFile(filepath.Join(dir, "status"))
		for line := range strings.Lines(string(status)) {
			if name, value, _ := strings.Cut(line, ":"); name == "RssAnon" || name == "RssShmem" {
				kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
				use.Memory += kb << 10
			}
		}
	}
	return use, seen
}

// children are the processes that a process has started and not waited for.
func children(proc string, pid int) (list []int) {
	tasks, _ := filepath.Glob(filepath.Join(proc, strconv.Itoa(pid), "task", "*", "children"))
	for _, task := range tasks {
		text, _ := os.ReadFile(task)
		for _, word := range strings.Fields(string(text)) {
			if n, err := strconv.Atoi(word); err == nil {
				list = append(list, n)
			}
		}
	}
	return list
}
