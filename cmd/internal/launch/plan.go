package launch

import (
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

// bootstrap.py registers faulthandler for it: the last but one real-time signal, which nobody uses.
const dumpSignal = syscall.Signal(63)

// limitsOf are the limits of a configuration.
func limitsOf(c config.Security) wire.Limits {
	return wire.Limits{
		TimeoutSeconds: c.ExecutionTimeoutSeconds, CPUSeconds: c.MaxCPUSeconds, MemoryMB: c.MaxMemoryMB, Processes: float64(c.MaxProcesses),
		OutputMB: c.MaxOutputSizeMB, FileMB: c.MaxFileSizeMB, DiskMB: c.MaxDiskMB, IdleSeconds: c.IdleTimeoutSeconds,
	}
}

// Effective are the limits of a run: the configuration's, tightened by the request. A looser wish is clamped, and said.
func Effective(c config.Security, asked wire.Limits) (wire.Limits, []wire.Warning) {
	limits := limitsOf(c)
	var warnings []wire.Warning
	for _, name := range wire.LimitNames() {
		most, _ := limits.Get(name)
		want, _ := asked.Get(name)
		switch {
		case want == 0: // not given
		case most == 0 || want <= most:
			limits.Set(name, want)
		default:
			warnings = append(warnings, wire.Warning{Code: "clamped_limit",
				Message: fmt.Sprintf("%s: %v asked, the configuration allows %v", name, want, most)})
		}
	}
	return limits, warnings
}

// A Plan is what a run will do, as far as that can be known without doing it.
type Plan struct {
	Spec     sandbox.Spec
	Python   python.Job
	Dir      sandbox.Dir // made before the run, removed after it
	CodeFile string      // likewise, beside it: the user's code in a real file; empty when the code has one of its own
	Config   []string    // directories that configurations are read from, which the code must not change; made likewise
	Own      []string    // directories of py3run's own that the code must not see; they are made if they are missing, before the code could
}

// Facts is what a plan needs to know of this host and this user.
type Facts struct {
	RunID    string
	Root     string   // of the working directory, where the template has none of its own; see sandbox.ChooseRoot
	Roots    []string // of other runs
	Covered  bool     // the root is py3run's own, and a run sees nothing else there
	AuditDir string   // empty: no records
	LogDir   string   // where a log is, also when this run leaves no records
	CacheDir string   // empty: none
	StateDir string   // of keys; empty: none

	OthersHidden, OthersFixed []string // what of py3run's own other calls use: hidden, or kept as it is, where it is there

	Config   []string // directories that configurations are read from
	Program  string   // py3run's own file
	WarmDir  string   // of the template that is wanted; empty: none is, or there is no place for it
	WarmDirs []string // where templates can be
	RunAs    *account // who security.isolation.run-as names
	FileMax  int      // most descriptors this user may have: the hard RLIMIT_NOFILE
}

// Make plans a run. It makes no system call. The error is the caller's or the operator's mistake.
func Make(job Job, ip python.Interpreter, limits wire.Limits, facts Facts) (Plan, error) {
	c := job.Config
	plan := Plan{Dir: workdir(c.Security.Isolation.WorkingDir, facts, job.Caller.UID, user(job).name)}
	plan.Dir.Private, plan.Dir.Keep = c.Security.Isolation.Method != string(sandbox.Process), !c.Security.Isolation.CleanupOnExit
	own := plan.Dir.Path
	code, file := codeOf(job), own+codeSuffix
	plan.CodeFile = file
	dir, argv0, shown, show := own, file, job.Request.Filename, false
	importPath := slices.Clone(c.Python.Path)
	if live := job.Live; live != nil {
		dir, argv0, show = job.Dir, live.Argv0, true
		if live.File != "" {
			plan.CodeFile, file, shown = "", live.File, live.Argv0
			importPath = append([]string{filepath.Dir(live.File)}, importPath...)
		} else {
			importPath = append([]string{job.Dir}, importPath...)
		}
	}
	for _, needed := range []string{file, dir, ip.Path} {
		if facts.Covered && needed != own && needed != own+codeSuffix && within(plan.Dir.Root, needed) {
			return Plan{}, &config.Error{Where: "security", Key: "isolation.working-dir",
				Problem: fmt.Sprintf("%s lies in %s, where each run sees only what is its own", needed, plan.Dir.Root),
				Hint:    "move it to another place, or start from another directory"}
		}
	}
	for _, path := range append([]string{facts.AuditDir, facts.CacheDir, facts.StateDir}, facts.WarmDirs...) {
		if path != "" {
			plan.Own = append(plan.Own, filepath.Clean(path))
		}
	}
	plan.Config = slices.DeleteFunc(slices.Clone(facts.Config), func(path string) bool { return path == "" })
	var hide []string
	for _, path := range c.Security.Isolation.Hide {
		hide = append(hide, filepath.Clean(path))
	}
	pin := slices.Clone(plan.Own)
	if facts.AuditDir == "" && facts.LogDir != "" { // of other runs
		pin = append(pin, facts.LogDir)
	}
	for _, dir := range facts.OthersHidden {
		if !slices.Contains(pin, dir) && !within(dir, own) {
			pin = append(pin, dir)
		}
	}
	hide = append(hide, pin...)
	for _, root := range facts.Roots {
		if !within(root, own) {
			hide = append(hide, root)
		}
	}
	for _, h := range hide {
		for _, needed := range []string{own, file, dir, ip.Path} {
			if within(h, needed) {
				return Plan{}, &config.Error{Where: "security", Key: "isolation.hide",
					Problem: fmt.Sprintf("%s is hidden from the code, and %s, which it needs, lies in it", h, needed),
					Hint:    "hide less, or move what is needed"}
			}
		}
	}

	for _, name := range c.Security.Isolation.KeepCapabilities {
		if _, known := sandbox.Capability(name); !known {
			return Plan{}, &config.Error{Where: "security", Key: "isolation.keep-capabilities", Problem: name + " is not among those that root loses",
				Hint: "what is not taken away needs no mention; names are those of capabilities(7), as CAP_SYS_TIME"}
		}
	}
	if dirs := c.Security.Isolation.ReadDirs; len(dirs) > 0 { // what is read for Python lies beside what only root reads
		for _, secret := range secrets {
			if !slices.ContainsFunc(dirs, func(dir string) bool { return within(secret, dir) || dir != "/" && within(dir, secret) }) {
				hide = append(hide, secret)
			}
		}
	}
	readable, writable := places(job, ip, plan, file, importPath)
	openFiles, first := descriptors(c.Security.MaxOpenFiles, facts.FileMax)
	plan.Spec = sandbox.Spec{
		Path: ip.Path, Env: environment(job, limits, own), Dir: dir,
		Method: sandbox.Method(c.Security.Isolation.Method), OnMissing: sandbox.OnMissing(c.Security.Isolation.OnMissing),
		DenyNetwork: c.Security.Isolation.Network == "none", Hide: hide,
		Pin: pin, Fixed: slices.DeleteFunc(slices.Concat(facts.Config, facts.OthersFixed, []string{config.SystemDir, job.Steering, facts.Program}), func(path string) bool { return path == "" }),
		PrivateShm: c.Security.Isolation.Shm == "private" && !inShm(own, file, dir, ip.Path), Umask: job.Umask,
		ReadDirs: readable, WriteDirs: writable, MinimalDev: c.Security.Isolation.Dev == "minimal",
		DenyCalls: c.Security.Isolation.Seccomp == "default", NoNewPrivileges: c.Security.Isolation.NoNewPrivileges,
		KeepCapabilities: c.Security.Isolation.KeepCapabilities, SubIDs: c.Security.Isolation.IDMap == "subids", Activity: activity[c.Security.Audit.Native],
		Limits: sandbox.Limits{
			Wall: seconds(limits.TimeoutSeconds), CPU: seconds(limits.CPUSeconds), Idle: seconds(limits.IdleSeconds),
			Memory: megabytes(limits.MemoryMB), Processes: int(limits.Processes), OpenFiles: openFiles,
			FileSize: megabytes(limits.FileMB), Disk: megabytes(limits.DiskMB),
			CPUs: c.Security.MaxCPUs, ReadRate: megabytes(c.Security.MaxReadMBPerSecond), WriteRate: megabytes(c.Security.MaxWriteMBPerSecond),
		},
		Group:     group(c.Security.Isolation.CgroupParent, facts.RunID),
		FirstFile: first, DumpSignal: dumpSignal, Grace: seconds(c.Security.GraceSeconds),
	}
	if u := facts.RunAs; u != nil {
		plan.Spec.RunAs = &u.User
		// The caller's own would lead to files that this user may not read.
		plan.Spec.Env = slices.DeleteFunc(plan.Spec.Env, func(e string) bool {
			name, _, _ := strings.Cut(e, "=")
			return name == "HOME" || name == "USER" || name == "LOGNAME"
		})
		plan.Spec.Env = append(plan.Spec.Env, "HOME="+u.home, "USER="+u.name, "LOGNAME="+u.name)
	}
	if !job.Request.Command.RunsCode() { // nothing of the user's runs: nothing is hidden from it, and a missing measure refuses nothing
		plan.Spec.OnMissing, plan.Spec.Activity = sandbox.Warn, sandbox.NotRequested
	}
	plan.Python = python.Job{
		Command: job.Request.Command, Code: code, Text: job.Source == nil, Path: file, Shown: shown,
		Argv: append([]string{argv0}, job.Request.Argv...), ImportPath: importPath,
		Variables: job.Request.Variables, Module: job.Request.Module, Function: job.Request.Function,
		Args: job.Request.Args, Kwargs: job.Request.Kwargs, Line: job.Request.Line, Column: job.Request.Column,
		ResultFormat: job.Request.ResultFormat, ResultFrom: job.Request.ResultFrom,
		LazySite: c.Python.Site == "lazy" && job.Request.Command.RunsCode(), Flagged: c.Python.FlagImports, Show: show, OutputMost: megabytes(limits.OutputMB),
	}
	return plan, nil
}

// inShm tells whether one of the paths that a run needs lies in the host's /dev/shm, which one of its own would cover.
func inShm(needed ...string) bool {
	return slices.ContainsFunc(needed, func(path string) bool { return within("/dev/shm", path) })
}

// trail is how the configuration asks for it.
var activity = map[string]sandbox.Requirement{"auto": sandbox.BestEffort, "on": sandbox.Required}

// places are what can be read and written where that is restricted; nil where it is not.
func places(job Job, ip python.Interpreter, plan Plan, file string, importPath []string) (readable, writable []string) {
	own := []string{plan.Dir.Path}
	if data := env(job.Environ, "PYTHON3_DATA_DIR"); filepath.IsAbs(data) {
		own = append(own, data)
	}
	if dirs := job.Config.Security.Isolation.WriteDirs; len(dirs) > 0 {
		devices := []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/shm", "/dev/ptmx", "/dev/pts"}
		writable = slices.Concat(dirs, own, devices)
	}
	if dirs := job.Config.Security.Isolation.ReadDirs; len(dirs) > 0 {
		// Any program links the system's libraries, and Python reads its certificates, time zones and name services.
		system := []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/dev", "/proc", "/sys", "/run/systemd/resolve", "/run/nscd"}
		readable = slices.Concat(dirs, own, system, ip.Prefixes, []string{filepath.Dir(ip.Path), file}, importPath)
		if live := job.Live; live != nil && live.File != "" {
			readable = append(readable, filepath.Dir(live.File))
		}
	}
	return readable, writable
}

// secrets lie in the directories that Python and the system's libraries need, and neither needs them.
var secrets = []string{"/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/security/opasswd", "/etc/ssh", "/etc/ssl/private", "/etc/sudoers", "/etc/sudoers.d"}

// codeOf are the bytes that the record's hash is of.
func codeOf(job Job) []byte {
	switch r := job.Request; {
	case job.Source != nil:
		return job.Source
	case r.Command == wire.CommandEvaluate:
		return []byte(r.Expression)
	case r.Command == wire.CommandCallModule:
		return []byte(r.Module + "." + r.Function)
	default:
		return []byte(r.Code)
	}
}

// descriptors are the limit on open files and the number of the first descriptor of ours, which no file of the user's can have: at the
// limit or above it. Where the user's own hard limit leaves no room there, the run has a few descriptors less.
func descriptors(asked, hard int) (limit, first int) {
	const room = 16        // for ours, and for what the set-up needs for a moment
	const unlimited = 1024 // a table of descriptors is as long as its highest number, so ours are not put at the far end
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

// codeSuffix makes the path of the code's file from that of the working directory.
const codeSuffix = ".py"

// workdir fills in the template. No name can lead to another place: of the user only letters, digits, "-" and "_" stay, at most
// 16; the execution id is the random end of the run id. The root is what comes before the first part that is not the same for all runs.
func workdir(template string, facts Facts, uid int, user string) (d sandbox.Dir) {
	id := strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z') {
			return r
		}
		return -1
	}, user)
	if id == "" {
		id = "user"
	}
	d.Root = rootOf(template, uid)
	rest := strings.TrimPrefix(withUID(template, uid), d.Root)
	if facts.Root != "" {
		d.Root = facts.Root
	}
	d.Path = filepath.Join(d.Root, strings.NewReplacer("${userId}", id[:min(len(id), 16)], "${executionId}", shortID(facts.RunID)).Replace(rest))
	return d
}

