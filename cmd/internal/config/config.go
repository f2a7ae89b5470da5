// Package config answers what py3run is allowed and asked to do on this host:
// it merges
//
//	defaults < /etc/py3run/config.toml < ~/.config/py3run/config.toml < PY3RUN_* < flags
//
// into one value and remembers where each part came from. What is known about
// a key (type, default, unit, bounds, words for people) stands in one table,
// settings.go; everything else here walks that table.
//
// Nothing here knows what a limit does. MB means 2^20 bytes.
package config

import (
	"errors"
	"os"
	"path/filepath"
)

// A Config is what holds for one execution. It is a plain value: Load makes a
// new one each time and shares no slice or map with another.
type Config struct {
	Security Security
	Input    Input
	Python   Python
	Warm     Warm
	Alerts   Alerts
}

// Security holds the limits. 0 means no limit, for every number.
type Security struct {
	MaxMemoryMB             float64
	MaxCPUSeconds           float64
	MaxOutputSizeMB         float64 // each of stdout, stderr and the result
	MaxProcesses            int     // whole tree, threads too
	MaxOpenFiles            int
	MaxFileSizeMB           float64
	MaxDiskMB               float64 // working directory, whole tree
	MaxCPUs                 float64
	MaxReadMBPerSecond      float64
	MaxWriteMBPerSecond     float64
	ExecutionTimeoutSeconds float64
	IdleTimeoutSeconds      float64
	GraceSeconds            float64 // between the polite signal and SIGKILL
	Isolation               Isolation
	Audit                   Audit
}

// Isolation says how an execution is kept apart from the host and the others.
type Isolation struct {
	Method           string   // "auto", "namespace" or "process"
	OnMissing        string   // "warn" or "refuse"
	Network          string   // "host" or "none"
	WorkingDir       string   // absolute, with ${executionId} and perhaps ${userId} to fill in
	CleanupOnExit    bool     // remove the working directory after the run
	Hide             []string // absolute paths
	ReadDirs         []string // absolute paths; empty: no restriction
	WriteDirs        []string // likewise
	Dev              string   // "host" or "minimal"
	Seccomp          string   // "default" or "off"
	NoNewPrivileges  bool
	RunAs            string   // name of a user, or empty
	KeepCapabilities []string // as CAP_SYS_NICE
	CgroupParent     string   // "auto", "none" or an absolute path in every hierarchy
	EnvKeep          []string // variable names; a * at the end stands for any rest
}

// Audit says what is written down about an execution.
type Audit struct {
	Enabled       bool
	Dir           string // absolute, or empty: the place follows from who runs py3run
	LogCode       bool
	LogVariables  string // "names", "off" or "hmac"
	LogOutput     string // "sizes", "hash" or "head"
	Group         string // whose members may read the log, by name or number; empty: none
	RetentionDays int    // for which py3runctl audit prune keeps records; 0: for ever
	OnFailure     string // "refuse" or "warn"
	Native        string // "auto", "on" or "off"
}

// Input bounds what is read from stdin before anything of it is understood.
type Input struct {
	MaxRequestMB   float64
	TimeoutSeconds float64 // without a byte; 0: wait for ever
}

// Python says which interpreter runs, and what is worth a remark.
type Python struct {
	Interpreter string            // "auto", a path, a version as "3.12", or a venv directory
	Path        []string          // absolute directories for sys.path
	Site        string            // "eager" or "lazy"
	FlagImports map[string]string // dotted module name to the reason it is remarked on
}

// Warm says whether interpreters are kept ready.
type Warm struct {
	Enabled bool
	Preload []string // modules that they have imported
	Spares  int      // how many wait
}

// Alerts says what py3runctl alerts remarks on in the log, and whom it tells. 0, false and empty switch a rule off.
type Alerts struct {
	Denials              int     // refusals of one user
	DenialsWithinMinutes float64 // within this time
	LimitsInARow         int     // runs of one user or script that ended at a limit, one after the other
	NewModules           bool    // a user's first import of a flagged module
	NewHosts             bool    // a first connection to a host
	QuietHours           string  // "22:00-06:00", local time: runs started then
	Tampering            bool    // repairs, lost records, jumps of the clock
	Command              []string
	Webhook              string
}

// Sources is everything Load looks at. It reads no variable and no flag on its
// own.
type Sources struct {
	Environ []string          // as os.Environ returns it: no name twice
	File    string            // --config; read instead of the two usual files
	Flags   map[string]string // textual values by key, of --set and the flags that are short for it
	EtcFile string            // empty: /etc/py3run/config.toml
}

// Loaded is a Config with its history.
type Loaded struct {
	Config   Config
	Origins  map[string]Origin // by key; without an entry it is the zero Origin, the default
	Warnings []string          // what was passed over, one line each
	Looked   []Looked          // files that were looked for, in this order
	Files    []string          // files that were read; next to a --config file, the one in /etc for its ceilings only
}

// Looked is a file that was looked for. SHA256 is empty where there was none, or none that could be read.
type Looked struct {
	Path   string // absolute
	SHA256 string // in lower-case hexadecimal, of what was read
}

// Kinds of Origin, from the weakest to the strongest.
const (
	FromDefault     = "" // in words: default
	FromFile        = "file"
	FromEnvironment = "environment"
	FromFlag        = "flag"
)

// An Origin says who set a value.
type Origin struct {
	Kind    string
	Name    string // path of the file, name of the variable, or --set
	Ceiling Ceiling
	Floor   Floor
}

// A Ceiling is the most that the operator allows for a key. The zero Ceiling
// is none at all.
type Ceiling struct {
	Value string // as it would stand in a file
	File  string
	Asked string // what the origin had asked for; empty if that was allowed
}

// A Floor is the least that the operator allows for a key. The zero Floor is none at all.
type Floor struct {
	Value string // as it would stand in a file
	File  string
	Asked string // what the origin had asked for; empty if that was allowed
}

// An Error is one thing wrong at one place of the configuration. Load returns
// the first as an *Error, Check all of them.
type Error struct {
	Where   string // file:line, file, variable or flag
	Key     string // empty if the place as a whole is wrong
	Problem string
	Hint    string // a likely intention or a next step, or empty

	cause error
}

// Error returns one line with all but the hint. Where a key was mistyped, the
// line names the nearest one itself.
func (e *Error) Error() string {
	if e.Key == "" {
		return e.Where + ": " + e.Problem
	}
	return e.Where + ": " + e.Key + ": " + e.Problem
}

// Unwrap returns the error of the operating system, if one was the cause.
func (e *Error) Unwrap() error { return e.cause }

// A Finding is an Error that Check reports. Load goes on with those that are
// merely contradictions.
type Finding = Error

// AuditDir is where the log is.
func (c Config) AuditDir(environ []string) (string, error) {
	if c.Security.Audit.Dir != "" {
		return c.Security.Audit.Dir, nil
	}
	if os.Geteuid() == 0 {
		return "/var/log/py3run", nil
	}
	if dir := lookup(environ, "XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "py3run", "audit"), nil
	}
	if home := lookup(environ, "HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "py3run", "audit"), nil
	}
	return "", errors.New("audit: no directory for the log: security.audit.dir, XDG_STATE_HOME and HOME are not set")
}
