package sandbox

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"py3run/sandbox/cgroup"
)

// A Check is the result of really trying one protection on this host.
type Check struct {
	Name    string
	OK      bool
	Finding string // what there is, or what is missing
	Cause   string // why it is missing
	Repair  string // a command, or a line of configuration, that mends it
}

// Probe tries every protection here, for this user, with program as something harmless to start: an
// absolute path and its arguments. It leaves nothing behind. parent is as in [Group], subIDs as in
// [Spec].
func Probe(program []string, parent string, subIDs bool) []Check {
	t := prober{program: program, parent: parent}
	checks := []Check{t.namespaces(), t.ids(subIDs), t.procFS(), t.network()}
	checks = append(checks, t.groups()...)
	return append(checks, t.landlock(), t.seccomp(), t.activity(), t.minimalDev())
}

// A prober makes one start after another.
type prober struct {
	program []string
	parent  string
	refused error // why there are no namespaces
}

// start runs the program under a Spec, to its end.
func (t *prober) start(change func(*Spec)) (Protection, error) {
	spec := Spec{Path: t.program[0], Args: t.program, Dir: "/", Method: Namespace, FirstFile: 64}
	change(&spec)
	r, err := Start(spec, IO{Stdout: io.Discard, Stderr: io.Discard}, OwnChild)
	if err != nil {
		return Protection{}, err
	}
	out := r.Wait(nil, nil)
	return out.Protection, r.RemoveGroup()
}

func (t *prober) namespaces() Check {
	c := Check{Name: "namespaces"}
	p, err := t.start(func(*Spec) {})
	if err == nil {
		c.OK, c.Finding = true, "pid, mount, ipc and uts namespaces"
		for _, e := range p.Enforced {
			if e == "user-namespace" {
				c.Finding += ", through a user namespace"
			}
		}
		return c
	}
	t.refused = err
	c.Finding, c.Cause = "refused: only the method \"process\" works here, which protects less", err.Error()
	setting := func(path string) string {
		text, _ := os.ReadFile("/proc/sys/" + path)
		return strings.TrimSpace(string(text))
	}
	switch {
	case setting("user/max_user_namespaces") == "0":
		c.Cause += "; user.max_user_namespaces is 0"
		c.Repair = "sysctl -w user.max_user_namespaces=10000"
	case setting("kernel/unprivileged_userns_clone") == "0" && os.Geteuid() != 0:
		c.Cause += "; kernel.unprivileged_userns_clone is 0"
		c.Repair = "sysctl -w kernel.unprivileged_userns_clone=1"
	case setting("kernel/apparmor_restrict_unprivileged_userns") == "1" && os.Geteuid() != 0:
		c.Cause += "; AppArmor restricts user namespaces (Ubuntu 23.10 and later)"
		c.Repair = apparmorRepair()
	case container("/", os.Getenv) == "kubernetes":
		c.Cause += "; this is a container, whose seccomp profile or missing capability forbids it"
		c.Repair = "give the container securityContext: capabilities.add [SYS_ADMIN], seccompProfile.type Unconfined, appArmorProfile.type Unconfined; or profiles that allow clone with namespaces and mount"
	case container("/", os.Getenv) != "":
		c.Cause += "; this is a container, whose seccomp profile or missing capability forbids it"
		c.Repair = "start the container with --cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined, or with a profile that allows clone with namespaces and mount"
	}
	return c
}

// apparmorRepair is a profile for this one binary: better than to lift the restriction for all programs.
func apparmorRepair() string {
	self, err := os.Executable()
	if err != nil {
		self = "/usr/local/bin/py3run"
	}
	return fmt.Sprintf("printf 'abi <abi/4.0>,\\nprofile py3run %s flags=(unconfined) { userns, }\\n' > /etc/apparmor.d/py3run && apparmor_parser -r /etc/apparmor.d/py3run", self)
}

// measured turns the protection of a start into a check of one measure.
func (t *prober) measured(name, finding string, change func(*Spec), measures ...string) Check {
	c := Check{Name: name}
	if t.refused != nil {
		c.Finding, c.Cause = "not to be had without namespaces", t.refused.Error()
		return c
	}
	p, err := t.start(change)
	if err != nil {
		c.Finding, c.Cause = "missing", err.Error()
		return c
	}
	for _, m := range measures {
		for _, g := range p.Gaps {
			if g.Name == m {
				c.Finding, c.Cause = "missing: "+m, g.Why
				return c
			}
		}
	}
	c.OK, c.Finding = true, finding
	return c
}

