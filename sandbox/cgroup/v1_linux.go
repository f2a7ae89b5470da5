package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// v1 is the older interface: a hierarchy for each controller, or for a few.
type v1 struct{}

// v1 names of the same.
var v1Names = map[string]string{"memory": "memory", "pids": "pids", "cpu": "cpu", "io": "blkio", "cpuacct": "cpuacct"}

func (v1) name() string { return "1" }

func (v1) reachable(mount, string, string) error { return nil }

func (v1) directOnly() bool { return true }

func (v1) counts(controller string) bool { return controller == "cpuacct" }

func (v1) kill(string) bool { return false }

func (v1) heard(string) {}

// place: groups go below the own one.
func (v1) place(p *Place, m mount, path string, _ bool) {
	if err := writable(path); err != nil {
		p.lack(m, path+": "+plain(err))
		return
	}
	p.dirs = append(p.dirs, dir{path: path, version: v1{}, controllers: m.controllers})
}

func (v1) enter(g *Group, path string) error {
	tasks, err := open(filepath.Join(path, "tasks"), unix.O_WRONLY)
	if err == nil {
		g.tasks = append(g.tasks, tasks)
	}
	return err
}

func (v1) limit(path, controller string, l Limits) error {
	set := func(name, value string) error { return write(filepath.Join(path, name), value) }
	switch controller {
	case "memory":
		if err := set("memory.limit_in_bytes", decimal(l.Memory)); err != nil {
			return err
		}
		// Memory and swap together; the file is missing where swap is not accounted for.
		if err := set("memory.memsw.limit_in_bytes", decimal(l.Memory)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	case "pids":
		return set("pids.max", strconv.Itoa(l.Processes))
	case "cpu":
		if err := set("cpu.cfs_period_us", decimal(period)); err != nil {
			return err
		}
		return set("cpu.cfs_quota_us", decimal(l.quota()))
	case "io":
		return l.eachRate(func(device, way string, rate int64) error {
			return set("blkio.throttle."+way+"_bps_device", fmt.Sprintf("%s %d", device, rate))
		})
	}
	return nil
}

func (v1) cpu(from reader, path string) time.Duration {
	return time.Duration(from.number(filepath.Join(path, "cpuacct.usage")))
}

func (v1) peakMemory(from reader, path string) int64 {
	return from.number(filepath.Join(path, "memory.max_usage_in_bytes"))
}

// memory (cgroup-v1/memory.rst, section 5.2): the total_ fields include the groups below; rss is
// anonymous memory only, shmem is tmpfs, shared anonymous mappings and System V segments, and swap
// is of both.
func (v1) memory(stat []byte) Memory {
	var m Memory
	for _, name := range []string{"total_rss", "total_shmem", "total_swap"} {
		n, _ := fieldOf(stat, name)
		m.Held += n
	}
	return m
}

func (v1) outOfMemory(from reader, path string) (kills int64, failed bool) {
	kills = from.field(filepath.Join(path, "memory.oom_control"), "oom_kill")
	return kills, kills > 0
}

// notice makes an eventfd for a threshold (cgroup-v1/memory.rst, section 9). It takes some milliseconds.
func (v1) notice(path string, bytes int64) (event int, ready int16, err error) {
	usage, err := unix.Open(filepath.Join(path, "memory.usage_in_bytes"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, 0, err
	}
	defer unix.Close(usage)
	event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return -1, 0, err
	}
	line := fmt.Sprintf("%d %d %d", event, usage, bytes)
	if err := write(filepath.Join(path, "cgroup.event_control"), line); err != nil {
		unix.Close(event)
		return -1, 0, err
	}
	return event, unix.POLLIN, nil
}
