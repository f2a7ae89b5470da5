package audit

import (
	"time"

	"golang.org/x/sys/unix"

	"py3run/internal/activity"
)

// A Record is one line of the log. Its fields stand in the order of the line's keys, which is part
// of the format: new keys are only ever added, and readers ignore keys that they do not know.
//
// [Log.Append] sets V, Timestamp, Seq and Prev, whatever the caller put there. It sets Truncated
// where something had to be cut. Sizes are in bytes. Strings may hold anything: see [Log.Append]
// for what is escaped and cut.
type Record struct {
	V         int                `json:"v"`
	Timestamp string             `json:"@timestamp"` // UTC, microseconds; the clock may jump, the order is Seq
	Event     Event              `json:"event"`
	Seq       uint64             `json:"seq"`
	Prev      string             `json:"prev"`
	RunID     string             `json:"run_id"`
	RequestID string             `json:"request_id,omitempty"`
	Host      Host               `json:"host"`
	User      User               `json:"user"`
	Auth      Auth               `json:"auth"`
	Client    Client             `json:"client"`
	Script    Script             `json:"script"`
	Command   string             `json:"command,omitempty"`
	Invoked   *Invocation        `json:"invocation,omitempty"`
	Code      Code               `json:"code"`
	Variables Variables          `json:"variables"`
	Files     *Files             `json:"files,omitempty"`
	Labels    map[string]string  `json:"labels,omitempty"`
	Limits    map[string]float64 `json:"limits,omitempty"`
	Config    []ConfigFile       `json:"configuration,omitempty"` // in a start
	Status    string             `json:"status,omitempty"`
	Process   *Process           `json:"process,omitempty"`
	Output    *Output            `json:"output,omitempty"`
	Python    *Python            `json:"python,omitempty"`
	Isolation *Isolation         `json:"isolation,omitempty"`
	Hooks     *activity.Summary  `json:"hooks,omitempty"` // a name that was cut ends in an ellipsis
	Repair    *Repair            `json:"repair,omitempty"`
	Alert     *Alert             `json:"alert,omitempty"`
	Retention *Retention         `json:"retention,omitempty"`
	Ack       *Acknowledged      `json:"acknowledged,omitempty"`
	Policy    *PolicyChange      `json:"policy,omitempty"`
	Changed   *ScriptChange      `json:"script_change,omitempty"`
	Cancel    *Cancel            `json:"cancel,omitempty"`
	Hold      *Hold              `json:"hold,omitempty"`      // of an audit-hold, and the id and comment of an audit-hold-release
	Refusals  *Refusals          `json:"refusals,omitempty"`  // in an execution-denied that stands for several
	Viewed    *View              `json:"view,omitempty"`      // in a history-view or code-view
	Failure   *FailureDetail     `json:"failure,omitempty"`   // in an end that is no success
	Truncated bool               `json:"truncated,omitempty"` // a list was dropped or a string cut
}

// Event says what the record is about.
type Event struct {
	Action     Action  `json:"action"`
	Outcome    Outcome `json:"outcome"`
	Reason     string  `json:"reason,omitempty"`
	DurationNS int64   `json:"duration_ns,omitempty"` // by the monotonic clock
	End        string  `json:"end,omitempty"`         // when it ended, for a record that was written later
}

// Action is the kind of an event.
type Action string

// The kinds of events.
const (
	ExecutionStart    Action = "execution-start"
	ExecutionEnd      Action = "execution-end"
	ExecutionOrphaned Action = "execution-orphaned" // a start whose end nobody could record
	AuditRepair       Action = "audit-repair"
	ExecutionDenied   Action = "execution-denied" // a run that was refused: nothing of it ran
	PolicyChanged     Action = "policy-change"    // a configuration file is not what it was at the run before
	Alerted           Action = "alert"
)

// The kinds of events of tools that change users, keys, scripts, policy and limits.
const (
	UserAdded      Action = "user-add"
	UserChanged    Action = "user-change"
	UserDisabled   Action = "user-disable"
	GroupChanged   Action = "user-group-change" // a group of users
	KeyCreated     Action = "key-create"
	KeyRevoked     Action = "key-revoke"
	KeyRotated     Action = "key-rotate"
	ScriptSaved    Action = "script-save"
	ScriptShared   Action = "script-share"
	ScriptDeleted  Action = "script-delete"
	ScriptImported Action = "script-import"
	PolicyRestored Action = "policy-restore"
	ConfigChanged  Action = "config-change" // of a configuration file; the reason before stands in the record that comes before the change
	LimitsReset    Action = "limits-reset"
)