func (t *prober) procFS() Check {
	c := t.measured("proc", "a /proc of its own", func(*Spec) {}, "proc")
	if !c.OK && t.refused == nil {
		c.Cause += "; parts of /proc are covered here, as container engines do, and the kernel then gives no new one"
		c.Repair = "start the container with --security-opt systempaths=unconfined (Docker) or --security-opt unmask=ALL (Podman); Kubernetes: securityContext.procMount Unmasked"
	}
	return c
}

func (t *prober) network() Check {
	return t.measured("network-none", "a network of its own with a working loopback, for network = \"none\"", func(s *Spec) { s.DenyNetwork = true }, "network-namespace", "loopback")
}

func (t *prober) minimalDev() Check {
	return t.measured("minimal-dev", "a /dev of its own, for dev = \"minimal\"", func(s *Spec) { s.MinimalDev = true }, "minimal-dev")
}

func (t *prober) seccomp() Check {
	c := Check{Name: "seccomp"}
	p, err := t.start(func(s *Spec) { s.Method, s.DenyCalls = Auto, true })
	if err == nil {
		c.OK, c.Finding = true, "system calls that only matter to the host are refused"
		for _, g := range p.Gaps {
			if strings.HasPrefix(g.Name, "seccomp-") {
				c.OK, c.Finding, c.Cause = false, "no filter", g.Why
			}
		}
		return c
	}
	c.Finding, c.Cause = "no filter", err.Error()
	return c
}

func (t *prober) groups() []Check {
	place := cgroup.Find(t.parent)
	name := fmt.Sprintf("py3run-doctor-%d", os.Getpid())
	g, gaps, err := place.Make(name, cgroup.Limits{Memory: 1 << 30, Processes: 1000, CPUs: 1, ReadRate: 1 << 40, WriteRate: 1 << 40})
	why := map[string]string{}
	if err != nil {
		for _, c := range []string{"memory", "pids", "cpu", "io", "kill"} {
			why[c] = err.Error()
		}
	} else {
		for _, gap := range gaps {
			why[gap.Controller] = gap.Why
		}
		g.Close()
		defer g.Remove()
	}
	repair := "in the service that starts py3run: Delegate=yes and DelegateSubgroup=main (systemd 254 and later); for one user: loginctl enable-linger, then systemd-run --user -p Delegate=yes …; or name a group that this user owns with security.isolation.cgroup-parent"
	killRepair := repair
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil {
		repair = fmt.Sprintf("as root: for d in /sys/fs/cgroup/{memory,pids,cpu,cpuacct,blkio}; do mkdir -p $d/py3run && chown -R %d $d/py3run; done; then security.isolation.cgroup-parent = \"/py3run\"", os.Geteuid())
		killRepair = "none for an ordinary user beside v1 controllers; a run in namespaces ends as a whole without it"
	}
	kind, around := container("/", os.Getenv), cgroup.Around()
	_, noSystemd := os.Stat("/run/systemd/system")
	switch inside := around.ReadOnly || around.Version2 && noSystemd != nil; { // else groups are to be had as on any host
	case !inside:
		kind = ""
	case kind == "" && around.ReadOnly:
		kind = "or the like"
	}
	var checks []Check
	for _, c := range []struct{ controller, have, lack string }{
		{"memory", "memory of the whole tree is limited", "each process is limited by itself (RLIMIT_DATA), shared memory not at all"},
		{"pids", "processes and threads of the whole tree are limited", "processes are counted every 100 ms"},
		{"cpu", "max-cpus can be had", "max-cpus cannot be had"},
		{"io", "max-read- and max-write-mb-per-second can be had", "max-read- and max-write-mb-per-second cannot be had"},
		{"kill", "all processes of a run are killed at once", "processes are killed one by one"},
	} {
		check := Check{Name: "cgroup-" + c.controller, OK: true, Finding: c.have}
		if cause, gap := why[c.controller]; gap {
			check = Check{Name: check.Name, Finding: c.lack, Cause: cause, Repair: repair}
			if c.controller == "kill" {
				check.Repair = killRepair
			}
			if kind != "" {
				check.Cause, check.Repair = cause+insideCause(kind, c.controller, around), insideRepair(kind, os.Geteuid(), around)
			}
		}
		checks = append(checks, check)
	}
	return checks
}

