package launch

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/scripts"
	"py3run/cmd/internal/wire"
	"py3run/internal/envvar"
	"py3run/sandbox"
)

// A Plan is what a run will do, as far as py3run can know that beforehand.
type Plan struct {
	// what it was made from
	Job         Job // as it was admitted: with the limits of its user, and the code of a stored script
	RunID       string
	Grant       access.Grant       // who it is for; without a Method: not found out yet
	Behind      []access.Count     // for whom the run counts, too
	Rule        string             // that lets the user run this
	Stored      *scripts.Script    // the stored script that runs; nil: the request brings its code along
	Unread      bool               // its user may run that script, and not read it
	Policy      []audit.ConfigFile // the files in which a policy was looked for
	Interpreter python.Interpreter
	Skipped     []python.Candidate // interpreters that were passed over
	Limits      wire.Limits        // in force
	Facts       Facts
	Warnings    []wire.Warning

	// what follows from that
	Spec     sandbox.Spec
	Python   python.Job
	Dir      sandbox.Dir // the working directory: made before the run, removed after it
	CodeFile string      // the file for the user's code, beside Dir; empty: the code has a file of its own
	Config   []string    // directories of configuration files, which the code must not change
	Own      []string    // py3run's own directories, which the code must not see
	// start makes the directories of Config and Own that are missing, so that the code cannot.
}

// Make completes the plan of a run whose job, interpreter and limits are known. It makes no system
// call. Its error is a *config.Error: a mistake of the caller or of the operator.
func Make(plan Plan, facts Facts) (Plan, error) {
	job := plan.Job
	plan.RunID, plan.Facts = facts.RunID, facts
	isolation := job.Config.Security.Isolation
	plan.Dir = workdir(isolation.WorkingDir, facts, job.Caller.UID, plan.user().name)
	plan.Dir.Private, plan.Dir.Keep = isolation.Method != string(sandbox.Process), !isolation.CleanupOnExit
	at := place(job, plan.Dir.Path)
	if job.Bare == nil && (job.Live == nil || job.Live.File == "") {
		plan.CodeFile = at.file
	}
	for _, path := range append([]string{facts.AuditDir, facts.CacheDir, facts.StateDir}, facts.WarmDirs...) {
		if path != "" {
			plan.Own = append(plan.Own, filepath.Clean(path))
		}
	}
	plan.Config = nonEmpty(facts.Config)
	hide, pin := plan.hidden()
	if err := plan.reachable(at, hide); err != nil {
		return Plan{}, err
	}
	for _, name := range isolation.KeepCapabilities {
		if _, known := sandbox.Capability(name); !known {
			return Plan{}, &config.Error{Where: "security", Key: "isolation.keep-capabilities", Problem: name + " is not among those that py3run takes away",
				Hint: "list only capabilities that py3run takes away, with their names in capabilities(7), such as CAP_SYS_TIME"}
		}
	}
	plan.Spec = plan.spec(at, append(hide, secretsBeside(isolation.ReadDirs)...), pin)
	plan.Python = plan.pythonJob(at)
	return plan, nil
}

// pythonJob returns what the interpreter gets.
func (p Plan) pythonJob(at codePlace) python.Job {
	job, request := p.Job, p.Job.Request
	return python.Job{
		Command: request.Command, Code: codeOf(job), Text: job.Source == nil, Path: at.file, Shown: at.shown, Unread: p.Unread,
		Argv: append([]string{at.argv0}, request.Argv...), ImportPath: at.importPath,
		Variables: request.Variables, Module: request.Module, Function: request.Function,
		Args: request.Args, Kwargs: request.Kwargs, Line: request.Line, Column: request.Column,
		ResultFormat: request.ResultFormat, ResultFrom: request.ResultFrom,
		LazySite: job.Config.Python.Site == "lazy" && request.Command.RunsCode(), Flagged: job.Config.Python.FlagImports, Reads: job.Config.Security.Audit.Reads,
		PrintError: job.Live != nil, OutputMost: megabytes(p.Limits.OutputMB),
	}
}

// A codePlace is where the code runs, and under which names.
type codePlace struct {
	file       string // the file with the code
	dir        string // the current directory
	argv0      string // sys.argv[0]
	shown      string // the name of the file in tracebacks
	importPath []string
}

// place returns the place of the code of a job; own is the working directory of the run.
func place(job Job, own string) codePlace {
	at := codePlace{file: own + codeSuffix, dir: own, argv0: own + codeSuffix, shown: job.Request.Filename}
	configured := job.Config.Python.Path
	live := job.Live
	switch {
	case job.Bare != nil:
		return codePlace{file: job.Bare.File, dir: job.Dir}
	case live == nil:
		at.importPath = slices.Clone(configured)
	case job.Request.Script != "": // what lies in the caller's directory must not stand in for its modules
		at.dir, at.argv0 = job.Dir, live.Argv0
		at.importPath = slices.Clone(configured)
	case live.File == "":
		at.dir, at.argv0 = job.Dir, live.Argv0
		at.importPath = append([]string{job.Dir}, configured...)
	default:
		at.file, at.dir, at.argv0, at.shown = live.File, job.Dir, live.Argv0, live.Argv0
		at.importPath = append([]string{filepath.Dir(live.File)}, configured...)
	}
	return at
}

