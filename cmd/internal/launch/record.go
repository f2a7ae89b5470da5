package launch

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/redact"
	"py3run/cmd/internal/wire"
)

// A recording is a run whose start record is in the log.
type recording struct {
	log  runLog
	run  *audit.Run   // nil: the end record is in the log too, or could not be written
	base audit.Record // what both records have in common
}

// recordStart writes the start record and returns when it is durable. For a run that leaves no records
// it returns nil and no error.
func recordStart(p Plan) (rec *recording, warnings []wire.Warning, err error) {
	if !p.Job.Request.Command.RunsCode() {
		return nil, nil, nil
	}
	if p.Facts.AuditDir == "" {
		return nil, recordPolicy(p), nil
	}
	log, warnings, err := openLog(p)
	if err != nil {
		return nil, warnings, err
	}
	defer func() {
		if rec == nil {
			log.close()
		}
	}()
	base, err := baseRecord(log.Log, p)
	if err != nil {
		return nil, warnings, err
	}
	start := base
	start.Event = audit.Event{Action: audit.ExecutionStart, Outcome: audit.Unknown}
	start.Config = configFiles(p)
	run, _, err := log.Begin(start)
	if err != nil {
		return nil, warnings, err
	}
	return &recording{log, run, base}, warnings, nil
}

// A besideStart is a start record that is written while the run is set up.
type besideStart struct {
	done     chan struct{}
	record   *recording
	warnings []wire.Warning
	err      error
}

// recordBeside begins to write the start record of a run of a series, or of an interpreter that is held
// before its execve. The set-up of such a run takes less time than the record takes to be durable, and
// there is a processor for both. Else Python starts meanwhile.
func (r *run) recordBeside() {
	if r.plan.Job.Series == nil && r.plan.Job.Bare == nil {
		return
	}
	b, plan := &besideStart{done: make(chan struct{})}, r.plan
	r.beside = b
	write := func() {
		defer close(b.done)
		b.err = guarded(func() (err error) {
			b.record, b.warnings, err = recordStart(plan)
			return err
		})
	}
	if series := plan.Job.Series; series != nil {
		series.aside.do(write)
	} else {
		go write()
	}
}

// recorded returns when the start record is durable. It writes the record, unless that was begun.
func (r *run) recorded() (warnings []wire.Warning, err error) {
	if b := r.beside; b != nil {
		<-b.done
		r.beside, r.record = nil, b.record
		return b.warnings, b.err
	}
	r.record, warnings, err = recordStart(r.plan)
	return warnings, err
}

// recordEnd writes the end record, once. If it fails, that is a warning and no error: the run has
// already happened.
func (r *run) recordEnd(e Evidence, result wire.Result) (*audit.Receipt, []wire.Warning) {
	begun := e.Refused == nil && e.Direct == nil && e.Unrecorded == nil
	if !r.plan.Job.Config.Security.Audit.Enabled && r.plan.Job.Request.Command.RunsCode() && begun {
		return nil, []wire.Warning{{Code: "audit_off", Message: "auditing is switched off by the configuration: this run is not recorded"}}
	}
	if e.Refused != nil && e.Refused.denial != nil {
		return r.recordDenial(*e.Refused)
	}
	if r.record == nil || r.record.run == nil {
		return nil, nil
	}
	end := endRecord(r.record.base, r.plan, e, result, time.Since(r.plan.Job.Began))
	run := r.record.run
	r.record.run = nil // only now: after a panic above, this is called again
	receipt, err := run.End(end)
	if err != nil {
		return nil, []wire.Warning{{Code: "audit_incomplete", Message: "the end of this run is not in the audit log: " + err.Error()}}
	}
	return &receipt, nil
}

// baseRecord returns what both records have in common. It also stores the code in the log's directory,
// and reads the key for hashed values there, as far as the configuration asks for that.
func baseRecord(log *audit.Log, p Plan) (rec audit.Record, err error) {
	c := p.Job.Config.Security.Audit
	rec = record(p)
	if c.LogCode && rec.Code.SHA256 != "" {
		if err := log.KeepCode(codeOf(p.Job)); err != nil {
			return rec, err
		}
		rec.Code.Stored = true
	}
	if v := p.Job.Request.Variables; v != nil && c.LogVariables == "hmac" {
		key, err := log.Key()
		if err != nil {
			return rec, err
		}
		for i := range rec.Variables.List {
			sum := hmac.New(sha256.New, key)
			sum.Write(wire.AppendJSON(nil, v.Values[i]))
			rec.Variables.List[i].HMAC = hex.EncodeToString(sum.Sum(nil)[:sha256.Size/2])
		}
	}
	return rec, nil
}

// output returns what the end record says about streams and result beyond their sizes; nil: nothing.
func output(p Plan, e Evidence, result wire.Result) *audit.Output {
	if e.Streams[0] == nil {
		return nil
	}
	o := &audit.Output{Stdout: e.Streams[0], Stderr: e.Streams[1]}
	if result.Status == wire.StatusOK {
		d := streamDigest{sum: sha256.New()}
		d.Write(result.Result)
		o.Result = d.stream(p.Job.Config.Security.Audit.LogOutput == "head")
	}
	return o
}

// variablesMost bounds the list of variables in a record. Count and total size always include all.
const variablesMost = 64

