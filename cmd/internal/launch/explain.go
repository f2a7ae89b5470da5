package launch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

// An Explanation is the plan of a run on this host, and what of it is to be had. Nothing of the user's ran for it.
type Explanation struct {
	Command     wire.Command    `json:"command"`
	Refused     *wire.Failure   `json:"refused,omitempty"` // why the run would not start
	Python      *wire.Python    `json:"python,omitempty"`
	PassedOver  []Skipped       `json:"passed_over,omitempty"`
	Limits      *wire.Limits    `json:"limits,omitempty"`
	Isolation   *wire.Isolation `json:"isolation,omitempty"`
	Effects     []string        `json:"effects,omitempty"` // what programs notice of the isolation, without having done anything wrong
	Network     string          `json:"network,omitempty"`
	WorkingDir  string          `json:"working_dir,omitempty"`
	CurrentDir  string          `json:"current_dir,omitempty"`
	Hidden      []string        `json:"hidden,omitempty"`
	Fixed       []string        `json:"fixed,omitempty"` // what the code sees and cannot change, move or replace
	ReadDirs    []string        `json:"read_dirs,omitempty"`
	WriteDirs   []string        `json:"write_dirs,omitempty"`
	RunAs       string          `json:"run_as,omitempty"`
	Environment []string        `json:"environment,omitempty"` // names only
	AuditDir    string          `json:"audit_dir,omitempty"`   // absent: no records
	Warnings    []wire.Warning  `json:"warnings,omitempty"`
}

// Skipped is an interpreter that was passed over.
type Skipped struct {
	Path string `json:"path"`
	From string `json:"from"`
	Why  string `json:"why"`
}

// Explain plans a run and tries its isolation with the interpreter's own version in the place of the code.
func Explain(job Job) Explanation {
	e := Explanation{Command: job.Request.Command, Warnings: job.Warnings}
	refuse := func(status wire.Status, f *wire.Failure) Explanation {
		e.Refused = fail(status, f).Failure
		return e
	}
	ip, skipped, failed := find(job)
	for _, c := range skipped {
		e.PassedOver = append(e.PassedOver, Skipped{c.Path, c.From, c.Why})
	}
	if failed != nil {
		return refuse(failed.status, failed.failure)
	}
	e.Python = &wire.Python{Version: ip.Version, Executable: ip.Path, Venv: ip.Venv}
	limits, warnings := effective(job, e.Warnings)
	e.Limits, e.Warnings = &limits, warnings
	facts, failed := factsOf(job, newRunID(job.Began))
	if failed != nil {
		return refuse(failed.status, failed.failure)
	}
	plan, err := Make(job, ip, limits, facts)
	if err != nil {
		return refuse(wire.StatusConfigError, configFailure(err))
	}
	spec := plan.Spec
	e.Network, e.WorkingDir, e.CurrentDir, e.AuditDir = job.Config.Security.Isolation.Network, plan.Dir.Path, spec.Dir, facts.AuditDir
	e.Hidden, e.Fixed, e.ReadDirs, e.WriteDirs, e.RunAs = spec.Hide, spec.Fixed, spec.ReadDirs, spec.WriteDirs, job.Config.Security.Isolation.RunAs
	for _, entry := range spec.Env {
		name, _, _ := strings.Cut(entry, "=")
		e.Environment = append(e.Environment, name)
	}
	slices.Sort(e.Environment)
	protection, err := try(plan)
	e.Warnings = append(e.Warnings, absent(job.Config)...)
	if err != nil {
		return refuse(wire.StatusLaunchFailed, launchFailure(err))
	}
	e.Isolation, e.Effects = isolation(protection), protection.Effects()
	return e
}

// Refused is what of the configuration keeps a run from starting on this host, beyond what can be told of it alone; nil: nothing.
func Refused(job Job) *wire.Failure {
	ip, _, failed := find(job)
	if failed != nil { // doctor tells
		ip = python.Interpreter{Path: "/"}
	}
	limits, _ := Effective(job.Config.Security, job.Request.Limits)
	facts, failed := factsOf(job, newRunID(job.Began))
	if failed != nil {
		return fail(failed.status, failed.failure).Failure
	}
	if _, err := Make(job, ip, limits, facts); err != nil {
		return fail(wire.StatusConfigError, configFailure(err)).Failure
	}
	if name := job.Config.Security.Audit.Group; name != "" {
		if _, err := groupID(name); err != nil {
			return fail(wire.StatusAuditUnavailable, configFailure(groupError(err))).Failure
		}
	}
	return nil
}

// try starts the interpreter as the plan says, but to print its version.
func try(plan Plan) (p sandbox.Protection, err error) {
	plan.Dir.Keep = false
	w, err := plan.directory(nil)
	if w != nil {
		defer w.Remove()
	}
	if err != nil {
		return p, err
	}
	spec := plan.Spec
	spec.Args, spec.DumpSignal = []string{spec.Path, "-V"}, 0
	r, err := sandbox.Start(spec, sandbox.IO{Stdout: io.Discard, Stderr: io.Discard, Workdir: w}, sandbox.OwnChild)
	if err != nil {
		return p, err
	}
	r.Release()
	out := r.Wait(nil, nil)
	return out.Protection, r.RemoveGroup()
}

