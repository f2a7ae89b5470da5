package sandbox

import (
	"fmt"
	"slices"

	"py3run/sandbox/cgroup"
	"py3run/sandbox/seccomp"
)

// observed is what a backend and the set-up have met on this host for one run. A Protection is
// made of it and of the Spec, and of nothing else.
type observed struct {
	method  Method
	userNS  bool
	root    bool         // the launcher is root
	refused error        // why a stronger method has failed
	groups  []cgroup.Gap // what the control group cannot do

	link      string  // a symbolic link, on the way to what is pinned, that a run can replace
	workdir   bool    // the run has a directory
	shared    string  // why other runs can see it; empty: they cannot
	landlock  fitting // what this kernel's Landlock can enforce
	listening bool    // the activity is recorded
	filing    bool    // that of files, too
	unmapped  error   // why there are no subordinate ids
	missed    []Gap   // optional steps that have failed, by their measures
	sight     *sight  // nil: it is not known yet
	rings     int     // set-ups of io_uring
}

// A sight says what can be seen of the use of a run, and by whom.
type sight struct {
	counted bool // a control group counts CPU time
	limited bool // the kernel limits processes, or nobody asked for that
	seen    bool // /proc shows the processes of the run, or nothing has to be looked for there
}

// miss notes a step that has failed, once for each measure.
func (f *observed) miss(name, why string) {
	if name != "" && !slices.ContainsFunc(f.missed, func(g Gap) bool { return g.Name == name }) {
		f.missed = append(f.missed, Gap{Name: name, Why: why})
	}
}

// protection is what is in force for a Spec, and what is missing. It makes no system call.
func protection(spec Spec, f observed) Protection {
	p := Protection{Method: f.method, Enforced: []string{}, Gaps: []Gap{}}
	p.spaces(spec, f)
	p.rights(spec, f)
	p.limits(spec.Limits, f.groups)
	p.directory(f)
	p.have(f.landlock.have...)
	p.Gaps = append(p.Gaps, f.landlock.gaps...)
	p.activity(spec, f)
	for _, g := range f.missed {
		p.lose(g.Name)
		if !p.lacks(g.Name) {
			g.Extra = g.Name == activityMeasure && spec.Activity != Required || g.Name == linkMeasure
			p.Gaps = append(p.Gaps, g)
		}
	}
	p.files(spec, f)
	if f.sight != nil {
		p.watched(spec.Limits, *f.sight)
	}
	return p
}

func (p *Protection) have(names ...string) { p.Enforced = append(p.Enforced, names...) }

func (p *Protection) lack(name, why string) { p.Gaps = append(p.Gaps, Gap{Name: name, Why: why}) }

func (p *Protection) remark(name, why string) {
	p.Gaps = append(p.Gaps, Gap{Name: name, Why: why, Extra: true})
}

// spaces are the namespaces and what they give.
func (p *Protection) spaces(spec Spec, f observed) {
	spaces := []string{"pid-namespace", "mount-namespace", "ipc-namespace", "uts-namespace", "proc"}
	for _, m := range []struct {
		asked bool
		name  string
	}{
		{spec.DenyNetwork, "network-namespace"},
		{len(spec.Hide) > 0, "hidden-paths"},
		{len(spec.ReadOnly) > 0 || len(spec.Pin) > 0, pinMeasure},
		{spec.PrivateShm, shmMeasure},
	} {
		if m.asked {
			spaces = append(spaces, m.name)
		}
	}
	if f.method != Namespace {
		why := "method \"process\" has no namespaces"
		if f.refused != nil {
			why = "namespaces are refused here: " + f.refused.Error()
		}
		for _, name := range spaces {
			p.lack(name, why)
		}
		if spec.MinimalDev {
			p.lack("minimal-dev", "method \"process\" has no mount namespace")
		}
		return
	}
	p.have(spaces...)
	if f.link != "" {
		p.remark(pinMeasure, f.link+" is a symbolic link that a run can replace, and what it leads to with it; only directories and files can be pinned")
	}
	if f.userNS {
		p.have("user-namespace")
	}
	switch subIDs := f.userNS && spec.SubIDs && !f.root; { // root has all ids
	case subIDs && f.unmapped == nil:
		p.have(subIDsMeasure)
	case subIDs:
		p.lack(subIDsMeasure, f.unmapped.Error()+"; only this user and its group are mapped")
	}
	if spec.MinimalDev {
		p.have("minimal-dev")
	}
}

// rights are what the program may do.
func (p *Protection) rights(spec Spec, f observed) {
	if !spec.Transparent {
		p.have("session")
	} else {
		p.remark("session", "the program is in its caller's session and process group, as job control wants it: it can signal that group")
	}
	p.have("tree-kill")
	if len(spec.Links) > 0 && f.method == Namespace {
		p.have(linkMeasure)
	}
	if f.root {
		p.have("capabilities")
	}
	if spec.RunAs != nil {
		p.have("run-as")
	}
	if spec.NoNewPrivileges {
		p.have("no-new-privileges")
	}
	if !spec.DenyCalls {
		return
	}
	p.have("seccomp-" + seccomp.Default)
	if f.method == Namespace {
		p.have("read-only-kernel")
	} else if f.root { // an ordinary user cannot write there anyway
		p.lack("read-only-kernel", "method \"process\" has no mount namespace: /proc/sys and the control groups can be written")
	}
}

