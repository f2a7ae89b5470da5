package launch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/warm"
	"py3run/internal/envvar"
	"py3run/sandbox"
)

// A candidate for the interpreter is not trusted: an earlier run could have put it where we search, in
// a virtual environment for example. So py3run asks it inside a sandbox. There it sees neither log nor
// keys nor caches, and it can change nothing that later runs depend on.

// Bounds of a candidate, in bytes.
const (
	probeMost   = 4 << 20 // of each of its output streams
	probeMemory = 1 << 30
)

// ask runs a candidate for the interpreter and returns what it prints. It is a [python.Runner].
func (job Job) ask(path string, args, environ []string, dir, stdin string, within time.Duration) (stdout, stderr string, err error) {
	hide, readOnly := job.protectedPaths()
	for _, hidden := range hide { // a caller may be in there
		if hidden == dir || strings.HasPrefix(dir, hidden+"/") {
			dir = filepath.Dir(hidden)
		}
	}
	_, first := descriptors(job.Config.Security.MaxOpenFiles, hardFileLimit())
	in, err := python.Input(stdin)
	if err != nil {
		return "", "", err
	}
	defer in.Close()
	spec := sandbox.Spec{Path: path, Args: append([]string{path}, args...), Env: environ, Dir: dir, Method: sandbox.Method(job.Config.Security.Isolation.Method), OnMissing: sandbox.Warn,
		Hide: hide, Pin: hide, ReadOnly: readOnly, DenyCalls: true, PrivateShm: !inShm(path), FirstFile: first, Umask: job.Umask, Grace: seconds(job.Config.Security.GraceSeconds),
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
	// No signals here: one that comes now stays in the channel, and the run reads it when it waits.
	if r.Wait(nil, nil).Reason == sandbox.WallLimit {
		err = context.DeadlineExceeded
	}
	return string(out.head) + string(out.tail), errs.text(), err
}

// protectedPaths returns the paths that later runs depend on: those that no candidate may see, and those
// that none may change. It makes the missing cache and state directories. It does not make the log:
// commands that run no code of the user have none.
func (job Job) protectedPaths() (hide, readOnly []string) {
	for _, dir := range []string{CacheDir(job.Environ), StateDir(job.Environ)} {
		if dir != "" {
			hide = append(hide, dir)
		}
	}
	Plan{Own: hide}.makeOwn(envvar.Lookup(job.Environ, "HOME"))
	others, kept := pathsOfOthers(job)
	hide, readOnly = append(hide, others...), kept
	if log, err := job.Config.AuditDir(job.Environ); err == nil {
		hide = append(hide, log)
	}
	hide = append(hide, warm.Dirs(job.Environ)...)
	program, _ := os.Executable()
	for _, path := range []string{config.UserDir(job.Environ), config.SystemDir, job.NamedConfig, program} {
		if path != "" && strings.HasPrefix(path, "/") {
			readOnly = append(readOnly, path)
		}
	}
	return hide, readOnly
}
