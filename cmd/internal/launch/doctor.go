package launch

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/python"
	"py3run/sandbox"
)

// Doctor tries each protection on this host, and everything else that a run needs.
func Doctor(job Job) []sandbox.Check {
	c := job.Config
	var checks []sandbox.Check
	ip, skipped, failed := find(job)
	defer ip.Close()
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
			ip.Keep() // cache the facts, as the first run does
		}
		took, asked := python.Again(want(job))
		checks = append(checks, slowStart(ip, took, asked)...)
	}
	checks = append(checks, probes...)
	facts := Facts{RunID: newRunID(job.Began)}
	facts.Root, _ = roots(job)
	checks = append(checks, sandbox.ProbeDir(workdir(c.Security.Isolation.WorkingDir, facts, job.Caller.UID, (Plan{Job: job}).user().name)))
	return append(checks, auditCheck(c, job.Environ), policyCheck(job.Environ))
}

// policyCheck reads the policy. Without one everybody may run code, and with one that cannot be used
// nobody may.
func policyCheck(environ []string) sandbox.Check {
	policy, err := access.Load(access.Places(environ), nil)
	if wrong, ok := errors.AsType[*access.PolicyError](err); ok {
		check := sandbox.Check{Name: "policy", Finding: "nothing runs: " + wrong.Code, Repair: cmp.Or(wrong.Findings[0].Hint, "py3runctl access policy says all that is wrong")}
		var causes []string
		for _, f := range wrong.Findings[:min(len(wrong.Findings), 5)] {
			causes = append(causes, f.Error())
		}
		check.Cause = strings.Join(causes, "; ")
		return check
	}
	if policy == nil {
		return sandbox.Check{Name: "policy", OK: true, Finding: "none: whoever can start py3run may run code"}
	}
	check := sandbox.Check{Name: "policy", OK: true, Finding: fmt.Sprintf("%s, users: %d, API keys: %d", policy.Path, len(policy.Users), len(policy.Keys))}
	if readers := policy.Readers(); readers != "" {
		check.Finding += "; " + readers
	}
	return check
}

// slowFind is the time to find the interpreter from which doctor reports it. With the facts about the
// interpreter in the cache, it takes less than a millisecond.
const slowFind = 100 * time.Millisecond

// slowStart reports why every run has to search for its interpreter again. Programs have to be asked
// for it each time, or there is no place to keep what they have answered.
func slowStart(ip python.Interpreter, took time.Duration, asked []python.Asked) []sandbox.Check {
	if took < slowFind && !slices.ContainsFunc(asked, func(a python.Asked) bool { return a.Shim != "" }) {
		return nil
	}
	c := sandbox.Check{Name: "python-start", Finding: fmt.Sprintf("to find the interpreter takes %d ms of every run", took.Milliseconds()),
		Repair: fmt.Sprintf("python.interpreter = %q in the configuration", ip.Path)}
	var causes []string
	for _, a := range asked {
		cause := fmt.Sprintf("%s takes %d ms: ", a.Path, a.Took.Milliseconds())
		switch {
		case a.Path == ip.Path: // nothing that it has said is kept
			continue
		case a.Shim == "script":
			cause += "a script or program that leads to an interpreter, which every run has to ask"
		case a.Shim != "" && a.Why != "":
			cause += "a shim of " + a.Shim + ", whose answer is not kept: " + a.Why
		case a.Shim != "":
			cause += "a shim of " + a.Shim + ", whose answer this host has no place to keep in"
		default:
			cause += "it does not answer as Python 3 does, and every run asks it again"
		}
		causes = append(causes, cause)
	}
	if c.Cause = strings.Join(causes, "; "); c.Cause == "" {
		c.Cause = "this user has no directory to cache facts about an interpreter in: neither HOME nor XDG_CACHE_HOME names one"
		c.Repair = "set XDG_CACHE_HOME to a directory that only this user can write"
	}
	return []sandbox.Check{c}
}

// auditCheck tries to write a file in the directory of the log.
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
		check.Finding, check.Cause, check.Repair = "the log cannot be written, and without it nothing runs", err.Error(), auditHint(err)
		return check
	}
	defer log.Close()
	if err := shareLog(log, c); err != nil {
		check.Finding, check.Cause, check.Repair = "the log is not readable for security.audit.group", err.Error(), "set security.audit.group to a group that this user may give files to, or leave it empty"
		return check
	}
	if fs := log.Network(); fs != "" {
		check.Finding, check.Cause = "the log is on "+fs, "writers on several machines can break it"
		return check
	}
	return sandbox.Check{Name: "audit", OK: true, Finding: fmt.Sprintf("records are durable in %s", filepath.Clean(dir))}
}