// The kinds of events of the pages. A look at what is not the visitor's own is recorded once in a while.
const (
	SessionStarted Action = "session-start"
	SessionEnded   Action = "session-end"
	SessionDenied  Action = "session-denied" // a key that opened no session
	HistoryViewed  Action = "history-view"   // runs of others, and what they did
	CodeViewed     Action = "code-view"      // code that was run, or is stored
)

// View is what a visitor of the pages has looked at. One record stands for the looks of ten minutes.
type View struct {
	RunID  string `json:"run_id,omitempty"` // of somebody else's run
	Script string `json:"script,omitempty"` // a stored script, as NAME@VERSION
	Query  string `json:"query,omitempty"`  // the filter of a list, as in the address of the page
	SHA256 string `json:"sha256,omitempty"` // of code
}

// Outcome is how an event went.
type Outcome string

// The outcomes. That of a start is Unknown.
const (
	Success Outcome = "success"
	Failure Outcome = "failure"
	Unknown Outcome = "unknown"
	Denied  Outcome = "denied"
)

// Host is the machine; Boot is its boot id. UptimeMS does not change when the clock is set.
// ClockJumpMS is how far the clock moved against it since the record before. [Log.Append] sets
// both, ClockJumpMS only where it is more than five seconds.
type Host struct {
	Name        string `json:"name"`
	Boot        string `json:"boot"`
	UptimeMS    int64  `json:"uptime_ms,omitempty"` // since the boot, suspended time included
	ClockJumpMS int64  `json:"clock_jump_ms,omitempty"`
}

// User is the person the work is done for. Roles and groups are those that held then: within the cap
// of the key, if there was one.
type User struct {
	ID     string   `json:"id,omitempty"`
	Name   string   `json:"name"`
	Roles  []string `json:"roles,omitempty"`
	Groups []string `json:"groups,omitempty"`
}

// Auth says how far User is proved, and which user of the operating system made the call.
type Auth struct {
	Method AuthMethod `json:"method"`
	OSUID  int        `json:"os_uid"`
	OSUser string     `json:"os_user,omitempty"`
	KeyID  string     `json:"key_id,omitempty"`
	Holder string     `json:"holder,omitempty"` // the key's own user, if that named another one

	// LoginUID is the user that logged in, which the kernel keeps through su and sudo; nil: there
	// was no login.
	LoginUID *int `json:"login_uid,omitempty"`
	// SudoUser is the caller of sudo according to the environment, which anybody can set.
	// SudoSource says what supports it.
	SudoUser   string     `json:"sudo_user,omitempty"`
	SudoSource SudoSource `json:"sudo_source,omitempty"`
}

// SudoSource says what supports the name of sudo's caller.
type SudoSource string

// The sources of that name.
const (
	SudoAsserted SudoSource = "asserted"  // only the environment
	SudoLogin    SudoSource = "login-uid" // SUDO_UID is the user that logged in
)

// AuthMethod is where the name of the user comes from.
type AuthMethod string

// The methods of authentication.
const (
	AuthOSUser   AuthMethod = "os-user"
	AuthAsserted AuthMethod = "asserted"
	AuthAPIKey   AuthMethod = "api-key"
	AuthNone     AuthMethod = "none"
)

// Client is where the request came from, as far as the caller said.
type Client struct {
	IP       string `json:"ip,omitempty"`
	IPSource string `json:"ip_source,omitempty"`
}

// Script names what was run; empty for code without a name.
type Script struct {
	Name    string       `json:"name,omitempty"`
	Version string       `json:"version,omitempty"`
	Source  ScriptSource `json:"source,omitempty"`
	Path    string       `json:"path,omitempty"` // absolute, of a file
}

// ScriptSource is where the name of a script comes from.
type ScriptSource string

// The sources of scripts.
const (
	ScriptStored   ScriptSource = "store"
	ScriptFile     ScriptSource = "file"
	ScriptFilename ScriptSource = "filename" // the caller gave its code this name; py3run opened no such file
	ScriptModule   ScriptSource = "module"   // of the option -m of a drop-in interpreter
)

// Invocation is how a run was called.
type Invocation struct {
	Command     string   `json:"command"`                // exec, run, python or bridge
	Argv        []string `json:"argv,omitempty"`         // sys.argv as the program finds it, with secrets redacted; of python, the interpreter's arguments
	ArgvDropped int      `json:"argv_dropped,omitempty"` // how many more arguments there were
	Stdin       *Input   `json:"stdin,omitempty"`        // nil: the program has the caller's own, or none was given
}

