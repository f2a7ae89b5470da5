package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/wire"
	fastjson "py3run/internal/json"
	"py3run/sandbox"
)

// Refusal returns the result of a request that was refused before there was a job. failure may be nil.
func Refusal(id string, status wire.Status, failure *wire.Failure, began time.Time) wire.Result {
	p := Plan{Job: Job{Request: wire.Request{ID: id}, Began: began}, RunID: newRunID(began)}
	verdict := Verdict{Status: status}
	if failure != nil {
		verdict = fail(status, failure)
	}
	return outline(p, verdict)
}

// outline returns what every result has: ids, time, status and failure. It has the interpreter and the
// limits only if the plan came that far.
func outline(p Plan, v Verdict) wire.Result {
	r := wire.Result{ID: p.Job.Request.ID, RunID: p.RunID, StartedAt: wire.Timestamp(p.Job.Began), Status: v.Status, Failure: v.Failure}
	if v.Failure != nil {
		r.Error = v.Failure.Message
	}
	if ip := p.Interpreter; ip.Path != "" {
		r.Python = &wire.Python{Version: ip.Version, Executable: ip.Path, Venv: ip.Venv}
	}
	if p.Spec.Path != "" {
		limits := p.Limits // a pointer into the plan would have all of it copied to the heap; likewise in result
		r.Limits = &limits
	}
	r.Script = scriptOf(p)
	return r
}

// result makes the result of a run. It makes no system call.
func result(p Plan, e Evidence, v Verdict) wire.Result {
	if !e.ran() {
		r := outline(p, v)
		r.Warnings = slices.Concat(p.Warnings, e.Warnings)
		if e.Refused != nil {
			r.SignalNumber = int(e.Refused.signal)
		}
		if e.Direct != nil && v.Status == wire.StatusOK {
			r.Result, r.ResultType = encode(e.Direct.Value), e.Direct.Type
		}
		return r
	}
	v.Failure = explainFailure(p, e, v)
	r := outline(p, v)
	if v.Failure != nil {
		r.Traceback = e.Reply.Traceback
	}
	o := &e.Outcome
	if o.Signal != 0 {
		r.Signal, r.SignalNumber = signalName(o.Signal), int(o.Signal)
	} else {
		code := o.ExitCode
		r.ExitCode = &code
	}
	if o.Reason == sandbox.Cancelled {
		r.SignalNumber = int(o.Cancel)
	}
	r.Isolation = isolationOf(p, e)
	printed, events := e.Printed, e.Events
	r.Captured, r.Events = &printed, &events
	if e.Uncounted {
		r.Captured = nil
	}
	r.Usage = &wire.Usage{
		WallMS: o.Usage.Wall.Milliseconds(), SetupMS: e.SetupFor.Milliseconds(), CPUMS: o.Usage.CPU.Milliseconds(),
		PeakMemoryBytes: o.Usage.PeakMemory, PeakProcesses: int64(o.Usage.PeakProcesses),
		ReadBytes: o.Usage.ReadBytes, WriteBytes: o.Usage.WriteBytes,
	}
	r.WorkingDir, r.Files = e.Workdir, e.Handed.Files
	var ofValue []wire.Warning
	if v.Status == wire.StatusOK {
		r.Result, r.ResultType, r.ResultText, ofValue = value(p.Job.Request, e)
		r.Inspected = e.hasValue()
	}
	r.Warnings = slices.Concat(p.Warnings, e.Warnings, lostOutput(e), ofValue, e.Reply.Warnings, replyWarnings(e, v.Status), processWarnings(*o, p.Limits), handedWarnings(e.Handed), discardedFiles(p, e))
	return r
}

// withReceipt adds to a result what became known after it was made: the receipt of the end record, and
// warnings from removing the directories.
func withReceipt(r wire.Result, receipt *audit.Receipt, warnings []wire.Warning) wire.Result {
	if receipt != nil {
		r.Audit = &wire.AuditReceipt{Seq: int64(receipt.Seq), Hash: receipt.Hash}
	}
	r.Warnings = slices.Concat(r.Warnings, warnings)
	return r
}

