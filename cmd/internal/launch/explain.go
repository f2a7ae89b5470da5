package launch

import (
	"io"
	"slices"
	"strings"

	"py3run/cmd/internal/access"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/wire"
	"py3run/internal/passwd"
	"py3run/sandbox"
)

// An Explanation is the plan of a run on this host, and which protections this host can give it.
// No code of the user runs for it.
type Explanation struct {
	Command     wire.Command    `json:"command"`
	Refused     *wire.Failure   `json:"refused,omitempty"` // why the run would not start
	Identity    *Identity       `json:"identity,omitempty"`
	Script      *wire.Script    `json:"script,omitempty"`
	Python      *wire.Python    `json:"python,omitempty"`
	Shims       []string        `json:"shims,omitempty"` // what led to this interpreter, in order
	PassedOver  []Skipped       `json:"passed_over,omitempty"`
	Limits      *wire.Limits    `json:"limits,omitempty"`
	LimitsFrom  []LimitOrigin   `json:"limits_from,omitempty"` // those that are not the default
	Rates       *Rates          `json:"rate_limits,omitempty"`
	Isolation   *wire.Isolation `json:"isolation,omitempty"`
	Effects     []string        `json:"effects,omitempty"` // how the isolation can affect a correct program
	Network     string          `json:"network,omitempty"`
	WorkingDir  string          `json:"working_dir,omitempty"`
	CurrentDir  string          `json:"current_dir,omitempty"`
	Files       []string        `json:"files,omitempty"`       // names of those that are put in
	FileBytes   int64           `json:"files_bytes,omitempty"` // their sizes, added up
	Collect     []string        `json:"collect,omitempty"`
	Hidden      []string        `json:"hidden,omitempty"`
	ReadOnly    []string        `json:"fixed,omitempty"` // paths that the code sees and cannot change, move or replace
	ReadDirs    []string        `json:"read_dirs,omitempty"`
	WriteDirs   []string        `json:"write_dirs,omitempty"`
	RunAs       string          `json:"run_as,omitempty"`
	Environment []string        `json:"environment,omitempty"` // names only
	AuditDir    string          `json:"audit_dir,omitempty"`   // absent: no records
	Warnings    []wire.Warning  `json:"warnings,omitempty"`
}

// Identity is who a run would be for, and what lets that user run it.
type Identity struct {
	User   string   `json:"user"`
	Method string   `json:"method"`
	Known  bool     `json:"known"` // proved, and in the policy
	Roles  []string `json:"roles,omitempty"`
	Groups []string `json:"groups,omitempty"`
	KeyID  string   `json:"key_id,omitempty"`
	Holder string   `json:"holder,omitempty"` // the key's own user, if that has named another one
	Policy string   `json:"policy,omitempty"` // its file; absent: there is none
	SHA256 string   `json:"policy_sha256,omitempty"`
	Rule   string   `json:"rule,omitempty"` // that allows it, or that denies it
}

// Rates are the most runs that a user may have; 0 means no limit.
type Rates struct {
	Counted           bool `json:"counted"` // whether runs of this user are counted at all
	PerUserPerMinute  int  `json:"per_user_per_minute"`
	PerUserPerHour    int  `json:"per_user_per_hour"`
	GlobalPerMinute   int  `json:"global_per_minute"`
	ConcurrentPerUser int  `json:"concurrent_per_user"`
}

// LimitOrigin says who has set a limit, apart from the request.
type LimitOrigin struct {
	Limit string `json:"limit"`
	Key   string `json:"key"`
	From  string `json:"from"`
}

// Skipped is an interpreter that was passed over.
type Skipped struct {
	Path string `json:"path"`
	From string `json:"from"`
	Why  string `json:"why"`
}