func (t *prober) landlock() Check {
	c := Check{Name: "landlock"}
	version := landlockVersion()
	switch {
	case version == 0:
		c.Finding, c.Cause = "read-dirs and write-dirs cannot be had; abstract sockets are shared", "the kernel has no Landlock, or it is not in its list of security modules"
		c.Repair = "boot with lsm=landlock,… (see /sys/kernel/security/lsm), Linux 5.13 or later"
		return c
	case version < landlockScopes:
		c.Finding, c.Cause, c.Repair = fmt.Sprintf("version %d: abstract sockets of other runs can be connected to", version), "scopes came with Linux 6.12", "a newer kernel, or network = \"none\""
		return c
	}
	if _, err := t.start(func(s *Spec) { s.Method, s.WriteDirs = Auto, []string{"/dev/null"} }); err != nil {
		c.Finding, c.Cause = "refused", err.Error()
		return c
	}
	c.OK, c.Finding = true, fmt.Sprintf("version %d: read-dirs, write-dirs (but for modes, owners and times), abstract sockets", version)
	return c
}

// activity tries whether system calls can be recorded by a listener, under the same conditions as a
// run with the list of refused calls.
func (t *prober) activity() Check {
	c := Check{Name: "seccomp-notify"}
	p, err := t.start(func(s *Spec) { s.Method, s.DenyCalls, s.Activity, s.Files = Auto, true, Required, Required })
	if err == nil {
		const what = "what libraries and child programs connect to, start and write"
		c.OK, c.Finding = true, what+" is recorded"
		for _, g := range p.Gaps {
			switch {
			case g.Name == activityMeasure:
				c.OK, c.Finding, c.Cause = false, what+" is not recorded", g.Why
			case g.Name == filesMeasure && c.OK:
				c.OK, c.Finding, c.Cause = false, "what libraries and child programs connect to and start is recorded, but not what they write", g.Why
				c.Repair = "a newer kernel"
			}
		}
		return c
	}
	c.Finding, c.Cause = "no listener for system calls", err.Error()
	return c
}

// ProbeDir tries to make and remove a working directory, and says what its file system means for it.
func ProbeDir(d Dir) Check {
	c := Check{Name: "working-dir"}
	d.Private = true
	w, err := MakeWorkdir(d)
	if err != nil {
		c.Finding, c.Cause, c.Repair = "cannot be made", err.Error(), "name a writable place with security.isolation.working-dir"
		return c
	}
	defer w.Remove()
	parent := w.root
	if w.private != nil {
		c.Finding, c.Cause = "other runs of this user can see it", w.private.Error()
		c.Repair = "remove " + w.place + ", or name another place with security.isolation.working-dir"
		return c
	}
	if !w.own {
		c.Finding, c.Cause = "other runs of this user can remove it", parent+" holds other things than runs"
		c.Repair = `name a directory in between that py3run makes itself, as security.isolation.working-dir = "` + filepath.Join(parent, "py3run-${uid}", "python3-${userId}-${executionId}") + `"`
		return c
	}
	var fs unix.Statfs_t
	unix.Statfs(parent, &fs)
	switch fs.Type {
	case unix.TMPFS_MAGIC:
		c.Finding, c.Cause = parent+" is in memory", "what a run writes there counts as its memory"
		c.Repair = "name a place on a disk with security.isolation.working-dir"
		return c
	case unix.NFS_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC:
		c.Finding, c.Cause = parent+" is on the network", "measuring and removing are slow there, and a server that is gone holds runs up"
		c.Repair = "name a place on a local disk with security.isolation.working-dir"
		return c
	}
	c.OK, c.Finding = true, fmt.Sprintf("in %s, closed to other runs; %d MB free", parent, fs.Bavail*uint64(fs.Bsize)>>20)
	return c
}