// record returns the part of a record that follows from the plan alone.
func record(p Plan) audit.Record {
	job := p.Job
	code := codeOf(job)
	sum := sha256.Sum256(code)
	about := audit.Code{SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(code))}
	if b := job.Bare; b != nil {
		if about.Source = b.Source; job.Source == nil {
			about = audit.Code{Source: b.Source}
		}
	} else if job.Request.Script != "" && p.Stored == nil { // it was not found
		about = audit.Code{}
	}
	rec := audit.Record{
		RunID: p.RunID, RequestID: job.Request.ID,
		Host:    audit.ThisHost(),
		User:    audit.User{Name: p.user().name, Groups: p.Grant.Groups},
		Auth:    auth(p, isUser),
		Script:  script(p),
		Command: string(job.Request.Command),
		Invoked: invocation(job),
		Code:    about,
		Limits:  map[string]float64{},
	}
	rec.User.Roles = access.Names(p.Grant.Roles)
	if ip := job.Request.ClientIP; ip != "" {
		rec.Client = audit.Client{IP: ip, IPSource: "asserted"}
	}
	for _, name := range wire.LimitNames() {
		if v, _ := p.Limits.Get(name); v > 0 {
			rec.Limits[name] = v
		}
	}
	if v := job.Request.Variables; v != nil {
		rec.Variables.Count = len(v.Names)
		for i, n := range v.Names {
			kind, size := describe(v.Values[i])
			rec.Variables.Bytes += size
			if job.Config.Security.Audit.LogVariables != "off" && i < variablesMost {
				rec.Variables.List = append(rec.Variables.List, audit.Variable{Name: shownName(n), Type: kind, Bytes: size})
			}
		}
	}
	if set := filesPut(job.Request.Files); set != nil {
		rec.Files = &audit.Files{Put: set}
	}
	if l := job.Request.Labels; l != nil {
		rec.Labels = map[string]string{}
		for i, n := range l.Names {
			value, _ := l.Values[i].(string)
			rec.Labels[redact.Text(n)] = redact.Text(value)
		}
	}
	return rec
}

// shownName returns the name of a variable, or a mark with its length if it looks like a secret that
// somebody passed as a name.
func shownName(name string) string {
	if redact.LooksSecret(name) {
		return "[redacted:" + strconv.Itoa(len(name)) + "]"
	}
	return name
}

// describe returns the name of the Python type of a value, and about the size of its JSON in bytes.
func describe(v any) (kind string, size int64) {
	switch v := v.(type) {
	case nil:
		return "NoneType", 4
	case bool:
		return "bool", 5
	case string:
		return "str", int64(len(v)) + 2
	case wire.Number:
		if v.IsInteger() {
			return "int", int64(len(v))
		}
		return "float", int64(len(v))
	case *wire.Raw:
		if v.IsArray() {
			return "list", int64(v.Size)
		}
		return "dict", int64(v.Size)
	}
	return "unknown", 0
}

// auditLineMost bounds the copy of the end record on stderr, in bytes: it has to fit into an empty
// pipe, because the caller may not read from it.
const auditLineMost = 4096

// endRecord makes the end record; base is what it has in common with the start record. It makes no
// system call.
func endRecord(base audit.Record, p Plan, e Evidence, result wire.Result, took time.Duration) audit.Record {
	rec := base
	rec.Output = output(p, e, result)
	rec.Status = string(result.Status)
	rec.Event = audit.Event{Action: audit.ExecutionEnd, Outcome: audit.Failure, DurationNS: took.Nanoseconds()}
	if result.Status == wire.StatusOK {
		rec.Event.Outcome = audit.Success
	} else if result.Failure != nil {
		rec.Event.Reason = result.Failure.Code
	}
	rec.Failure = failureRecord(result.Failure)
	rec.Process = &audit.Process{ExitCode: result.ExitCode, Signal: result.Signal}
	if u := result.Usage; u != nil {
		rec.Process.CPUMS, rec.Process.PeakMemoryBytes, rec.Process.PeakProcesses = u.CPUMS, u.PeakMemoryBytes, u.PeakProcesses
	}
	if c := result.Captured; c != nil {
		rec.Process.StdoutBytes, rec.Process.StderrBytes = &c.StdoutBytes, &c.StderrBytes
	}
	if result.Status == wire.StatusOK && p.Job.Bare == nil {
		rec.Process.ResultBytes = int64(len(result.Result))
	}
	if set := filesCollected(result.Files); set != nil {
		files := audit.Files{Collected: set}
		if rec.Files != nil {
			files.Put = rec.Files.Put
		}
		rec.Files = &files
	}
	if p := result.Python; p != nil {
		rec.Python = &audit.Python{Version: p.Version, Executable: p.Executable}
	}
	rec.Isolation = &audit.Isolation{Method: "none", Enforced: []string{}, Missing: []audit.Gap{}}
	if i := result.Isolation; i != nil {
		rec.Isolation.Method, rec.Isolation.Warm = i.Method, i.Warm
		rec.Isolation.Enforced = append(rec.Isolation.Enforced, i.Enforced...)
		for _, m := range i.Missing {
			rec.Isolation.Missing = append(rec.Isolation.Missing, audit.Gap{Name: m.Name, Why: m.Why})
		}
	}
	rec.Hooks = &wire.Events{}
	if result.Events != nil {
		rec.Hooks = result.Events
	}
	return rec
}

// mostFrames are how many frames a record has, the innermost.
const mostFrames = 16

// failureRecord is what a record says of a failure, nil if it says no more than status and reason do.
func failureRecord(f *wire.Failure) *audit.FailureDetail {
	if f == nil || f.Type == "" && f.Line == 0 && f.Limit == nil && len(f.Where) == 0 {
		return nil
	}
	failure := &audit.FailureDetail{Type: f.Type, Line: f.Line}
	if l := f.Limit; l != nil {
		failure.Limit = &audit.LimitHit{Name: l.Name, Configured: l.Configured, Used: l.Used}
	}
	for _, at := range f.Where[max(0, len(f.Where)-mostFrames):] {
		failure.Where = append(failure.Where, audit.Frame{File: at.File, Line: at.Line, Function: at.Function, Thread: at.Thread})
	}
	return failure
}
