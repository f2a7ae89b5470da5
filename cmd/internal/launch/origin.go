package launch

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"strconv"
	"strings"

	"py3run/audit"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/redact"
	"py3run/cmd/internal/wire"
	"py3run/internal/envvar"
	"py3run/internal/passwd"
)

// auth describes the caller, from what its key, the kernel, sudo's variables and the request say.
func auth(p Plan, isUser func(name string, uid int) bool) audit.Auth {
	job := p.Job
	a := audit.Auth{Method: p.user().method, KeyID: p.Grant.KeyID, Holder: p.Grant.Holder, OSUID: job.Caller.UID, OSUser: job.Caller.Name, LoginUID: job.LoginUID}
	if a.SudoUser = envvar.Lookup(job.Environ, "SUDO_USER"); a.SudoUser != "" {
		a.SudoSource = audit.SudoAsserted
		if a.LoginUID != nil && envvar.Lookup(job.Environ, "SUDO_UID") == strconv.Itoa(*a.LoginUID) && isUser(a.SudoUser, *a.LoginUID) {
			a.SudoSource = audit.SudoLogin
		}
	}
	return a
}

// isUser reports whether /etc/passwd gives this name this uid. The variables SUDO_USER and SUDO_UID
// are only text.
func isUser(name string, uid int) bool {
	u, ok := passwd.ByName(name)
	return ok && u.UID == uid
}

// script returns the name of the code. For a file it is the last part of the path, so that runs of one
// script count together from whatever directory they are started. A stream that the shell opens, as
// `run <(...)` does, has no name.
func script(p Plan) audit.Script {
	job := p.Job
	switch name := job.Request.Filename; {
	case job.Request.Script != "":
		return storedScript(p)
	case job.Bare != nil:
		return job.Bare.script()
	case job.Live == nil && name != "" && name != wire.DefaultFilename:
		return audit.Script{Name: name, Source: audit.ScriptFilename}
	case job.Live != nil && job.Live.File != "" && !within("/dev", job.Live.File) && !within("/proc", job.Live.File):
		return audit.Script{Name: filepath.Base(job.Live.File), Source: audit.ScriptFile, Path: job.Live.File}
	}
	return audit.Script{}
}

// Bounds on the arguments in a record.
const (
	argsMost     = 64      // arguments
	argMost      = 512     // bytes of each
	argsTextMost = 4 << 10 // bytes of all together
)

// invocation describes how the run was called. In exec, sys.argv[0] is a file that py3run made: the
// record has the name of the code instead.
func invocation(job Job) *audit.Invocation {
	v := &audit.Invocation{Command: "exec"}
	first := job.Request.Filename
	if b := job.Bare; b != nil {
		v.Command = "python"
		v.Argv, v.ArgvDropped = arguments(b.recorded())
		return v
	}
	if job.Live != nil {
		v.Command, first = "run", job.Live.Argv0
	}
	if job.Command != "" {
		v.Command = job.Command
	}
	if job.Live != nil || len(job.Request.Argv) > 0 {
		v.Argv, v.ArgvDropped = arguments(append([]string{first}, job.Request.Argv...))
	}
	if text := job.Request.Stdin; text != nil && job.Live == nil {
		sum := sha256.Sum256([]byte(*text))
		v.Stdin = &audit.Input{Bytes: int64(len(*text)), SHA256: hex.EncodeToString(sum[:])}
	}
	return v
}

// arguments returns the arguments that fit into a record, with secrets redacted, and how many at the
// end were left out.
func arguments(argv []string) (shown []string, dropped int) {
	kept := make([]string, 0, min(len(argv), argsMost))
	for _, arg := range argv[:min(len(argv), argsMost)] {
		kept = append(kept, clip(arg, 8*argMost)) // redact.Args need not read what the record cannot show
	}
	size := 0
	for _, arg := range redact.Args(kept) {
		arg = clip(arg, argMost)
		if size += len(arg); size > argsTextMost {
			break
		}
		shown = append(shown, arg)
	}
	return shown, len(argv) - len(shown)
}

func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// configFiles lists the files in which the configuration and the policy were looked for.
func configFiles(p Plan) []audit.ConfigFile {
	files := make([]audit.ConfigFile, 0, len(p.Job.Looked)+len(p.Policy))
	for _, f := range p.Job.Looked {
		files = append(files, audit.ConfigFile{Path: f.Path, SHA256: f.SHA256})
	}
	return append(files, p.Policy...)
}

// recordPolicy is for a run that leaves no records. It still records if a configuration file has
// changed since the last run: that change may be what switched the records off.
func recordPolicy(p Plan) []wire.Warning {
	dir, err := p.Job.Config.AuditDir(p.Job.Environ)
	if err != nil || len(p.Job.Looked) == 0 {
		return nil
	}
	if err := audit.ComparePolicy(dir, record(p), configFiles(p)); err != nil {
		return []wire.Warning{{Code: "audit_unavailable", Message: "whether the configuration has changed is not in the audit log: " + err.Error()}}
	}
	return nil
}

// shareStrictly lets the configured group read the log. If that fails, it returns an error when the
// configuration refuses runs without a record, and a warning otherwise.
func shareStrictly(log *audit.Log, c config.Config) ([]wire.Warning, error) {
	err := shareLog(log, c)
	if err != nil && c.Security.Audit.OnFailure != "refuse" {
		return []wire.Warning{{Code: "audit_group", Message: "members of the group cannot read the audit log: " + err.Error()}}, nil
	}
	return nil, err
}

// shareLog lets the configured group read the log (security.audit.group).
func shareLog(log *audit.Log, c config.Config) error {
	name := c.Security.Audit.Group
	if name == "" {
		return nil
	}
	gid, err := passwd.GroupID(name)
	if err == nil {
		err = log.ShareWith(gid)
	}
	if err != nil {
		return groupError(err)
	}
	return nil
}

func groupError(err error) error {
	return &config.Error{Where: "security", Key: "audit.group", Problem: err.Error(), Hint: "name a group that this user may give files to: one of its own, or any group as root; or leave it empty"}
}
