package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"py3run/sandbox/seccomp"
)

// overflowID is what the kernel shows instead of an id that a user namespace does not have
// (user_namespaces(7)).
const overflowID = 65534

// Effects tells what the protection changes for programs that do nothing wrong, and where nobody
// would look for the cause in it.
func (p Protection) Effects() (effects []string) {
	if os.Geteuid() == 0 {
		return nil // of root all ids are there, and set-user-ID programs are not needed
	}
	have := func(name string) bool { return slices.Contains(p.Enforced, name) }
	if !have("user-namespace") {
		if have("seccomp-"+seccomp.Default) || have("no-new-privileges") {
			effects = append(effects, `set-user-ID programs and file capabilities (sudo, su, mount, often ping) gain nothing: an ordinary user's filter of system calls needs the promise to gain no privileges; seccomp = "off" does without`)
		}
		return effects
	}
	also := ""
	if have(subIDsMeasure) {
		also = ", and what /etc/subuid and /etc/subgid give"
	}
	effects = append(effects,
		fmt.Sprintf("the user namespace has user %d and group %d%s; what belongs to others, root too, shows as %d (nobody)", os.Geteuid(), os.Getegid(), also, overflowID),
		"set-user-ID programs and file capabilities (sudo, su, mount, often ping) gain nothing in it",
		"programs that want their files to belong to root refuse them: sudo, ssh with files that its configuration includes")
	if groups := unmappedGroups(have(subIDsMeasure)); len(groups) > 0 {
		effects = append(effects, fmt.Sprintf("chown to this user's groups %s fails (EINVAL), which ends rsync -a with an error", strings.Join(groups, ", ")))
	}
	return effects
}

// unmappedGroups are those of this user that its user namespace does not have.
func unmappedGroups(withSubIDs bool) (groups []string) {
	all, _ := os.Getgroups()
	var ranges []idRange
	if withSubIDs {
		text, _ := os.ReadFile("/etc/subgid")
		ranges = subIDs(string(text), os.Getuid(), nameOf(os.Getuid()), os.Getegid())
	}
	for _, g := range all {
		mapped := slices.ContainsFunc(ranges, func(r idRange) bool { return r.first <= g && g < r.first+r.count })
		if g != os.Getegid() && !mapped {
			groups = append(groups, strconv.Itoa(g))
		}
	}
	return groups
}

// A probe is a program that works without a sandbox, as a rule, and tells by its exit code whether
// it does with one.
type probe struct {
	name string
	argv []string
}

// probes are harmless. dir is this user's own.
func probes(dir string, groups []int) []probe {
	list := []probe{
		{"sudo", []string{"sudo", "-V"}},
		{"ping", []string{"ping", "-c", "1", "-W", "1", "127.0.0.1"}},
		{"ssh", []string{"ssh", "-G", "localhost"}},
		{"rsync -a of root's files", []string{"rsync", "-a", "/etc/passwd", filepath.Join(dir, "copy")}},
	}
	for _, g := range groups {
		if g != os.Getegid() {
			list = append(list, probe{"chgrp " + strconv.Itoa(g), []string{"chgrp", strconv.Itoa(g), filepath.Join(dir, "file")}})
		}
	}
	return list[:min(len(list), 12)]
}

// probeMost is how long one may take.
const probeMost = 5 * time.Second

// ids really tries what a user namespace keeps from programs that work outside of it.
func (t *prober) ids(subIDs bool) Check {
	c := Check{Name: "user-ids"}
	switch {
	case os.Geteuid() == 0:
		c.OK, c.Finding = true, "all users and groups are there for root's runs"
		return c
	case t.refused != nil:
		c.OK, c.Finding = true, "those of the host: there is no user namespace"
		return c
	}
	dir, err := os.MkdirTemp("", "py3run-doctor-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)
	}
	if err != nil {
		c.Finding, c.Cause = "not tried", err.Error()
		return c
	}
	groups, _ := os.Getgroups()
	var fail, mended, left []string
	group := ""
	for _, try := range probes(dir, groups) {
		path, err := lookPath(try.argv[0])
		if err != nil || runOutside(path, try.argv) != nil {
			continue // is not there, or does not work anyhow
		}
		err = t.runInside(path, try.argv, func(s *Spec) { s.Method, s.DenyCalls, s.SubIDs = Namespace, true, subIDs })
		if err == nil {
			continue
		}
		fail = append(fail, fmt.Sprintf("%s (%v)", try.name, err))
		if t.runInside(path, try.argv, func(s *Spec) { s.Method = Process }) == nil {
			mended = append(mended, try.name)
		} else {
			left = append(left, try.name)
		}
		if id, isGroup := strings.CutPrefix(try.name, "chgrp "); isGroup && group == "" {
			group = id
		}
	}
	const limits = "the user namespace has only this user and its group: set-user-ID programs and file capabilities gain nothing, what belongs to others shows as nobody's"
	if len(fail) == 0 {
		c.OK, c.Finding = true, limits
		return c
	}
	c.Finding, c.Cause = "fail in runs: "+strings.Join(fail, "; "), limits
	if len(mended) > 0 {
		c.Repair = fmt.Sprintf("for runs that need it: security.isolation.method = \"process\" with seccomp = \"off\", which protects less (tried here, works: %s)", strings.Join(mended, ", "))
	}
	if len(left) > 0 {
		c.Repair = strings.TrimPrefix(c.Repair+"; nothing here mends "+strings.Join(left, ", "), "; ")
	}
	if group != "" && !subIDs {
		name := nameOf(os.Getuid())
		if name == "" {
			name = strconv.Itoa(os.Getuid())
		}
		c.Repair += fmt.Sprintf("; for groups: install package uidmap, as root usermod --add-subgids %s-%s %s for each, and set security.isolation.id-map = \"subids\"", group, group, name)
	}
	return c
}

// lookPath looks where the system's own programs are, too.
func lookPath(program string) (string, error) {
	path, err := exec.LookPath(program)
	for _, dir := range []string{"/usr/bin/", "/bin/", "/usr/sbin/", "/sbin/"} {
		if err == nil {
			break
		}
		path, err = exec.LookPath(dir + program)
	}
	return path, err
}

var probeEnviron = []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL=C", "HOME=" + os.Getenv("HOME")}

func runOutside(path string, argv []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), probeMost)
	defer cancel()
	c := exec.CommandContext(ctx, path, argv[1:]...)
	c.Env = probeEnviron
	return c.Run()
}

// runInside is runOutside in a sandbox. The error is what the program says.
func (t *prober) runInside(path string, argv []string, change func(*Spec)) error {
	spec := Spec{Path: path, Args: argv, Env: probeEnviron, Dir: "/", FirstFile: 64, Limits: Limits{Wall: probeMost}}
	change(&spec)
	var said bytes.Buffer
	r, err := Start(spec, IO{Stdout: &said, Stderr: &said}, OwnChild)
	if err != nil {
		return err
	}
	r.Release()
	o := r.Wait(nil, nil)
	switch line, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n"); {
	case o.Reason != Finished:
		return fmt.Errorf("took longer than %s", probeMost)
	case o.Signal != 0:
		return fmt.Errorf("%s", unix.SignalName(o.Signal))
	case o.ExitCode != 0 && line == "":
		return fmt.Errorf("exit code %d", o.ExitCode)
	case o.ExitCode != 0:
		return fmt.Errorf("%.200s", line)
	}
	return nil
}
