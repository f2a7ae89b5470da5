package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"py3run/audit"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/python"
	"py3run/sandbox"
	"slices"
	"strings"
	"time"
)

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