// Input is what a program was given to read.
type Input struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// ConfigFile is a configuration file that a run looked for. SHA256 is empty where the file was
// missing or unreadable.
type ConfigFile struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256,omitempty"`

	// Describe says what has changed since the text with the old hash of a change, which is empty where
	// there was no file: it fills Changes, Grants and AnyUserKeys. It is called only when the hash has
	// changed, while the log is locked: it must be quick. nil: nobody can say.
	Describe func(change *PolicyChange) `json:"-"`
}

// PolicyChange says that a configuration file has changed since the last run that looked for it, or
// that a tool has changed it. A hash is empty where there was no file.
type PolicyChange struct {
	Path           string   `json:"path"`
	OldSHA256      string   `json:"old_sha256,omitempty"`
	NewSHA256      string   `json:"new_sha256,omitempty"`
	Changes        []string `json:"changes,omitempty"`         // what has changed, in short sentences
	ChangesDropped int      `json:"changes_dropped,omitempty"` // how many more there were

	// Alerts go by these two, so they always stay, and whoever makes the change keeps them short.
	Grants      []string `json:"grants,omitempty"`        // who has which role now and had not before, as "carol: auditor"
	AnyUserKeys []string `json:"any_user_keys,omitempty"` // ids of keys that can name any user now
}

// Refusals are denied runs that have no record of their own: those of one user, for one reason, within a
// minute. The first of them has a record.
type Refusals struct {
	Count int    `json:"count"`
	First string `json:"first"` // when the first came, in UTC; it is not one of Count
	Last  string `json:"last"`
}

// ScriptChange says what a tool has changed about the stored script that Script names. Version 0 with
// an empty hash is none: the script is new, or was deleted.
type ScriptChange struct {
	OldVersion int      `json:"old_version,omitempty"`
	OldSHA256  string   `json:"old_sha256,omitempty"`
	NewVersion int      `json:"new_version,omitempty"`
	NewSHA256  string   `json:"new_sha256,omitempty"`
	Changes    []string `json:"changes,omitempty"` // in short sentences
}

// Code identifies the exact bytes that were run.
type Code struct {
	SHA256 string `json:"sha256,omitempty"` // lower-case hexadecimal; empty: the code is not known
	Bytes  int64  `json:"bytes"`
	Source string `json:"source,omitempty"` // of a drop-in interpreter: where its code comes from, and so why SHA256 may be empty
	Stored bool   `json:"stored,omitempty"` // the code is kept beside the log: see [Log.KeepCode]
}

// Variables are the variables of a request, without their values.
type Variables struct {
	Count int        `json:"count"`
	Bytes int64      `json:"bytes"`
	List  []Variable `json:"list,omitempty"`
}

// Variable is the name, type and size of a variable and, if the operator wants it, the first half
// of its HMAC-SHA256 under [Log.Key], in hexadecimal.
type Variable struct {
	Name  string `json:"n"`
	Type  string `json:"t"`
	Bytes int64  `json:"b"`
	HMAC  string `json:"h,omitempty"`
}

// Files are those that the caller put into the working directory, and in an end record those that
// the run handed back.
type Files struct {
	Put       *FileSet `json:"put,omitempty"`
	Collected *FileSet `json:"collected,omitempty"`
}

// FileSet describes files. SHA256 is the hash of one line for each file, in the order of the names'
// bytes: the file's hash, two blanks, its name and a newline, as sha256sum prints it. So it proves
// all names and contents, also those that List has no room for.
type FileSet struct {
	Count  int         `json:"count"`
	Bytes  int64       `json:"bytes"`
	SHA256 string      `json:"sha256"`
	List   []FileEntry `json:"list,omitempty"` // the first of them
}

// FileEntry is one file.
type FileEntry struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Process is what the kernel says about the process of a run.
type Process struct {
	ExitCode        *int   `json:"exit_code,omitempty"`
	Signal          string `json:"signal,omitempty"`
	CPUMS           int64  `json:"cpu_ms"`
	PeakMemoryBytes int64  `json:"peak_memory_bytes"`
	PeakProcesses   int64  `json:"peak_processes,omitempty"` // and threads, at once
	StdoutBytes     *int64 `json:"stdout_bytes,omitempty"`   // nil: the streams are the caller's own, and nobody counts
	StderrBytes     *int64 `json:"stderr_bytes,omitempty"`
	ResultBytes     int64  `json:"result_bytes,omitempty"` // as JSON
}

