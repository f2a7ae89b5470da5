package launch

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/access"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/warm"
	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

// Facts is what a plan needs to know about this host and this user.
type Facts struct {
	RunID       string
	Root        string   // the root of the working directory (sandbox.ChooseRoot); empty: the template has its own
	OtherRoots  []string // the roots of other runs
	RootPrivate bool     // a run sees only its own files in the root, because the root belongs to py3run
	AuditDir    string   // empty: this run leaves no records
	LogDir      string   // where the log is, also when this run leaves no records
	CacheDir    string   // facts about interpreters; empty: no place for them
	StateDir    string   // keys; empty: no place for them

	OthersHidden, OthersReadOnly []string // py3run's own paths of other calls: to be hidden, or to be kept unchanged

	Config   []string // directories of configuration files
	Program  string   // the file of py3run itself
	WarmDir  string   // where the template for this run is; empty: none is wanted, or there is no place for it
	WarmDirs []string // all directories where templates can be
	RunAs    *account // the user that security.isolation.run-as names; nil: none
	FileMax  int      // the hard RLIMIT_NOFILE: how many descriptors this user may have
}

// A refusal is the reason why a job does not become a run.
type refusal struct {
	status  wire.Status
	failure *wire.Failure
	denial  *access.Denial // why it was denied, which can be more than the caller learns; nil: it was not

	summarised bool           // it has no record of its own: a summary will have it
	signal     syscall.Signal // with StatusCancelled: what the caller sent
}

// prepare makes the plan of a job. With done, no program has to run: early holds the answer to the
// command or the refusal of the job, and the plan holds what is known by then.
func prepare(p Plan) (_ Plan, early Evidence, done bool) {
	job := p.Job
	p.Warnings = job.Warnings
	if job.Request.Command == wire.CommandPing {
		return p, Evidence{Direct: &Direct{"pong", "str"}}, true
	}
	p, refused := locate(p)
	if refused == nil && job.Request.Command == wire.CommandVersion {
		return p, Evidence{Direct: &Direct{versionOf(p.Interpreter), "dict"}}, true
	}
	if refused == nil {
		refused = tooManyFiles(job.Request.Files, p.Limits)
	}
	if refused == nil {
		p, refused = complete(p)
	}
	return p, Evidence{Refused: refused}, refused != nil
}

// locate finds the interpreter of a job, and the limits in force.
func locate(p Plan) (Plan, *refusal) {
	if n := hardFileLimit(); n < leastFiles { // check first: with so few descriptors a run could not clean up
		return p, &refusal{status: wire.StatusLaunchFailed, failure: &wire.Failure{Step: "descriptors", Errno: "EMFILE",
			Message: fmt.Sprintf("descriptors: py3run may have %d files open (RLIMIT_NOFILE), and a run takes up to %d", n, leastFiles),
			Hint:    "raise the limit for the process that starts py3run: ulimit -n 1024, or LimitNOFILE= of its systemd unit"}}
	}
	p.Limits, p.Warnings = limitsInForce(p.Job)
	ip, skipped, refused := find(p.Job)
	if p.Skipped = skipped; refused == nil {
		p.Interpreter = ip
	}
	return p, refused
}

// complete makes the plan of a job whose interpreter is known.
func complete(p Plan) (Plan, *refusal) {
	facts, refused := factsOf(p.Job, p.RunID)
	if refused != nil {
		return p, refused
	}
	made, err := Make(p, facts)
	if err != nil {
		return p, &refusal{status: wire.StatusConfigError, failure: configFailure(err)}
	}
	return made, nil
}

