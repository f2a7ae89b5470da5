package sandbox

import (
	"os"
	"slices"

	"py3run/sandbox/cgroup"
	"py3run/sandbox/seccomp"
)

// protect lists what a method enforces for a Spec and what stays missing, before anything is tried. refused is why
// a stronger method was not had, gaps what the control group cannot do.
func protect(spec Spec, method Method, userNS bool, gaps []cgroup.Gap, refused error) Protection {
	p := Protection{Method: method, Enforced: []string{}, Gaps: []Gap{}}
	have := func(name string) { p.Enforced = append(p.Enforced, name) }
	lack := func(name, why string) { p.Gaps = append(p.Gaps, Gap{Name: name, Why: why}) }

	spaces := []string{"pid-namespace", "mount-namespace", "ipc-namespace", "uts-namespace", "proc"}
	if spec.DenyNetwork {
		spaces = append(spaces, "network-namespace")
	}
	if len(spec.Hide) > 0 {
		spaces = append(spaces, "hidden-paths")
	}
	if len(spec.Fixed) > 0 || len(spec.Pin) > 0 {
		spaces = append(spaces, pinMeasure)
	}
	if spec.PrivateShm {
		spaces = append(spaces, shmMeasure)
	}
	if method == Namespace {
		p.Enforced = append(p.Enforced, spaces...)
		if userNS {
			have("user-namespace")
		}
		if userNS && spec.SubIDs && os.Geteuid() != 0 { // root has all ids
			have(subIDsMeasure)
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
	if spec.MinimalDev {
		if method == Namespace {
			have("minimal-dev")
		} else {
			lack("minimal-dev", "method \"process\" has no mount namespace")
		}
	}
	have("session")
	have("tree-kill")
	if os.Geteuid() == 0 {
		have("capabilities")
	}
	if spec.RunAs != nil {
		have("run-as")
	}
	if spec.NoNewPrivileges {
		have("no-new-privileges")
	}
	if spec.DenyCalls {
		have("seccomp-" + seccomp.Default)
		if method == Namespace {
			have("read-only-kernel")
		} else if os.Geteuid() == 0 { // nobody else could write there
			lack("read-only-kernel", "method \"process\" has no mount namespace: /proc/sys and the control groups can be written")
		}
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
	why := map[string]string{}
	for _, g := range gaps {
		why[g.Controller] = g.Why
	}
	for _, m := range []struct {
		asked             bool
		controller        string
		name, weaker, and string
	}{
		{l.Memory > 0, "memory", "memory-limit", "memory-limit-per-process", "each process is limited by itself (RLIMIT_DATA)"},
		{l.Processes > 0, "pids", "process-limit", "process-watch", "processes are counted every 100 ms, so a burst can pass the limit before it is seen"},
		{l.CPUs > 0, "cpu", "cpu-quota", "", "the run may use every processor"},
		{l.ReadRate > 0 || l.WriteRate > 0, "io", "io-limit", "", "reading and writing are not slowed down"},
	} {
		cause, gap := why[m.controller]
		switch {
		case !m.asked:
		case !gap:
			have(m.name)
		default:
			if m.weaker != "" {
				have(m.weaker)
			}
			lack(m.name, "no control group for it: "+cause+"; "+m.and)
		}
	}
	if cause, gap := why["io-writes"]; gap {
		lack("io-limit-of-buffered-writes", cause)
	}
	return p
}

// lose takes a measure from what is enforced.
func (p *Protection) lose(name string) {
	p.Enforced = slices.DeleteFunc(p.Enforced, func(e string) bool { return e == name })
}

// lack notes a measure that was tried and is not in force.
func (p *Protection) lack(spec Spec, name, why string) {
	p.Gaps = append(p.Gaps, Gap{Name: name, Why: why, Extra: name == activityMeasure && spec.Activity != Required})
}

// refusing are the gaps that Refuse does not put up with.
func (p Protection) refusing() (gaps []Gap) {
	for _, g := range p.Gaps {
		if !g.Extra {
			gaps = append(gaps, g)
		}
	}
	return gaps
}