// explainFailure returns the failure of a verdict with more help for the caller: who has set the limit,
// which interpreter ran, and where the code was.
func explainFailure(p Plan, e Evidence, v Verdict) *wire.Failure {
	if v.Failure == nil {
		return nil
	}
	f := *v.Failure
	if v.Status == wire.StatusError && f.Hint == "" {
		f.Hint = hint(f, p.Interpreter, p.Spec.Limits.OpenFiles, p.Job.Live == nil && p.Job.Bare == nil)
	}
	if clues, usual := strings.CutPrefix(f.Hint, v.Status.Hint()); f.Limit != nil && usual {
		f.Hint = remedy(v.Status.Hint(), f.Limit.Name, p.Job) + clues
	}
	if f.Limit != nil || v.Status == wire.StatusSignal || v.Status == wire.StatusCancelled {
		dump := e.Outcome.Dump
		f.Where = python.Where(dump, p.Python.Path, p.Python.Shown, p.Interpreter.Prefixes)
		if doing := python.Reporting(dump, p.Interpreter.Prefixes); doing != "" {
			f.Hint = strings.TrimSuffix("the code itself had ended, and "+doing+"; "+f.Hint, "; ")
		}
	}
	return &f
}

// isolation returns the part of a result that says which protections were in force.
func isolation(p sandbox.Protection) *wire.Isolation {
	i := &wire.Isolation{Method: string(p.Method), Enforced: p.Enforced, Missing: []wire.Gap{}}
	for _, g := range p.Gaps {
		i.Missing = append(i.Missing, wire.Gap{Name: g.Name, Why: g.Why})
	}
	return i
}

// isolationOf returns the same for a run, with the gaps that the sandbox cannot know.
func isolationOf(p Plan, e Evidence) *wire.Isolation {
	i := isolation(e.Outcome.Protection)
	i.Warm = e.Warm
	if p.Job.Config.Security.Isolation.Shm == "private" && !p.Spec.PrivateShm {
		i.Missing = append(i.Missing, wire.Gap{Name: "private-shm", Why: "this run needs a path in the host's /dev/shm, so it gets no private one"})
	}
	if p.Job.Bare != nil && p.Limits.IdleSeconds > 0 {
		i.Missing = append(i.Missing, wire.Gap{Name: "idle-limit", Why: "the streams are the caller's own, so only processor time counts as progress, and output does not"})
	}
	for _, path := range e.Unpinned {
		i.Missing = append(i.Missing, wire.Gap{Name: "pinned-paths", Why: path + " does not exist and could not be made: code can make it, and change later runs with what it puts there"})
	}
	return i
}

// hasValue reports whether the interpreter returned a value.
func (e Evidence) hasValue() bool {
	return e.ReplyErr == nil && (e.Reply.Kind == "value" || e.Reply.Kind == "exit") && !e.Reply.Absent
}

// value returns the result of a run with status ok: the value that the interpreter returned. Without
// one it is the printed text, if the request asks for that, and otherwise null.
func value(request wire.Request, e Evidence) (value json.RawMessage, kind, text string, warnings []wire.Warning) {
	if !e.hasValue() {
		wanted := request.ResultFrom == "auto" && request.Command == wire.CommandExecute
		if !wanted || e.Printed.Stdout == "" {
			return json.RawMessage("null"), "NoneType", "", nil
		}
		// encoding a string cannot fail
		value, _ = fastjson.Append(make([]byte, 0, fastjson.Size(e.Printed.Stdout)), e.Printed.Stdout)
		if e.Printed.StdoutTruncated {
			warnings = append(warnings, wire.Warning{Code: "truncated_value", Message: "result: it is the printed output, which was cut"})
		}
		return value, "str", "", warnings
	}
	r := e.Reply
	value, kind, text = r.Value, r.Type, r.Text
	if kind == "" {
		kind = "NoneType"
	}
	for _, path := range r.Inexact.BigIntegers {
		if path == "result" {
			text = string(value[:min(len(value), 64<<10)])
			continue
		}
		warnings = append(warnings, wire.Warning{Code: "inexact_value", Message: path + ": an integer beyond 2^53, which many JSON readers round"})
	}
	if more := r.Inexact.BigIntegerCount - len(r.Inexact.BigIntegers); more > 0 {
		warnings = append(warnings, wire.Warning{Code: "inexact_value", Message: fmt.Sprintf("and %d more integers beyond 2^53", more)})
	}
	return value, kind, text, warnings
}

