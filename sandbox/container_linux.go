package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"py3run/sandbox/cgroup"
)

// container names what kind of container this process is in, below a root directory and with an
// environment; empty: in none that shows.
func container(root string, env func(string) string) string {
	there := func(path string) bool { _, err := os.Lstat(filepath.Join(root, path)); return err == nil }
	text := func(path string) string {
		text, _ := os.ReadFile(filepath.Join(root, path))
		return string(text)
	}
	inits := func() string { // the variable by which engines tell the first process; root may read it
		for entry := range strings.SplitSeq(text("proc/1/environ"), "\x00") {
			if name, ok := strings.CutPrefix(entry, "container="); ok {
				return name
			}
		}
		return ""
	}
	groups := text("proc/1/cgroup") + text("proc/self/cgroup")
	switch {
	case env("KUBERNETES_SERVICE_HOST") != "" || there("var/run/secrets/kubernetes.io") || strings.Contains(groups, "/kubepods"):
		return "kubernetes"
	case there("run/.containerenv") || strings.Contains(groups, "/libpod-"):
		return "podman"
	case there(".dockerenv") || strings.Contains(groups, "/docker/") || strings.Contains(groups, "/docker-"):
		return "docker"
	}
	for _, name := range []string{env("container"), inits(), strings.TrimSpace(text("run/systemd/container"))} {
		if name != "" {
			return name
		}
	}
	if strings.Contains(groups, "/lxc") {
		return "lxc"
	}
	return ""
}

// insideRepair is what mends missing control groups in a container, where no service and no login
// can give any: what its engine has to be told, and what has to be done in it before py3run is
// started.
func insideRepair(kind string, uid int, s cgroup.Surroundings) string {
	give, limit := "a cgroup namespace of its own with /sys/fs/cgroup mounted writable", "the engine's limits for it"
	switch kind {
	case "docker":
		give, limit = "docker run --cgroupns=private --security-opt writable-cgroups=true (Docker 28 and later)", "docker run --memory=2g --memory-swap=2g --pids-limit=500"
	case "podman":
		give, limit = "podman run --cgroupns=private --security-opt unmask=/sys/fs/cgroup", "podman run --memory=2g --memory-swap=2g --pids-limit=500"
	case "kubernetes":
		give, limit = "cgroup_writable = true in the runtime's part of containerd's configuration (2.1 and later), or CRI-O's annotation io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw", "resources.limits"
	}
	together := "give the container a limit (" + limit + "), which holds for all its runs together"
	if !s.Version2 { // a v1 hierarchy is never the container's own
		return together + "; groups of their own need control groups of version 2 on the host"
	}
	begin := "begin in it, as root, with: mkdir /sys/fs/cgroup/main && echo $$ > /sys/fs/cgroup/main/cgroup.procs && echo '+memory +pids +cpu +io' > /sys/fs/cgroup/cgroup.subtree_control"
	if uid != 0 {
		begin += fmt.Sprintf(" && chown %d /sys/fs/cgroup /sys/fs/cgroup/cgroup.procs", uid)
	}
	if s.ReadOnly {
		begin = "start the container with " + give + ", and " + begin
	}
	return begin + "; or " + together
}

// insideCause says what holds all the same.
func insideCause(kind, controller string, s cgroup.Surroundings) string {
	cause := "; this is a container (" + kind + ")"
	if s.ReadOnly {
		cause += ", whose control groups are mounted read-only"
	}
	switch {
	case controller == "memory" && s.Memory > 0:
		cause += fmt.Sprintf("; what holds is its own limit of %d MB for all runs together (%s)", s.Memory>>20, s.MemoryAt)
	case controller == "pids" && s.Processes > 0:
		cause += fmt.Sprintf("; what holds is its own limit of %d processes and threads for all runs together", s.Processes)
	case controller == "memory" || controller == "pids":
		cause += "; no limit of its own shows here"
	}
	return cause
}
