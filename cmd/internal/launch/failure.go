package launch

import (
	"cmp"
	"errors"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/wire"
	"py3run/sandbox"
	"syscall"

	"golang.org/x/sys/unix"
)

// launchStatus is that of a failed set-up: an interpreter that was found, and that the run's user cannot execute, is none of the host's shortcomings.
func launchStatus(err error) wire.Status {
	var step *sandbox.StepError
	if errors.As(err, &step) && step.Step == "execve" {
		return wire.StatusPythonNotExecutable
	}
	return wire.StatusLaunchFailed
}

// launchFailure tells what of the set-up failed.
func launchFailure(err error) *wire.Failure {
	f := &wire.Failure{Message: err.Error(), Errno: errnoName(err)}
	var step *sandbox.StepError
	var missing *sandbox.GapError
	switch {
	case errors.As(err, &step):
		f.Step = step.Step
		switch {
		case step.Step == "execve":
			f.Hint = "name an interpreter that the user of the run can reach and execute with python.interpreter"
		case step.Step == "mkdir":
			f.Hint = "name a writable place with security.isolation.working-dir"
		case step.Step == "clone" || step.Step == "mount" || step.Step == "id-map":
			f.Hint = "this host or container does not allow namespaces to this user; allow user namespaces (Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0), or set security.isolation.method = \"process\", which protects less"
		}
	case errors.As(err, &missing):
		f.Step = "isolation"
		f.Hint = "set security.isolation.on-missing = \"warn\" to run with what there is, or the limits in question to 0"
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

// unrecordedFailure tells why the start record could not be written.
func unrecordedFailure(err error) *wire.Failure {
	f := configFailure(err)
	f.Message, f.Errno, f.Hint = "audit: "+f.Message, errnoName(err), cmp.Or(f.Hint, "repair the audit directory, or name another with security.audit.dir")
	return f
}
