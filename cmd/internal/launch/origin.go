package launch

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"py3run/audit"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/redact"
	"py3run/cmd/internal/wire"
)

// auth is who called, as far as the kernel, sudo's variables and the request say.
func auth(job Job, method audit.AuthMethod, isUser func(name string, uid int) bool) audit.Auth {
	a := audit.Auth{Method: method, OSUID: job.Caller.UID, OSUser: job.Caller.Name, LoginUID: job.LoginUID}
	if a.SudoUser = env(job.Environ, "SUDO_USER"); a.SudoUser != "" {
		a.SudoSource = audit.SudoAsserted
		if a.LoginUID != nil && env(job.Environ, "SUDO_UID") == strconv.Itoa(*a.LoginUID) && isUser(a.SudoUser, *a.LoginUID) {
			a.SudoSource = audit.SudoLogin
		}
	}
	return a
}

// isUser tells whether a name is that of a user, by /etc/passwd: both variables of sudo's are only text.
func isUser(name string, uid int) bool {
	passwd, _ := os.ReadFile("/etc/passwd")
	u, ok := lookUp(name, string(passwd), "")
	return ok && u.UID == uid
}

// script is the name of the code. That of a file is its last part, by which runs are counted together from wherever they were started; a stream
// that the shell has opened, as run <(...) does, has none.
func script(job Job) audit.Script {
	switch name := job.Request.Filename; {
	case job.Live == nil && name != "" && name != wire.DefaultFilename:
		return audit.Script{Name: name, Source: audit.ScriptFilename}
	case job.Live != nil && job.Live.File != "" && !within("/dev", job.Live.File) && !within("/proc", job.Live.File):
		return audit.Script{Name: filepath.Base(job.Live.File), Source: audit.ScriptFile, Path: job.Live.File}
	}
	return audit.Script{}
}

// What a record holds of arguments.
const (
	argsMost     = 64
	argMost      = 512 // bytes of each
	argsTextMost = 4 << 10
)

// invocation is how the run was called. In exec sys.argv[0] is a file of py3run's own: there the name of the code stands for it.
func invocation(job Job) *audit.Invocation {
	v := &audit.Invocation{Command: "exec"}
	first := job.Request.Filename
	if job.Live != nil {
		v.Command, first = "run", job.Live.Argv0
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

// arguments are those that a record has room for, with secrets redacted, and how many were left out behind them.
func arguments(argv []string) (shown []string, dropped int) {
	kept := make([]string, 0, min(len(argv), argsMost))
	for _, arg := range argv[:min(len(argv), argsMost)] {
		kept = append(kept, clip(arg, 8*argMost)) // no need to look for secrets in what nobody sees
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

// configFiles are the files in which the configuration was looked for.
func configFiles(job Job) []audit.ConfigFile {
	files := make([]audit.ConfigFile, len(job.Looked))
	for i, f := range job.Looked {
		files[i] = audit.ConfigFile(f)
	}
	return files
}

// recordPolicy is for a run that leaves no records: that a configuration file has changed since the last run, which may be why, is still one.
func recordPolicy(p Plan) []wire.Warning {
	dir, err := p.Job.Config.AuditDir(p.Job.Environ)
	if err != nil || len(p.Job.Looked) == 0 {
		return nil
	}
	if err := audit.ComparePolicy(dir, record(p.Job, p.Limits, p.RunID), configFiles(p.Job)); err != nil {
		return []wire.Warning{{Code: "audit_unavailable", Message: "whether the configuration has changed is not in the audit log: " + err.Error()}}
	}
	return nil
}

// shareStrictly lets the group that the configuration names read the log. That it cannot is an error only where no run goes without a record.
func shareStrictly(log *audit.Log, c config.Config) ([]wire.Warning, error) {
	err := shareLog(log, c)
	if err != nil && c.Security.Audit.OnFailure != "refuse" {
		return []wire.Warning{{Code: "audit_group", Message: "members of the group cannot read the audit log: " + err.Error()}}, nil
	}
	return nil, err
}

// shareLog lets the group that the configuration names read the log.
func shareLog(log *audit.Log, c config.Config) error {
	name := c.Security.Audit.Group
	if name == "" {
		return nil
	}
	gid, err := groupID(name)
	if err == nil {
		err = log.ShareWith(gid)
	}
	if err != nil {
		return groupError(err)
	}
	return nil
}

func groupError(err error) error {
	return &config.Error{Where: "security", Key: "audit.group", Problem: err.Error(), Hint: "name a group that this user may give files to: one of its own, as root any; or none"}
}

// groupID is the number of a group in /etc/group, or that its name is.
func groupID(name string) (int, error) {
	if n, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(n), nil
	}
	text, err := os.ReadFile("/etc/group")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Split(line, ":"); len(f) >= 3 && f[0] == name {
			return strconv.Atoi(f[2])
		}
	}
	return 0, fmt.Errorf("no group %s in /etc/group", name)
}
