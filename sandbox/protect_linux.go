package sandbox

import (
	"os"
	"strings"
)

// protect lists what a method enforces for a Spec and what stays missing, before anything is tried. refused is why
// a stronger method was not had.
func protect(spec Spec, method Method, userNS bool, refused error) Protection {
	p := Protection{Method: method, Enforced: []string{}, Missing: []Gap{}}
	have := func(name string) { p.Enforced = append(p.Enforced, name) }
	lack := func(name, why string) { p.Missing = append(p.Missing, Gap{name, why}) }

	spaces := []string{"pid-namespace", "mount-namespace", "ipc-namespace", "uts-namespace", "proc"}
	if spec.DenyNetwork {
		spaces = append(spaces, "network-namespace")
	}
	if len(spec.Hide) > 0 {
		spaces = append(spaces, "hidden-paths")
	}
	if method == Namespace {
		p.Enforced = append(p.Enforced, spaces...)
		if userNS {
			have("user-namespace")
		}
	} else {
		why := "method \"process\" has no namespaces"
		if refused != nil {
			why = "namespaces are refused here: " + refused.Error()
		}
		for _, s := range spaces {
			lack(s, why)
		}
	}
	have("session")
	have("tree-kill")
	if os.Geteuid() == 0 {
		have("capabilities")
	}
	l := spec.Limits
	if l.Wall > 0 {
		have("wall-limit")
	}
	if l.Idle > 0 {
		have("idle-limit")
	}
	if l.CPU > 0 {
		have("cpu-limit")
	}
	if l.FileSize > 0 {
		have("file-size-limit")
	}
	if l.OpenFiles > 0 {
		have("open-files-limit")
	}
	if l.Disk > 0 {
		have("disk-watch")
	}
	if l.Memory > 0 {
		have("memory-limit-per-process")
		lack("memory-limit-of-the-tree", "this version uses no control groups; each process is limited by itself (RLIMIT_DATA)")
	}
	if l.Processes > 0 {
		have("process-watch")
		lack("process-limit", "this version uses no control groups; processes are counted every 100 ms, so a burst can pass the limit before it is seen")
	}
	return p
}

// String is a line for people.
func (p Protection) String() string {
	return string(p.Method) + ": " + strings.Join(p.Enforced, ", ")
}