// hidden returns the paths that the program must not see, and those of them that it must not move
// or replace either.
func (p Plan) hidden() (hide, pin []string) {
	own := p.Dir.Path
	if p.Job.Bare != nil { // it has no directory
		own = ""
	}
	for _, path := range p.Job.Config.Security.Isolation.Hide {
		hide = append(hide, filepath.Clean(path))
	}
	pin = slices.Clone(p.Own)
	if p.Facts.AuditDir == "" && p.Facts.LogDir != "" { // the log of other runs
		pin = append(pin, p.Facts.LogDir)
	}
	for _, dir := range p.Facts.OthersHidden {
		if !slices.Contains(pin, dir) && !within(dir, own) {
			pin = append(pin, dir)
		}
	}
	if key := p.Job.KeyFile; key != "" && !slices.Contains(pin, key) {
		pin = append(pin, key)
	}
	hide = append(append(hide, pin...), p.policies()...)
	for _, root := range p.Facts.OtherRoots {
		if !within(root, own) && !slices.Contains(hide, root) {
			hide = append(hide, root)
		}
	}
	return hide, pin
}

// policies returns the files of a policy that may exist: the code must not see whom it names. That
// it cannot change them follows from Config.
func (p Plan) policies() (paths []string) {
	for _, environ := range [][]string{p.Job.Environ, {"HOME=" + p.Job.Caller.Home}} {
		for _, path := range access.Places(environ) {
			absent := slices.ContainsFunc(p.Policy, func(f audit.ConfigFile) bool { return f.Path == path && f.SHA256 == "" })
			if !absent && !slices.Contains(paths, path) {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// reachable returns an error if the run could not see something that it needs: the path is hidden,
// or lies in a directory where each run sees only its own files.
func (p Plan) reachable(at codePlace, hide []string) error {
	own := p.Dir.Path
	if p.Job.Bare != nil { // it has no directory
		own = at.dir
	}
	for _, needed := range []string{at.file, at.dir, p.Interpreter.Path} {
		if p.Facts.RootPrivate && needed != own && needed != own+codeSuffix && within(p.Dir.Root, needed) {
			return &config.Error{Where: "security", Key: "isolation.working-dir",
				Problem: fmt.Sprintf("%s lies in %s, where each run sees only its own files", needed, p.Dir.Root),
				Hint:    "move it elsewhere, or start from another directory"}
		}
	}
	for _, h := range hide {
		for _, needed := range []string{own, at.file, at.dir, p.Interpreter.Path} {
			if within(h, needed) {
				return &config.Error{Where: "security", Key: "isolation.hide",
					Problem: fmt.Sprintf("%s is hidden from the code, and %s, which it needs, lies in it", h, needed),
					Hint:    "hide less, or move what the code needs"}
			}
		}
	}
	return nil
}

// spec returns what the sandbox starts, and under which limits and protections.
func (p Plan) spec(at codePlace, hide, pin []string) sandbox.Spec {
	job, limits, isolation := p.Job, p.Limits, p.Job.Config.Security.Isolation
	own := p.Dir.Path
	readable, writable := permitted(p, at)
	security := job.Config.Security
	openFiles, first := descriptors(security.MaxOpenFiles, p.Facts.FileMax)
	spec := sandbox.Spec{
		Path: p.Interpreter.Path, Env: p.environment(), Dir: at.dir,
		Method: sandbox.Method(isolation.Method), OnMissing: sandbox.OnMissing(isolation.OnMissing),
		DenyNetwork: isolation.Network == "none", Hide: hide, Pin: pin,
		ReadOnly:   nonEmpty(slices.Concat(p.Facts.Config, p.Facts.OthersReadOnly, []string{config.SystemDir, job.NamedConfig, p.Facts.Program})),
		PrivateShm: isolation.Shm == "private" && !inShm(own, at.file, at.dir, p.Interpreter.Path), Umask: job.Umask,
		ReadDirs: readable, WriteDirs: writable, MinimalDev: isolation.Dev == "minimal",
		DenyCalls: isolation.Seccomp == "default", NoNewPrivileges: isolation.NoNewPrivileges,
		KeepCapabilities: isolation.KeepCapabilities, SubIDs: isolation.IDMap == "subids", Activity: activity[security.Audit.Native],
		Files: activity[security.Audit.Files], Reads: security.Audit.Reads,
		Limits: sandbox.Limits{
			Wall: seconds(limits.TimeoutSeconds), CPU: seconds(limits.CPUSeconds), Idle: seconds(limits.IdleSeconds),
			Memory: megabytes(limits.MemoryMB), Processes: int(limits.Processes), OpenFiles: openFiles,
			FileSize: megabytes(limits.FileMB), Disk: megabytes(limits.DiskMB),
			CPUs: security.MaxCPUs, ReadRate: megabytes(security.MaxReadMBPerSecond), WriteRate: megabytes(security.MaxWriteMBPerSecond),
		},
		Group:     group(isolation.CgroupParent, p.RunID),
		FirstFile: first, DumpSignal: syscall.Signal(python.SignalWhere), Grace: seconds(security.GraceSeconds),
	}
	if u := p.Facts.RunAs; u != nil {
		spec.RunAs = &u.User
		// The caller's values would name files that this user may not read.
		spec.Env = slices.DeleteFunc(spec.Env, func(e string) bool {
			name, _, _ := strings.Cut(e, "=")
			return name == "HOME" || name == "USER" || name == "LOGNAME"
		})
		spec.Env = append(spec.Env, "HOME="+u.home, "USER="+u.name, "LOGNAME="+u.name)
	}
	if job.Bare != nil {
		p.bare(&spec)
	}
	if ip := p.Interpreter; ip.Link != "" {
		spec.Links = append(spec.Links, sandbox.Link{Path: ip.Link, Target: ip.Behind})
	}
	if !job.Request.Command.RunsCode() { // no code of the user runs: a missing protection is no reason to refuse
		spec.OnMissing, spec.Activity, spec.Files = sandbox.Warn, sandbox.NotRequested, sandbox.NotRequested
	}
	return spec
}

// nonEmpty returns the paths that are not empty.
func nonEmpty(paths []string) (list []string) {
	for _, path := range paths {
		if path != "" {
			list = append(list, path)
		}
	}
	return list
}

// inShm reports whether a run needs a path in the host's /dev/shm. A private /dev/shm would be
// mounted over that path.
func inShm(needed ...string) bool {
	return slices.ContainsFunc(needed, func(path string) bool { return within("/dev/shm", path) })
}

// activity maps security.audit.native and security.audit.files to what the sandbox is asked for: whether the kernel has to
// report what processes do. A value that is not in it, such as "off", asks for nothing.
var activity = map[string]sandbox.Requirement{"auto": sandbox.BestEffort, "on": sandbox.Required}

// permitted returns the paths that the program may read and write; nil: not restricted.
func permitted(p Plan, at codePlace) (readable, writable []string) {
	job, ip := p.Job, p.Interpreter
	own := []string{p.Dir.Path}
	if data := envvar.Lookup(job.Environ, "PYTHON3_DATA_DIR"); filepath.IsAbs(data) {
		own = append(own, data)
	}
	if dirs := job.Config.Security.Isolation.WriteDirs; len(dirs) > 0 {
		devices := []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/shm", "/dev/ptmx", "/dev/pts"}
		if live := job.Live; live != nil && live.Terminal != nil && job.Config.Security.Isolation.Dev == "minimal" {
			devices = append(devices, "/dev/console") // there it is the run's terminal
		}
		writable = slices.Concat(dirs, own, devices)
	}
	if dirs := job.Config.Security.Isolation.ReadDirs; len(dirs) > 0 {
		// Every program loads the system's libraries. Python also reads certificates, time zones and
		// the configuration of name services.
		system := []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/dev", "/proc", "/sys", "/run/systemd/resolve", "/run/nscd"}
		readable = slices.Concat(dirs, own, system, ip.Prefixes, nonEmpty([]string{ip.Venv}), []string{filepath.Dir(ip.Path), at.file}, at.importPath)
		if live := job.Live; live != nil && live.File != "" {
			readable = append(readable, filepath.Dir(live.File))
		}
		if b := job.Bare; b != nil {
			readable = nonEmpty(append(readable, b.places()...))
		}
	}
	return readable, writable
}

// secretsBeside returns the secrets that lie in the directories that permitted adds for Python. It leaves
// out those that read-dirs names. Without read-dirs it returns nothing.
func secretsBeside(readDirs []string) (hide []string) {
	if len(readDirs) == 0 {
		return nil
	}
	for _, secret := range secrets {
		if !slices.ContainsFunc(readDirs, func(dir string) bool { return within(secret, dir) || dir != "/" && within(dir, secret) }) {
			hide = append(hide, secret)
		}
	}
	return hide
}

// secrets are files in the system's directories that neither Python nor the libraries need.
var secrets = []string{"/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/security/opasswd", "/etc/ssh", "/etc/ssl/private", "/etc/sudoers", "/etc/sudoers.d"}

// descriptors returns the limit on open files, and the number of the first descriptor that py3run
// uses itself inside the run. That number is at the limit or above it, so no file of the user can get
// it. If the user's hard limit leaves no room above, the limit of the run is a little lower.
// asked 0: no limit; hard 0: unknown.
func descriptors(asked, hard int) (limit, first int) {
	const room = 16        // for our descriptors, and for those that exist only during set-up
	const unlimited = 1024 // the kernel's table is as long as the highest number, so keep that low
	const most = 1 << 16
	first = unlimited
	if asked > 0 {
		first = min(max(asked, 64), most)
	}
	if hard > 0 && first+room > hard {
		first = max(hard-room, 8)
		if asked > 0 {
			asked = min(asked, first)
		}
	}
	return asked, first
}

// group names the control group of a run.
func group(parent, runID string) sandbox.Group {
	switch parent {
	case "none":
		return sandbox.Group{}
	case "auto":
		parent = ""
	}
	return sandbox.Group{Name: "py3run-" + runID, Parent: parent}
}