func withUID(template string, uid int) string {
	return filepath.Clean(strings.ReplaceAll(template, "${uid}", strconv.Itoa(uid)))
}

// rootOf is the directory that all runs of a user with this template share.
func rootOf(template string, uid int) string {
	fixed, _, _ := strings.Cut(withUID(template, uid), "${")
	return filepath.Clean(fixed[:strings.LastIndexByte(fixed, '/')+1])
}

func shortID(runID string) string {
	short := strings.ReplaceAll(runID, "-", "")
	return short[len(short)-16:]
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

// environment is the allow list applied to the caller's variables, with what the run sets itself.
func environment(job Job, limits wire.Limits, workdir string) []string {
	var env []string
	has := func(name string) bool {
		return slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
	}
	keep := append([]string{"PYTHON3_DATA_DIR"}, job.Config.Security.Isolation.EnvKeep...)
	numeric := []string{"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "MALLOC_ARENA_MAX"}
	keep = append(keep, numeric...)
	for _, e := range job.Environ {
		name, _, _ := strings.Cut(e, "=")
		if name == "TMPDIR" || name == maxMemory || name == maxCPU || has(name) {
			continue
		}
		if slices.ContainsFunc(keep, func(pattern string) bool {
			start, open := strings.CutSuffix(pattern, "*")
			return name == pattern || open && strings.HasPrefix(name, start)
		}) {
			env = append(env, e)
		}
	}
	env = append(env, "TMPDIR="+workdir)
	for _, e := range []string{handedOn(job, maxMemory, limits.MemoryMB), handedOn(job, maxCPU, limits.CPUSeconds)} {
		if e != "" {
			env = append(env, e)
		}
	}
	// Numeric libraries start a thread a core, each with its own arena: on a large host that alone passes the limits on
	// processes and memory. A quarter of the process limit is theirs.
	threads := runtime.NumCPU()
	if limits.Processes > 0 {
		threads = max(1, min(threads, int(limits.Processes)/4))
	}
	for _, name := range numeric[:3] {
		if !has(name) {
			env = append(env, name+"="+strconv.Itoa(threads))
		}
	}
	if limits.MemoryMB > 0 && !has("MALLOC_ARENA_MAX") {
		env = append(env, "MALLOC_ARENA_MAX=2")
	}
	return env
}

// The gateway's own convention: config honours them, and scripts that set such limits themselves read them.
const maxMemory, maxCPU = "PYTHON3_MAX_MEMORY_MB", "PYTHON3_MAX_CPU_SECONDS"

// handedOn is the caller's variable for the code: what it says, or the limit in force where that is smaller. It is a whole number, as scripts expect,
// from 1 on. Where no limit is in force, the variable has set none either, and is not handed on.
func handedOn(job Job, name string, limit float64) string {
	value, err := strconv.ParseFloat(env(job.Environ, name), 64)
	if err != nil || limit == 0 || !(value >= 0) {
		return ""
	}
	if value == 0 || value > limit { // 0 is no limit
		value = limit
	}
	if value > 1 {
		value = math.Floor(value)
	}
	return name + "=" + strconv.FormatFloat(value, 'f', -1, 64)
}

// within tells whether path is dir or below it.
func within(dir, path string) bool {
	rel, err := filepath.Rel(filepath.Clean(dir), path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// seconds and megabytes never turn a small positive limit into 0, which is none, nor a large one into a negative.
func seconds(s float64) time.Duration {
	return time.Duration(bounded(s * float64(time.Second)))
}

func megabytes(mb float64) int64 {
	return bounded(mb * (1 << 20))
}

func bounded(f float64) int64 {
	switch {
	case f <= 0:
		return 0
	case f >= math.MaxInt64/2:
		return math.MaxInt64 / 2
	}
	return int64(math.Ceil(f))
}