// Explain plans a run and tries its isolation. Instead of the code it runs the interpreter with -V.
func Explain(job Job) Explanation {
	e := Explanation{Command: job.Request.Command, Warnings: job.Warnings}
	refuse := func(status wire.Status, f *wire.Failure) Explanation {
		e.Refused = fail(status, f).Failure
		return e
	}
	defer job.Request.Key.Forget()
	admitted, policy, refused := identified(newRun(job).plan, false)
	if refused == nil && job.Request.Command.RunsCode() {
		admitted, refused = allowed(admitted, policy)
	}
	e.Identity = identityOf(admitted)
	if refused != nil {
		return refuse(refused.status, refused.failure)
	}
	job = admitted.Job
	e.Script, e.LimitsFrom = scriptOf(admitted), limitOrigins(job.Origins)
	if job.Request.Command.RunsCode() {
		rates := job.Config.Security.RateLimit
		_, counted := access.Counted(admitted.Grant, rates)
		e.Rates = &Rates{counted, rates.PerUserPerMinute, rates.PerUserPerHour, rates.GlobalPerMinute, rates.ConcurrentPerUser}
	}
	plan, refused := locate(admitted)
	for _, c := range plan.Skipped {
		e.PassedOver = append(e.PassedOver, Skipped{c.Path, c.From, c.Why})
	}
	if refused != nil {
		return refuse(refused.status, refused.failure)
	}
	ip := plan.Interpreter
	defer ip.Close()
	e.Python = &wire.Python{Version: ip.Version, Executable: ip.Path, Venv: ip.Venv}
	e.Shims, e.Limits, e.Warnings = ip.Through, &plan.Limits, plan.Warnings
	for _, f := range job.Request.Files {
		e.Files = append(e.Files, f.Name)
		e.FileBytes += int64(len(f.Content))
	}
	for _, p := range job.Request.Collect {
		e.Collect = append(e.Collect, p.Text)
	}
	if refused = tooManyFiles(job.Request.Files, plan.Limits); refused == nil {
		plan, refused = complete(plan)
	}
	if refused != nil {
		return refuse(refused.status, refused.failure)
	}
	spec := plan.Spec
	e.Network, e.WorkingDir, e.CurrentDir, e.AuditDir = job.Config.Security.Isolation.Network, plan.Dir.Path, spec.Dir, plan.Facts.AuditDir
	e.Hidden, e.ReadOnly, e.ReadDirs, e.WriteDirs, e.RunAs = once(spec.Hide), once(spec.ReadOnly), once(spec.ReadDirs), once(spec.WriteDirs), job.Config.Security.Isolation.RunAs
	for _, entry := range spec.Env {
		name, _, _ := strings.Cut(entry, "=")
		e.Environment = append(e.Environment, name)
	}
	slices.Sort(e.Environment)
	protection, err := try(plan)
	e.Warnings = append(e.Warnings, absentPaths(job.Config)...)
	if err != nil {
		return refuse(wire.StatusLaunchFailed, launchFailure(err))
	}
	e.Isolation, e.Effects = isolation(protection), protection.Effects()
	return e
}

// once leaves out what a list has already: a directory can be hidden for two reasons.
func once(list []string) (kept []string) {
	for _, s := range list {
		if !slices.Contains(kept, s) {
			kept = append(kept, s)
		}
	}
	return kept
}

// identityOf describes who a plan is for; nil: nothing was found out.
func identityOf(p Plan) *Identity {
	g := p.Grant
	if g.Method == "" {
		return nil
	}
	id := &Identity{User: g.User, Method: string(g.Method), Known: g.Known, Groups: g.Groups, KeyID: g.KeyID, Holder: g.Holder, Roles: access.Names(g.Roles), SHA256: g.Policy, Rule: p.Rule}
	for _, f := range p.Policy {
		if f.SHA256 != "" {
			id.Policy, id.SHA256 = f.Path, f.SHA256
		}
	}
	return id
}

// limitOrigins says where the limits come from that are not the default.
func limitOrigins(origins map[string]config.Origin) (list []LimitOrigin) {
	for _, name := range wire.LimitNames() {
		i := slices.IndexFunc(config.Shorts[:], func(s config.Short) bool { return s.Name == strings.ReplaceAll(name, "_", "-") })
		if i < 0 {
			continue
		}
		key := config.Shorts[i].Key
		from := origins[key]
		switch {
		case from.Ceiling.Asked != "":
			list = append(list, LimitOrigin{name, key, from.Ceiling.File})
		case from.Kind != config.FromDefault:
			list = append(list, LimitOrigin{name, key, from.Name})
		}
	}
	return list
}

// Refused returns why this configuration would keep every run from starting on this host; nil: it
// would not. It finds what the configuration's own check cannot, because that depends on the host.
func Refused(job Job) *wire.Failure {
	ip, _, failed := find(job)
	defer ip.Close()
	if failed != nil { // doctor reports that
		ip = python.Interpreter{Path: "/"}
	}
	limits, _ := Effective(job.Config.Security, job.Request.Limits)
	facts, failed := factsOf(job, newRunID(job.Began))
	if failed != nil {
		return fail(failed.status, failed.failure).Failure
	}
	if _, err := Make(Plan{Job: job, Interpreter: ip, Limits: limits}, facts); err != nil {
		return fail(wire.StatusConfigError, configFailure(err)).Failure
	}
	if name := job.Config.Security.Audit.Group; name != "" {
		if _, err := passwd.GroupID(name); err != nil {
			return fail(wire.StatusAuditUnavailable, configFailure(groupError(err))).Failure
		}
	}
	return nil
}

// try starts the interpreter as the plan says, but lets it only print its version.
func try(plan Plan) (p sandbox.Protection, err error) {
	plan.Dir.Keep = false
	w, err := plan.directory(nil)
	if w != nil {
		defer w.Remove()
	}
	if err != nil {
		return p, err
	}
	spec := plan.Spec
	spec.Args, spec.DumpSignal = []string{spec.Path, "-V"}, 0
	r, err := sandbox.Start(spec, sandbox.IO{Stdout: io.Discard, Stderr: io.Discard, Workdir: w}, sandbox.OwnChild)
	if err != nil {
		return p, err
	}
	r.Release()
	out := r.Wait(nil, nil)
	return out.Protection, r.RemoveGroup()
}
