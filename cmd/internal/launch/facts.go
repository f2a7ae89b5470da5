package launch

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/warm"
	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

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

// A refusal is why a job does not become a run.
type refusal struct {
	status  wire.Status
	failure *wire.Failure
}

// prepare makes the plan of a job. It is done early where nothing is to be run: the command is answered, or the job refused; the plan is then what is
// known by that point.
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
		p, refused = complete(p)
	}
	return p, Evidence{Refused: refused}, refused != nil
}

// locate finds the interpreter of a job, and its limits.
func locate(p Plan) (Plan, *refusal) {
	if n := hardFileLimit(); n < leastFiles { // now, when nothing is made that would have to be removed with so few
		return p, &refusal{wire.StatusLaunchFailed, &wire.Failure{Step: "descriptors", Errno: "EMFILE",
			Message: fmt.Sprintf("descriptors: py3run may have %d files open (RLIMIT_NOFILE), and a run takes up to %d", n, leastFiles),
			Hint:    "raise the limit for the process that starts py3run: ulimit -n 1024, or LimitNOFILE= of its systemd unit"}}
	}
	p.Limits, p.Warnings = effective(p.Job)
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
	made, err := Make(p.Job, p.Interpreter, p.Limits, facts)
	if err != nil {
		return p, &refusal{wire.StatusConfigError, configFailure(err)}
	}
	made.Skipped, made.Warnings = p.Skipped, p.Warnings
	return made, nil
}

// factsOf gathers what the plan of a run needs to know.
func factsOf(job Job, runID string) (facts Facts, failed *refusal) {
	facts = Facts{RunID: runID, CacheDir: CacheDir(job.Environ), StateDir: StateDir(job.Environ), FileMax: hardFileLimit()}
	var err error
	facts.Root, facts.Roots = roots(job)
	if job.Config.Security.Isolation.Method != string(sandbox.Process) {
		facts.Covered, _ = sandbox.MakeRoot(cmp.Or(facts.Root, rootOf(job.Config.Security.Isolation.WorkingDir, job.Caller.UID)))
	}
	facts.Program, _ = os.Executable()
	facts.Config = []string{config.UserDir(job.Environ)}
	facts.OthersHidden, facts.OthersFixed = ofOthers(job)
	if os.Geteuid() == 0 {
		facts.Config = append(facts.Config, config.SystemDir)
	}
	if facts.RunAs, err = runAs(job.Config.Security.Isolation.RunAs); err != nil {
		return facts, &refusal{wire.StatusConfigError, configFailure(err)}
	}
	if facts.WarmDirs = warm.Dirs(job.Environ); job.Config.Warm.Enabled {
		facts.WarmDir = warm.Dir(job.Environ)
	}
	facts.LogDir, _ = job.Config.AuditDir(job.Environ)
	if job.Config.Security.Audit.Enabled {
		if facts.AuditDir, err = job.Config.AuditDir(job.Environ); err != nil {
			return facts, &refusal{wire.StatusAuditUnavailable, &wire.Failure{Message: err.Error(), Hint: "set security.audit.dir"}}
		}
	}
	return facts, nil
}

func want(job Job) python.Want {
	return python.Want{Interpreter: job.Config.Python.Interpreter, Environ: job.Environ, Dir: job.Dir, CacheDir: CacheDir(job.Environ), KeyFile: cacheKey(job), Run: job.ask}
}

// find finds the job's interpreter, and the candidates that were passed over.
func find(job Job) (python.Interpreter, []python.Candidate, *refusal) {
	ip, skipped, err := python.Find(want(job))
	if err == nil {
		return ip, skipped, nil
	}
	status := wire.StatusPythonNotExecutable
	var missing *python.NotFoundError
	if errors.As(err, &missing) {
		status = wire.StatusPythonNotFound
	}
	return ip, skipped, &refusal{status, &wire.Failure{Message: err.Error()}}
}

// cacheKey is the file of the key of what is kept about interpreters; empty for a run that could read it.
func cacheKey(job Job) string {
	dir := StateDir(job.Environ)
	if dir == "" || job.Config.Security.Isolation.Method == string(sandbox.Process) {
		return ""
	}
	return filepath.Join(dir, "keys", "cache")
}

// StateDir is where keys are; empty when there is no place for it.
func StateDir(environ []string) string {
	if dir := env(environ, "XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "py3run")
	}
	if os.Geteuid() == 0 {
		return "/var/lib/py3run"
	}
	if home := env(environ, "HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "py3run")
	}
	return ""
}

// CacheDir is where facts about interpreters are kept; empty when there is no place for it.
func CacheDir(environ []string) string {
	if dir := env(environ, "XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "py3run")
	}
	if os.Geteuid() == 0 {
		return "/var/cache/py3run"
	}
	if home := env(environ, "HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".cache", "py3run")
	}
	return ""
}

func env(environ []string, name string) string {
	for _, e := range environ {
		if value, ok := strings.CutPrefix(e, name+"="); ok {
			return value
		}
	}
	return ""
}

// leastFiles is how many descriptors a launcher takes for a run, with some to spare for those that its caller has left it.
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

// newRunID makes a UUIDv7 (RFC 9562): 48 bits of milliseconds, then random.
func newRunID(t time.Time) string {
	var id [16]byte
	rand.Read(id[:])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(t.UnixMilli()))
	copy(id[:6], ms[2:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	s := hex.EncodeToString(id[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}
