package wire

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"
	"unicode/utf8"

	"py3run/cmd/internal/startup"
	"py3run/internal/activity"
	fastjson "py3run/internal/json"
)

// A Result is the one line that answers a request. Its fields stand in the order in which they are
// written; an absent value is left out and never null, except Result itself. Encode makes sure that
// the fields of success and those of failure exclude each other.
type Result struct {
	Protocol int    `json:"protocol"` // Encode sets it
	ID       string `json:"id"`       // the caller's; empty = Encode writes the run id
	RunID    string `json:"run_id"`
	Success  bool   `json:"success"` // Encode sets it: true exactly when Status is ok
	Status   Status `json:"status"`

	Result     json.RawMessage `json:"result,omitempty"` // one valid JSON value; absent on success = null
	Inspected  bool            `json:"-"`                // Result has passed Inspect and need not be checked again
	ResultType string          `json:"result_type,omitempty"`
	ResultText string          `json:"result_text,omitempty"`

	Error     string   `json:"error,omitempty"`
	Traceback string   `json:"traceback,omitempty"`
	Failure   *Failure `json:"failure,omitempty"`

	*Captured        // nil when nothing ran
	Output    string `json:"output,omitempty"` // Encode sets it: Stdout, on success

	Files map[string]Collected `json:"files,omitzero"` // by name; nil: none were asked for, or nothing ran

	ExitCode     *int   `json:"exit_code,omitempty"` // Python ended by itself
	Signal       string `json:"signal,omitempty"`    // such as SIGSEGV: it ended Python
	SignalNumber int    `json:"-"`                   // its number, for ExitStatus; with StatusCancelled the signal that the caller sent

	Usage     *Usage        `json:"usage,omitempty"`
	Limits    *Limits       `json:"limits,omitempty"`
	Isolation *Isolation    `json:"isolation,omitempty"`
	Python    *Python       `json:"python,omitempty"`
	Script    *Script       `json:"script,omitempty"` // a stored script that ran instead of code
	Audit     *AuditReceipt `json:"audit,omitempty"`
	Events    *Events       `json:"events,omitempty"`
	Warnings  []Warning     `json:"warnings,omitempty"`

	WorkingDir string    `json:"working_dir,omitempty"` // only when it was kept
	StartedAt  Timestamp `json:"started_at"`
}

// Captured is what the program printed. The texts may be cut and have no invalid bytes; the byte
// counts cover everything that it printed.
type Captured struct {
	Stdout          string `json:"stdout"`
	Stderr          string `json:"stderr"`
	StdoutBytes     int64  `json:"stdout_bytes"`
	StderrBytes     int64  `json:"stderr_bytes"`
	StdoutTruncated bool   `json:"stdout_truncated,omitempty"`
	StderrTruncated bool   `json:"stderr_truncated,omitempty"`
}

// A Failure says why Success is false, for programs.
type Failure struct {
	Code         string    `json:"code"` // stable; at least as fine as the status
	Message      string    `json:"message"`
	Hint         string    `json:"hint,omitempty"`
	Type         string    `json:"type,omitempty"`   // exception class
	Line         int       `json:"line,omitempty"`   // in the caller's code, from 1
	Column       int       `json:"column,omitempty"` // from 1
	Step         string    `json:"step,omitempty"`   // of setting up the run
	Errno        string    `json:"errno,omitempty"`  // as EPERM
	Limit        *LimitHit `json:"limit,omitempty"`
	Where        []Frame   `json:"where,omitempty"` // user frames when a limit struck, innermost last
	Variables    []Fault   `json:"variables,omitempty"`
	Retryable    bool      `json:"retryable"`
	RetryAfterMS int64     `json:"retry_after_ms,omitempty"`
}

// A LimitHit names a limit as the request does, in that limit's unit.
type LimitHit struct {
	Name       string  `json:"name"`
	Configured float64 `json:"configured"`
	Used       float64 `json:"used"`
}

// A Fault is what is wrong with a variable of a request by the declaration of a stored script. It does
// not have the value, which may be a secret.
type Fault struct {
	Name    string `json:"name"`
	Rule    string `json:"rule"` // required, type, min, max, choices, pattern or unknown
	Message string `json:"message"`
}

// A Frame is one place in the caller's code.
type Frame struct {
	File     string `json:"file"`
	Line     int    `json:"line"`
	Function string `json:"function"`
	Thread   int    `json:"thread,omitempty"` // 0 = the main thread
}

// Usage is what the kernel counted for all processes of the run. A peak of 0 was not measured and
// is left out.
type Usage struct {
	WallMS          int64 `json:"wall_ms"`
	SetupMS         int64 `json:"setup_ms"`
	CPUMS           int64 `json:"cpu_ms"`
	PeakMemoryBytes int64 `json:"peak_memory_bytes,omitempty"`
	PeakProcesses   int64 `json:"peak_processes,omitempty"`
	ReadBytes       int64 `json:"read_bytes"`
	WriteBytes      int64 `json:"write_bytes"`
}

