package launch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

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
	Network     string          `json:"network,omitempty"`
	WorkingDir  string          `json:"working_dir,omitempty"`
	CurrentDir  string          `json:"current_dir,omitempty"`
	Hidden      []string        `json:"hidden,omitempty"`
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
	limits, warnings := Effective(job.Config.Security, job.Request.Limits)
	e.Limits, e.Warnings = &limits, append(e.Warnings, warnings...)
	facts, failed := factsOf(job, newRunID(job.Began))
	if failed != nil {
		return refuse(failed.status, failed.failure)
	}
	plan, err := Make(job, ip, limits, facts)
	if err != nil {
		return refuse(wire.StatusConfigError, configFailure(err))
	}
	spec := plan.Spec
	e.Network, e.WorkingDir, e.CurrentDir, e.AuditDir = job.Config.Security.Isolation.Network, plan.Workdir, spec.Dir, facts.AuditDir
	e.Hidden, e.ReadDirs, e.WriteDirs, e.RunAs = spec.Hide, spec.ReadDirs, spec.WriteDirs, job.Config.Security.Isolation.RunAs
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
	e.Isolation = isolation(protection)
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
	w, err := plan.directory(nil, false)
	if w != nil {
		defer w.Remove()
	}
	if err != nil {
		return p, err
	}
	spec := plan.Spec
	spec.Args, spec.DumpSignal = []string{spec.Path, "-V"}, 0
	r, err := sandbox.Start(spec, sandbox.IO{Stdout: io.Discard, Stderr: io.Discard, Workdir: w})
	if err != nil {
		return p, err
	}
	r.Release()
	r.Wait(nil, nil)
	return r.Protection(), r.RemoveGroup()
}

// isolation is the part of a result that says what was in force.
func isolation(p sandbox.Protection) *wire.Isolation {
	i := &wire.Isolation{Method: string(p.Method), Enforced: p.Enforced}
	for _, g := range p.Missing {
		i.Missing = append(i.Missing, wire.Missing{Name: g.Name, Why: g.Why})
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
	checks = append(checks, sandbox.Probe(program, group(c.Security.Isolation.CgroupParent, "").Parent)...)
	checks = append(checks, sandbox.ProbeDir(workdir(c.Security.Isolation.WorkingDir, user(job).name, newRunID(job.Began))))
	return append(checks, auditCheck(c, job.Environ))
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