// lostOutput warns about output that did not arrive.
func lostOutput(e Evidence) (warnings []wire.Warning) {
	for _, err := range e.Lost {
		warnings = append(warnings, wire.Warning{Code: "output_lost", Message: "write output: " + err.Error()})
	}
	if e.Dropped > 0 {
		warnings = append(warnings, wire.Warning{Code: "output_not_streamed",
			Message: fmt.Sprintf("%s of output had no event, because the reader was too slow; stdout and stderr have them", times(e.Dropped, "byte", "bytes"))})
	}
	return warnings
}

// replyWarnings warns if the interpreter's reply contradicts the kernel or cannot be read, and if events
// are missing.
func replyWarnings(e Evidence, status wire.Status) (warnings []wire.Warning) {
	if e.ReplyErr == nil && e.Reply.Kind == "error" && status == wire.StatusOK {
		warnings = append(warnings, wire.Warning{Code: "program_says", Message: "it was ended by an uncaught exception, but its exit code is 0: " + e.Reply.Error})
	}
	switch {
	case e.ReplyErr != nil && !errors.Is(e.ReplyErr, python.ErrNoReply):
		warnings = append(warnings, wire.Warning{Code: "reply_unreadable", Message: "the memory that holds the program's reply is damaged: " + e.ReplyErr.Error()})
	case e.Events.Dropped > 0:
		warnings = append(warnings, wire.Warning{Code: "hook_dropped", Message: fmt.Sprintf("%d events are only counted: there was no room for them, or they could not be read", e.Events.Dropped)})
	}
	return warnings
}

// processWarnings warns about processes: those that the limit refused, those that the launcher ended with
// the run, and those that still have not ended.
func processWarnings(o sandbox.Outcome, limits wire.Limits) (warnings []wire.Warning) {
	if o.Refused > 0 {
		warnings = append(warnings, wire.Warning{Code: "process_limit",
			Message: fmt.Sprintf("%s refused because of processes = %s, which counts threads too", times(o.Refused, "process or thread was", "processes and threads were"), number(limits.Processes))})
	}
	switch left := o.Left; {
	case left.Count < 0:
		warnings = append(warnings, wire.Warning{Code: "processes_ended", Message: "processes of this run still lived when its program had ended, and were ended; /proc does not show which"})
	case left.Count > 0:
		warnings = append(warnings, wire.Warning{Code: "processes_ended",
			Message: fmt.Sprintf("%s when the program had ended, and ended with it: %s", times(int64(left.Count), "process still lived", "processes still lived"), strings.Join(leftNames(left), ", "))})
	}
	if o.Incomplete {
		warnings = append(warnings, wire.Warning{Code: "kill_incomplete", Message: "processes of this run were killed and have not ended yet"})
	}
	return warnings
}

// discardedFiles warns about files that are removed with the working directory.
func discardedFiles(p Plan, e Evidence) []wire.Warning {
	c := e.Contents
	if c.Files == 0 || !p.Job.Config.Security.Isolation.CleanupOnExit {
		return nil
	}
	count := fmt.Sprintf("%d files", c.Files)
	switch {
	case c.Short:
		count = "more than " + count
	case c.Files == 1:
		count = "1 file"
	}
	names := slices.Sorted(slices.Values(c.Names))
	for i, n := range names {
		names[i] = strings.ToValidUTF8(n, "\uFFFD")
	}
	return []wire.Warning{{Code: "files_discarded", Message: count + " left in the working directory, which is removed: " + strings.Join(names, ", ")}}
}

func times(n int64, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", more)
}

// leftNames returns the names of the processes that were left, each once. A process chooses its own name,
// so the warning shows only printable text, and only what follows the last slash.
func leftNames(left sandbox.Left) (names []string) {
	for _, n := range left.Names {
		if n = filepath.Base(strings.Map(printable, strings.ToValidUTF8(n, "\uFFFD"))); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	if left.Count > len(left.Names) {
		names = append(names, "…")
	}
	return names
}

// printable replaces control characters.
func printable(r rune) rune {
	if r < ' ' || r >= 0x7f && r < 0xa0 {
		return '\uFFFD'
	}
	return r
}

// encode returns the JSON of a value of py3run's own. It panics if that fails.
func encode(v any) json.RawMessage {
	text, err := fastjson.Append(nil, v)
	if err != nil {
		panic(err)
	}
	return text
}