// factsOf gathers the facts for the plan of a run.
func factsOf(job Job, runID string) (facts Facts, failed *refusal) {
	facts = Facts{RunID: runID, CacheDir: CacheDir(job.Environ), StateDir: StateDir(job.Environ), FileMax: hardFileLimit()}
	var err error
	facts.Root, facts.OtherRoots = roots(job)
	if job.Bare != nil { // for it, all directories are other runs'
		facts.OtherRoots = append(facts.OtherRoots, sandbox.Places(cmp.Or(facts.Root, rootOf(job.Config.Security.Isolation.WorkingDir, job.Caller.UID)))...)
	}
	if job.Config.Security.Isolation.Method != string(sandbox.Process) {
		facts.RootPrivate, _ = sandbox.MakeRoot(cmp.Or(facts.Root, rootOf(job.Config.Security.Isolation.WorkingDir, job.Caller.UID)))
	}
	facts.Program, _ = os.Executable()
	facts.Config = []string{config.UserDir(job.Environ)}
	facts.OthersHidden, facts.OthersReadOnly = pathsOfOthers(job)
	if os.Geteuid() == 0 {
		facts.Config = append(facts.Config, config.SystemDir)
	}
	if facts.RunAs, err = runAs(job.Config.Security.Isolation.RunAs); err != nil {
		return facts, &refusal{status: wire.StatusConfigError, failure: configFailure(err)}
	}
	if facts.WarmDirs = warm.Dirs(job.Environ); job.Config.Warm.Enabled {
		facts.WarmDir = warm.Dir(job.Environ)
	}
	facts.LogDir, _ = job.Config.AuditDir(job.Environ)
	if job.Config.Security.Audit.Enabled {
		if facts.AuditDir, err = job.Config.AuditDir(job.Environ); err != nil {
			return facts, &refusal{status: wire.StatusAuditUnavailable, failure: &wire.Failure{Message: err.Error(), Hint: "set security.audit.dir"}}
		}
	}
	return facts, nil
}

func want(job Job) python.Want {
	return python.Want{Interpreter: job.Config.Python.Interpreter, Environ: job.Environ, Dir: job.Dir, CacheDir: CacheDir(job.Environ), KeyFile: cacheKey(job), Run: job.ask}
}

// find returns the job's interpreter, and the candidates that were passed over.
func find(job Job) (python.Interpreter, []python.Candidate, *refusal) {
	look := func() (python.Interpreter, []python.Candidate, error) { return python.Find(want(job)) }
	if job.Bare != nil {
		look = func() (python.Interpreter, []python.Candidate, error) {
			return python.FindFor(want(job), job.Bare.Link)
		}
	}
	ip, skipped, err := python.Interpreter{}, []python.Candidate(nil), error(nil)
	if job.Series != nil {
		ip, skipped, err = job.Series.find(look)
	} else {
		ip, skipped, err = look()
	}
	if err == nil {
		return ip, skipped, nil
	}
	failure := &wire.Failure{Message: err.Error()}
	status := wire.StatusPythonNotExecutable
	var missing *python.NotFoundError
	switch {
	case errors.As(err, &missing):
		status, failure.Hint = wire.StatusPythonNotFound, missingHint(missing, job.Dir)
	case errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE): // that is not the interpreter's fault
		status, failure.Errno = wire.StatusLaunchFailed, errnoName(err)
	}
	return ip, skipped, &refusal{status: status, failure: failure}
}

// missingHint is what helps where there is no interpreter of that name; empty: what always does.
func missingHint(missing *python.NotFoundError, dir string) string {
	if missing.ByLink {
		return "install it, or put its directory into PATH"
	}
	if info, err := os.Stat(filepath.Join(dir, missing.Want)); err == nil && info.IsDir() && !strings.Contains(missing.Want, "/") {
		return "a name without a slash is looked for in PATH; for the directory write ./" + missing.Want
	}
	return ""
}

// leastFiles is how many descriptors a launcher needs for a run, and a few more for those that it
// inherits from its caller.
const leastFiles = 64

func hardFileLimit() int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil || limit.Max > 1<<20 {
		return 1 << 20
	}
	return int(limit.Max)
}

func versionOf(ip python.Interpreter) any {
	type info struct {
		Major int `json:"major"`
		Minor int `json:"minor"`
		Micro int `json:"micro"`
	}
	var v info
	fmt.Sscanf(ip.Version, "%d.%d.%d", &v.Major, &v.Minor, &v.Micro)
	return struct {
		Version    string `json:"version"`
		Info       info   `json:"version_info"`
		Executable string `json:"executable"`
		Platform   string `json:"platform"`
	}{ip.Banner, v, ip.Path, ip.Platform}
}