// limits are those that the kernel enforces or the launcher watches.
func (p *Protection) limits(l Limits, groups []cgroup.Gap) {
	for _, m := range []struct {
		asked bool
		name  string
	}{
		{l.Wall > 0, "wall-limit"}, {l.Idle > 0, "idle-limit"}, {l.CPU > 0, "cpu-limit"}, {l.FileSize > 0, "file-size-limit"},
		{l.OpenFiles > 0, "open-files-limit"}, {l.Disk > 0, "disk-watch"},
	} {
		if m.asked {
			p.have(m.name)
		}
	}
	why := map[string]string{}
	for _, g := range groups {
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
			p.have(m.name)
		default:
			if m.weaker != "" {
				p.have(m.weaker)
			}
			p.lack(m.name, "no control group for it: "+cause+"; "+m.and)
		}
	}
	if cause, gap := why["io-writes"]; gap {
		p.lack("io-limit-of-buffered-writes", cause)
	}
}

// directory is about the run's working directory.
func (p *Protection) directory(f observed) {
	const measure = "private-working-dir"
	switch {
	case !f.workdir:
	case f.shared == "":
		p.have(measure)
	default:
		p.lack(measure, f.shared)
	}
}

func (p *Protection) activity(spec Spec, f observed) {
	switch {
	case f.listening: // also in a worker whose run has not asked for it
		p.have(activityMeasure)
	case spec.Activity == NotRequested:
	case !slices.ContainsFunc(f.missed, func(g Gap) bool { return g.Name == activityMeasure }):
		p.Gaps = append(p.Gaps, Gap{Name: activityMeasure, Extra: spec.Activity != Required,
			Why: "an ordinary user has no filter of system calls without giving up set-user-ID programs; seccomp = \"default\" and no-new-privileges do"})
	}
	if f.rings > 0 {
		p.remark(activityMeasure, fmt.Sprintf("io_uring was set up %d times: what is done through it is not seen", f.rings))
	}
}

// files is about the part of the activity that is of files.
func (p *Protection) files(spec Spec, f observed) {
	recorded := slices.Contains(p.Enforced, activityMeasure)
	var why string
	switch {
	case spec.Files == NotRequested:
		return
	case recorded && f.filing:
		p.have(filesMeasure)
		return
	case spec.Activity == NotRequested:
		why = "it is a part of " + activityMeasure + ", which nobody asked for"
	case recorded:
		why = "on a kernel before Linux 5.19 a signal could end a call that is recorded"
	default:
		why = "it is a part of " + activityMeasure + ", which is missing"
	}
	p.Gaps = append(p.Gaps, Gap{Name: filesMeasure, Why: why, Extra: spec.Files != Required})
}

// watched notes what the launcher watches because the kernel does not limit it, and what it cannot
// even watch, because /proc does not show this tree.
func (p *Protection) watched(l Limits, s sight) {
	if s.seen {
		if !s.counted && l.CPU > 0 {
			p.remark("cpu-accounting",
				"no control group counts CPU time: the tree is looked at every 100 ms, and a process shorter than that, of a parent that ignores SIGCHLD, is not seen")
		}
		return
	}
	const why = "no control group for it, and /proc does not show the processes of the run (not mounted, or mounted with hidepid=)"
	blind := func(name, more string) {
		p.lose(name)
		p.lack(name, why+more)
	}
	if l.CPU > 0 && !s.counted {
		blind("cpu-limit", ": each process is limited by itself (RLIMIT_CPU)")
		p.have("cpu-limit-per-process")
	}
	if l.Idle > 0 && !s.counted {
		blind("idle-limit", ": whether the run is idle is not known")
	}
	if !s.limited {
		p.Gaps = slices.DeleteFunc(p.Gaps, func(g Gap) bool { return g.Name == "process-limit" })
		p.lose("process-watch")
		blind("process-limit", fmt.Sprintf(": processes are not counted; RLIMIT_NPROC is a back-stop for all processes of an ordinary user, at %d or the limit", processBackstop))
	}
}

// lose removes a measure from what is enforced.
func (p *Protection) lose(name string) {
	p.Enforced = slices.DeleteFunc(p.Enforced, func(e string) bool { return e == name })
}

func (p *Protection) lacks(name string) bool {
	return slices.ContainsFunc(p.Gaps, func(g Gap) bool { return g.Name == name })
}

// refusing are the gaps for which a run with OnMissing = Refuse is refused.
func (p Protection) refusing() (gaps []Gap) {
	for _, g := range p.Gaps {
		if !g.Extra {
			gaps = append(gaps, g)
		}
	}
	return gaps
}
