package launch

import (
	"cmp"
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"py3run/audit"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

// launchStatus returns the status of a set-up that failed. If the user of the run cannot execute the
// interpreter, the status says so; any other step is a shortcoming of the host.
func launchStatus(err error) wire.Status {
	var step *sandbox.StepError
	if errors.As(err, &step) && step.Step == "execve" {
		return wire.StatusPythonNotExecutable
	}
	return wire.StatusLaunchFailed
}

// launchFailure describes the step of the set-up that failed.
func launchFailure(err error) *wire.Failure {
	f := &wire.Failure{Message: err.Error(), Errno: errnoName(err)}
	var step *sandbox.StepError
	var missing *sandbox.GapError
	switch {
	case errors.As(err, &step):
		f.Step = step.Step
		switch {
		case step.Step == "execve":
			f.Hint = "set python.interpreter to one that the user of the run can reach and execute"
		case step.Step == "mkdir":
			f.Hint = "name a writable place with security.isolation.working-dir"
		case step.Step == "clone" || step.Step == "mount" || step.Step == "id-map":
			f.Hint = "this host or container does not allow namespaces to this user; allow user namespaces (Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0), or set security.isolation.method = \"process\", which protects less"
		}
	case errors.As(err, &missing):
		f.Step = "isolation"
		f.Hint = "set security.isolation.on-missing = \"warn\" to run without what is missing; a missing limit can also be set to 0"
	}
	return f
}

func configFailure(err error) *wire.Failure {
	f := &wire.Failure{Message: err.Error()}
	var c *config.Error
	if errors.As(err, &c) {
		f.Hint = c.Hint
	}
	return f
}

func errnoName(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return ""
}

// unrecordedFailure describes why the start record could not be written.
func unrecordedFailure(err error) *wire.Failure {
	f := configFailure(err)
	f.Message, f.Errno, f.Hint = "audit: "+f.Message, errnoName(err), cmp.Or(f.Hint, auditHint(err))
	return f
}

// auditHint says how to repair the directory of the log.
func auditHint(err error) string {
	if at, ok := errors.AsType[*audit.StepError](err); ok && errors.Is(err, audit.ErrOpenToOthers) {
		return "chmod go-w " + at.Path + ", or name a directory of this user's own with security.audit.dir"
	}
	return "repair the audit directory, or name another with security.audit.dir"
}