// Isolation says what protected the machine in this run, and which wanted protections were not
// available.
type Isolation struct {
	Method   string   `json:"method"`
	Enforced []string `json:"enforced"`
	Missing  []Gap    `json:"missing"`
	Warm     bool     `json:"warm"`
}

// Gap is one protection that is not in force.
type Gap struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// Python is the interpreter.
type Python struct {
	Version    string `json:"version"`
	Executable string `json:"executable"`
	Venv       string `json:"venv,omitempty"`
}

// Script is the stored script that ran. The fields are those of the audit record.
type Script struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Source  string `json:"source"` // store
}

// An AuditReceipt points to the end record of this run.
type AuditReceipt struct {
	Seq  int64  `json:"seq"`
	Hash string `json:"hash"`
}

// Events and the entries of its lists are the same in the audit record.
type (
	Events        = activity.Summary
	FlaggedImport = activity.FlaggedImport
	Connection    = activity.Connection
	Process       = activity.Process
)

// A Warning says what was done differently than asked.
type Warning struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// A Timestamp is written as RFC 3339 in UTC with milliseconds.
type Timestamp time.Time

const timestampLayout = "2006-01-02T15:04:05.000Z"

// MarshalText writes t.
func (t Timestamp) MarshalText() ([]byte, error) {
	return time.Time(t).UTC().AppendFormat(nil, timestampLayout), nil
}

// Encode returns r as one line of valid UTF-8 with a newline at its end and without HTML escapes.
// It fails when Result is not JSON or a number is not finite. It does not change r.
func (r *Result) Encode() ([]byte, error) {
	out := r.consistent()
	if out.ID == "" {
		out.ID = r.RunID
	}
	if out.Success && out.Captured != nil {
		out.Output = out.Stdout
	}
	return r.line(&out, &out.Result)
}

// consistent returns a copy of r with the fields that follow from others. The fields of success and
// those of failure exclude each other.
func (r *Result) consistent() Result {
	out := *r
	out.Protocol = Protocol
	out.Success = r.Status == StatusOK
	if out.Success {
		out.Error, out.Traceback, out.Failure = "", "", nil
		if out.Result == nil {
			out.Result = json.RawMessage("null")
		}
	} else {
		out.Result, out.ResultType, out.ResultText, out.Output = nil, "", "", ""
	}
	if r.Isolation != nil {
		isolation := *r.Isolation
		isolation.Enforced = orEmpty(isolation.Enforced)
		isolation.Missing = orEmpty(isolation.Missing)
		out.Isolation = &isolation
	}
	if r.Events != nil {
		events := r.Events.WithLists()
		out.Events = &events
	}
	return out
}

// line writes out, which was made from r, as one line. value is the field of out that holds the
// value of r.
func (r *Result) line(out any, value *json.RawMessage) ([]byte, error) {
	// A large value is inserted at the end, so that it is checked and copied once and not three
	// times.
	large := *value
	if len(large) < 64<<10 || bytes.IndexByte(large, '\n') >= 0 || bytes.IndexByte(large, '\r') >= 0 { // blanks between tokens: only a forged value has those
		large = nil
	} else {
		if !r.Inspected {
			if _, err := Inspect(large); err != nil {
				return nil, err
			}
		}
		*value = json.RawMessage("0")
	}
	// The line gets all of its memory at once: one that grows is copied again and again, and all of
	// the copies stay in memory.
	line, err := fastjson.Append(startup.Grow(nil, r.size()+len(large)), out)
	if err != nil {
		return nil, err
	}
	if large != nil { // in a string the quotes have backslashes, so this is the member
		at := bytes.Index(line, []byte(`"result":0`)) + len(`"result":`)
		line = slices.Grow(line, len(large))[:len(line)+len(large)-1]
		copy(line[at+len(large):], line[at+1:])
		copy(line[at:], large)
		return append(line, '\n'), nil
	}
	line = append(line, '\n')
	if !utf8.Valid(line) { // only a RawMessage can cause that
		return bytes.ToValidUTF8(line, []byte("\ufffd")), nil
	}
	return line, nil
}

// size is roughly the length of the line without a large value.
func (r *Result) size() int {
	n := 4<<10 + len(r.Traceback) + len(r.ResultText) + len(r.Result)
	if c := r.Captured; c != nil {
		n += fastjson.Size(c.Stdout) + fastjson.Size(c.Stderr)
		if r.Output != "" {
			n += fastjson.Size(c.Stdout)
		}
	}
	for name, f := range r.Files {
		n += 128 + len(name) + f.Size()
	}
	return n
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