// FailureDetail says where a run has failed, besides its status and reason. What an exception said is not in
// it: that can hold data of the run.
type FailureDetail struct {
	Type  string    `json:"type,omitempty"` // class of the exception, as the program says
	Line  int       `json:"line,omitempty"` // of the code, from 1, as the program says
	Limit *LimitHit `json:"limit,omitempty"`
	Where []Frame   `json:"where,omitempty"` // the code's frames when a limit struck, innermost last, as the program says
}

// LimitHit is the limit that ended a run, by its name in Limits and in its unit.
type LimitHit struct {
	Name       string  `json:"name"`
	Configured float64 `json:"configured"`
	Used       float64 `json:"used"`
}

// Frame is one place in the code.
type Frame struct {
	File     string `json:"file"`
	Line     int    `json:"line"`
	Function string `json:"function"`
	Thread   int    `json:"thread,omitempty"` // 0: the main thread
}

// Output describes the output of a run, if the operator wants it.
type Output struct {
	Stdout *Stream `json:"stdout,omitempty"`
	Stderr *Stream `json:"stderr,omitempty"`
	Result *Stream `json:"result,omitempty"` // as JSON
}

// Stream is the size and hash of a text, and how it begins.
type Stream struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
	Head   string `json:"head,omitempty"`
}

// Python is the interpreter.
type Python struct {
	Version    string `json:"version"`
	Executable string `json:"executable"`
}

// Isolation says which protections were in force, and which were wanted but not available. The size
// limit of a line may cost an entry of Missing its reason, never its name: a shorter list would
// claim more protection than there was.
type Isolation struct {
	Method   string   `json:"method"`
	Enforced []string `json:"enforced"`
	Missing  []Gap    `json:"missing"`
	Warm     bool     `json:"warm,omitempty"` // the interpreter was started before the run: what its modules did while they were imported is in no record
}

// Gap is a protection that was wanted but not available.
type Gap struct {
	Name string `json:"name"`
	Why  string `json:"why,omitempty"`
}

// Repair says what was wrong with the end of the log: bytes that were cut, or records that are gone.
type Repair struct {
	Bytes    int64  `json:"bytes,omitempty"`
	SHA256   string `json:"sha256,omitempty"`
	Kept     string `json:"kept,omitempty"`     // file name in the log's directory
	Expected *Link  `json:"expected,omitempty"` // the newest record there was; this one follows it
	Found    *Link  `json:"found,omitempty"`    // the newest record there is
	Noted    *Link  `json:"noted,omitempty"`    // the note of the newest record, where it was too old; without Expected
}

// Alert is an alert that was sent, and the record that it is about.
type Alert struct {
	Rule  string `json:"rule"`
	Title string `json:"title"`
	Seq   uint64 `json:"seq"`
}

// Link is a record as a link of the chain: its number, and the hash of its line.
type Link struct {
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"`
}

// head is the newest record of a chain: what the next one is joined to.
type head struct {
	seq  uint64
	hash string
	prev string // empty: not known
	at   moment // zero: not known
}

// A moment is a time by two clocks. The second does not jump as long as the machine runs.
type moment struct {
	wall   time.Time
	uptime time.Duration
	boot   string
}

const (
	timeLayout = "2006-01-02T15:04:05.000000Z"
	clockSlack = 5 * time.Second // smaller steps of the clock are corrections, and are not reported
)

// origin is what the first record of all is joined to.
var origin = head{hash: "0000000000000000000000000000000000000000000000000000000000000000"}

// follow makes r the record after h, written now.
func (r *Record) follow(h head) {
	now := time.Now().UTC()
	var up unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &up)
	uptime := time.Duration(up.Nano())
	r.V = 1
	r.Timestamp = now.Format(timeLayout)
	r.Seq = h.seq + 1
	r.Prev = h.hash
	r.Host.UptimeMS, r.Host.ClockJumpMS = uptime.Milliseconds(), 0
	if h.at.boot != "" && h.at.boot == r.Host.Boot {
		jump := now.Sub(h.at.wall) - (uptime - h.at.uptime)
		if jump.Abs() > clockSlack {
			r.Host.ClockJumpMS = jump.Milliseconds()
		}
	}
}

// repairRecord is the record of a repair that was made before r is written.
func repairRecord(r Record, cut Repair, why string) Record {
	return Record{
		Event:  Event{Action: AuditRepair, Outcome: Success, Reason: why},
		RunID:  r.RunID,
		Host:   r.Host,
		User:   r.User,
		Auth:   r.Auth,
		Client: r.Client,
		Repair: &cut,
	}
}