// isolation is the part of a result that says what was in force.
func isolation(p sandbox.Protection) *wire.Isolation {
	i := &wire.Isolation{Method: string(p.Method), Enforced: p.Enforced, Missing: []wire.Gap{}}
	for _, g := range p.Gaps {
		i.Missing = append(i.Missing, wire.Gap{Name: g.Name, Why: g.Why})
	}
	return i
}

// Doctor really tries each protection on this host, and what else a run needs.
func Doctor(job Job) []sandbox.Check {
	c := job.Config
	var checks []sandbox.Check
	ip, skipped, failed := find(job)
	var why []string
	for _, s := range skipped {
		why = append(why, s.Path+" ("+s.From+"): "+s.Why)
	}
	passed := strings.Join(why, "; ")
	program := []string{"/bin/true"}
	if failed != nil {
		checks = append(checks, sandbox.Check{Name: "python", Finding: failed.failure.Message, Cause: passed, Repair: "install Python 3.8 or newer, or name one with python.interpreter"})
		if self, err := os.Executable(); err == nil {
			program = []string{self, "version"}
		}
	} else {
		finding := ip.Version + " at " + ip.Path
		if passed != "" {
			finding += "; passed over: " + passed
		}
		checks = append(checks, sandbox.Check{Name: "python", OK: true, Finding: finding})
		program = []string{ip.Path, "-V"}
	}
	probes := sandbox.Probe(program, group(c.Security.Isolation.CgroupParent, "").Parent, c.Security.Isolation.IDMap == "subids")
	if failed == nil {
		if slices.ContainsFunc(probes, func(c sandbox.Check) bool { return c.Name == "namespaces" && c.OK }) {
			ip.Keep() // as the first run does
		}
		took, scripts := python.Again(want(job))
		checks = append(checks, detour(ip, skipped, took, scripts)...)
	}
	checks = append(checks, probes...)
	facts := Facts{RunID: newRunID(job.Began)}
	facts.Root, _ = roots(job)
	checks = append(checks, sandbox.ProbeDir(workdir(c.Security.Isolation.WorkingDir, facts, job.Caller.UID, user(job).name)))
	return append(checks, auditCheck(c, job.Environ))
}

// slowFind is how long finding the interpreter may take without a word. Where what it says is kept, it takes less than one.
const slowFind = 100 * time.Millisecond

// detour tells what makes every run look for its interpreter anew: a script that leads to it, as the shims of pyenv and asdf are, or candidates
// before it that do not answer.
func detour(ip python.Interpreter, skipped []python.Candidate, took time.Duration, scripts []string) []sandbox.Check {
	if len(scripts) == 0 && took < slowFind {
		return nil
	}
	c := sandbox.Check{Name: "python-start", Finding: fmt.Sprintf("to find the interpreter takes %d ms of every run", took.Milliseconds()),
		Repair: fmt.Sprintf("python.interpreter = %q in the configuration", ip.Path)}
	switch {
	case len(scripts) > 0:
		c.Cause = strings.Join(scripts, ", ") + ": a script, such as a shim of pyenv or asdf, which has to be asked every time what it stands for"
	case len(skipped) > 0:
		c.Cause = "candidates before it do not answer as Python 3 does, and are asked every time"
	default:
		c.Cause = "there is no directory of this user's own to keep in what an interpreter has said: HOME and XDG_CACHE_HOME"
		c.Repair = "set XDG_CACHE_HOME to a directory that only this user can write"
	}
	return []sandbox.Check{c}
}

// auditCheck tries to write where the log is, beside it.
func auditCheck(c config.Config, environ []string) sandbox.Check {
	check := sandbox.Check{Name: "audit", Repair: "name a directory of this user's own with security.audit.dir"}
	if !c.Security.Audit.Enabled {
		check.Finding, check.Cause, check.Repair = "no run leaves a record", "security.audit.enabled is false", "set security.audit.enabled = true"
		return check
	}
	dir, err := c.AuditDir(environ)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		var f *os.File
		if f, err = os.CreateTemp(dir, ".doctor-"); err == nil {
			_, err = f.WriteString("py3run doctor\n")
			err = errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
		}
	}
	if err != nil {
		check.Finding, check.Cause = "the log cannot be written, and without it nothing runs", err.Error()
		return check
	}
	log, err := audit.Open(dir)
	if err != nil {
		check.Finding, check.Cause = "the log cannot be written, and without it nothing runs", err.Error()
		return check
	}
	defer log.Close()
	if err := shareLog(log, c); err != nil {
		check.Finding, check.Cause, check.Repair = "the log is not readable for security.audit.group", err.Error(), "name a group that this user may give files to with security.audit.group, or none"
		return check
	}
	if fs := log.Network(); fs != "" {
		check.Finding, check.Cause = "the log is on "+fs, "writers on several machines can break it"
		return check
	}
	return sandbox.Check{Name: "audit", OK: true, Finding: fmt.Sprintf("records are durable in %s", filepath.Clean(dir))}
}
