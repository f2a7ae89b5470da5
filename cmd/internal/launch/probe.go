package launch

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"time"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/warm"
	"py3run/sandbox"
)

// A candidate for the interpreter is a program like another: a run could have put it where it is looked for, in a virtual environment say. So it is asked under
// the cover that runs have: it finds neither log nor keys nor caches, and can change nothing that steers later runs.

// probeMost bounds what a candidate says, in bytes, and probeMemory its memory.
const (
	probeMost   = 4 << 20
	probeMemory = 1 << 30
)

// ask is a [python.Runner].
func (job Job) ask(path string, args, environ []string, stdin string, within time.Duration) (stdout, stderr string, err error) {
	hide, fixed := job.steering()
	_, first := descriptors(job.Config.Security.MaxOpenFiles, hardFileLimit())
	in, err := python.Input(stdin)
	if err != nil {
		return "", "", err
	}
	defer in.Close()
	spec := sandbox.Spec{Path: path, Args: append([]string{path}, args...), Env: environ, Dir: "/", Method: sandbox.Method(job.Config.Security.Isolation.Method), OnMissing: sandbox.Warn,
		Hide: hide, Pin: hide, Fixed: fixed, DenyCalls: true, PrivateShm: !inShm(path), FirstFile: first, Umask: job.Umask, Grace: seconds(job.Config.Security.GraceSeconds),
		Limits: sandbox.Limits{Wall: within, Memory: probeMemory, Processes: 64}}
	out, errs := &capture{most: probeMost}, &capture{most: probeMost}
	r, err := sandbox.Start(spec, sandbox.IO{Stdin: in, Stdout: out, Stderr: errs}, sandbox.OwnChild)
	if err != nil {
		var errno syscall.Errno
		if step := new(sandbox.StepError); errors.As(err, &step) && step.Step == "execve" && errors.As(err, &errno) {
			err = errno
		}
		return "", "", err
	}
	r.Release()
	if r.Wait(nil, nil).Reason == sandbox.WallLimit { // a signal is for the run: it finds it when it waits
		err = context.DeadlineExceeded
	}
	return string(out.head) + string(out.tail), errs.text(), err
}

// steering is what of py3run's own no program sees, made as far as it is not there yet, and what none changes. A log is only hidden: commands that run nothing
// of the user's make none.
func (job Job) steering() (hide, fixed []string) {
	for _, dir := range []string{CacheDir(job.Environ), StateDir(job.Environ)} {
		if dir != "" {
			hide = append(hide, dir)
		}
	}
	Plan{Own: hide}.makeOwn(env(job.Environ, "HOME"))
	others, kept := ofOthers(job)
	hide, fixed = append(hide, others...), kept
	if log, err := job.Config.AuditDir(job.Environ); err == nil {
		hide = append(hide, log)
	}
	hide = append(hide, warm.Dirs(job.Environ)...)
	program, _ := os.Executable()
	for _, path := range []string{config.UserDir(job.Environ), config.SystemDir, job.Steering, program} {
		if path != "" && strings.HasPrefix(path, "/") {
			fixed = append(fixed, path)
		}
	}
	return hide, fixed
}
