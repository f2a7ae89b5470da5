// Package config says what py3run may and shall do on this host. It merges
//
//	defaults < /etc/py3run/config.toml < ~/.config/py3run/config.toml < PY3RUN_* < flags
//
// into one value, and keeps where each part came from. One table, in settings.go, has everything
// about a key: type, default, unit, bounds and texts. All other code here walks that table.
//
// This package does not know what a limit does. MB means 2^20 bytes.
package config

import (
	"errors"
	"os"
	"path/filepath"

	"py3run/internal/envvar"
)

// A Config is the configuration of one execution. It is a plain value: Load makes a new one each
// time, which shares no slice or map with another.
type Config struct {
	Security Security
	Input    Input
	Identity Identity
	Python   Python
	Warm     Warm
	Bridge   Bridge
	Alerts   Alerts
}

// Security holds the limits. For every number but GraceSeconds, 0 means no limit.
type Security struct {
	MaxMemoryMB             float64
	MaxCPUSeconds           float64
	MaxOutputSizeMB         float64 // each of stdout, stderr and the result
	MaxProcesses            int     // of the run, threads included
	MaxOpenFiles            int
	MaxFileSizeMB           float64
	MaxDiskMB               float64 // of the working directory and everything below it
	MaxCPUs                 float64
	MaxReadMBPerSecond      float64
	MaxWriteMBPerSecond     float64
	ExecutionTimeoutSeconds float64
	IdleTimeoutSeconds      float64
	GraceSeconds            float64 // between the polite signal and SIGKILL
	Isolation               Isolation
	Audit                   Audit
	RateLimit               RateLimit
}

// Isolation says how an execution is isolated from the host and from other executions.
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
	Shm              string   // "private" or "host"
	RunAs            string   // name of a user, or empty
	KeepCapabilities []string // such as CAP_SYS_NICE
	CgroupParent     string   // "auto", "none" or an absolute path in every hierarchy
	IDMap            string   // "own" or "subids"
	EnvKeep          []string // names of variables; a * at the end stands for any rest
}

// Audit says what is recorded about an execution.
type Audit struct {
	Enabled       bool
	Dir           string // absolute; empty: the place depends on who runs py3run
	LogCode       bool
	LogVariables  string // "names", "off" or "hmac"
	LogOutput     string // "sizes", "hash" or "head"
	Group         string // whose members may read the log, by name or number; empty: none
	RetentionDays int    // how long py3runctl audit prune keeps records; 0: for ever
	OnFailure     string // "refuse" or "warn"
	Native        string // "auto", "on" or "off"
	Files         string // likewise
	Reads         bool
}

// RateLimit says how many runs may begin, and how many of one user may be under way. In its numbers, 0
// means no limit. It counts users that a key proves or a request names. The user of the operating
// system, who can be a gateway or a loop of a shell, is counted by none of them unless OSUsers is set.
type RateLimit struct {
	PerUserPerMinute  int
	PerUserPerHour    int
	GlobalPerMinute   int // of all users that are counted
	ConcurrentPerUser int
	OSUsers           bool
}

// Input bounds what is read from stdin before it is decoded.
type Input struct {
	MaxRequestMB   float64
	TimeoutSeconds float64 // how long to wait for the next byte; 0: for ever
}

// Identity says whom py3run must know.
type Identity struct {
	Require bool // a run without a known user is denied
}

// Python says which interpreter runs, and which imports are flagged.
type Python struct {
	Interpreter string            // "auto", a path, a version as "3.12", or a venv directory
	Path        []string          // absolute directories for sys.path
	Site        string            // "eager" or "lazy"
	FlagImports map[string]string // from the module's dotted name to the reason why it is flagged

	OutliveCaller bool // a drop-in interpreter goes on when its caller has ended
}

// Warm says whether interpreters are kept ready.
type Warm struct {
	Enabled bool
	Preload []string // modules that they have imported before a run
	Spares  int      // how many wait for a run
}

// Bridge holds what only `py3run bridge` needs.
type Bridge struct {
	TimeoutSeconds float64 // wall-clock time of one request; 0: as for any run
	State          string  // fresh, or keep: whether an interpreter serves one request, or all of one user
}

// Alerts says what py3runctl alerts looks for in the log, and where it sends alerts. 0, false and
// empty switch a rule off.
type Alerts struct {
	Denials              int     // refusals of one user
	DenialsWithinMinutes float64 // within this time
	RateLimits           int     // refusals of one user by a rate limit, within the same time
	Keys                 bool    // unknown, wrong, expired and revoked API keys
	Policy               bool    // roles granted, keys that may name anybody, a policy edited beside the tool
	LimitsInARow         int     // runs in a row, of one user and script, that ended at a limit
	NewModules           bool    // a user's first import of a flagged module
	NewHosts             bool    // a first connection to a host
	QuietHours           string  // "22:00-06:00", local time: runs started then
	Tampering            bool    // repairs, lost records, jumps of the clock
	Command              []string
	Webhook              string
}

// Sources is everything that Load looks at. Load itself reads no variable and no flag.
type Sources struct {
	Environ []string          // as os.Environ returns it: no name twice
	File    string            // --config; read instead of the two usual files
	Flags   map[string]string // values by key, as text, from --set and the flags that stand for a key
	Typed   map[string]string // the flag, as --timeout-seconds, by which a key of Flags was set; without an entry: --set
	EtcFile string            // empty: /etc/py3run/config.toml
	Instead map[string]string // texts that count in the place of files, by path: what would be in force
}

// Named is the configuration file that is named instead of the usual ones; empty: none. Relative
// names are relative to dir.
func (s Sources) Named(dir string) string {
	named := s.File
	if named == "" {
		named = envvar.Lookup(s.Environ, "PY3RUN_CONFIG")
	}
	if named != "" && !filepath.IsAbs(named) {
		named = filepath.Join(dir, named)
	}
	return named
}

// Loaded is a Config with its history.
type Loaded struct {
	Config   Config
	Origins  map[string]Origin // by key; without an entry: the default
	Warnings []string          // what was ignored, one line each
	Looked   []Looked          // files that were looked for, in this order
	Files    []string          // files that were read; with --config, also the one in /etc, but only for its ceilings and floors

	instead map[string]string
}

// Looked is a file that was looked for. SHA256 is empty if the file was missing or unreadable.
type Looked struct {
	Path   string // absolute
	SHA256 string // in lower-case hexadecimal, of what was read
}

// Kinds of Origin, from the weakest to the strongest.
const (
	FromDefault     = ""       // in words: default
	FromPolicy      = "policy" // of who may run what; see Tighten
	FromFile        = "file"
	FromEnvironment = "environment"
	FromFlag        = "flag"
)

// An Origin says who set a value.
type Origin struct {
	Kind    string
	Name    string // path of the file, with the table of a policy; name of the variable, or --set
	Key     string // the key that was set, if the value is that of another key; see ForBridge
	Ceiling Ceiling
	Floor   Floor
}

// A Ceiling is the most that the operator allows for a key. The zero Ceiling is no ceiling.
type Ceiling struct {
	Value string // as it would stand in a file
	File  string
	Asked string // what the origin had asked for; empty if that was allowed
}

// A Floor is the least that the operator allows for a key. The zero Floor is no floor.
type Floor struct {
	Value string // as it would stand in a file
	File  string
	Asked string // what the origin had asked for; empty if that was allowed
}

// An Error is one mistake at one place of the configuration. Load returns the first as an *Error,
// Check all of them.
type Error struct {
	Where   string // file:line, file, variable or flag
	Key     string // empty if the mistake is not about a key
	Problem string
	Hint    string // a likely intention or a next step, or empty

	cause error
}

// Error returns one line with everything except the hint. If a key was mistyped, the line itself
// names the nearest key.
func (e *Error) Error() string {
	if e.Key == "" {
		return e.Where + ": " + e.Problem
	}
	return e.Where + ": " + e.Key + ": " + e.Problem
}

// Unwrap returns the error of the operating system, if one was the cause.
func (e *Error) Unwrap() error { return e.cause }

// A Finding is an Error that Check reports. Load accepts those that are only contradictions.
type Finding = Error

// DefaultWorkingDir is in a directory of py3run's own, one for each user of the operating system.
const DefaultWorkingDir = "/tmp/py3run-${uid}/python3-${userId}-${executionId}"

// SystemDir is where the operator's configuration is.
const SystemDir = "/etc/py3run"

// UserDir is where a user's configuration is; empty: nowhere.
func UserDir(environ []string) string {
	dir := envvar.Lookup(environ, "XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) { // the XDG base directory specification says to ignore it then
		dir = envvar.Lookup(environ, "HOME")
		if !filepath.IsAbs(dir) {
			return ""
		}
		dir = filepath.Join(dir, ".config")
	}
	return filepath.Join(dir, "py3run")
}

// AuditDir is where the log is.
func (c Config) AuditDir(environ []string) (string, error) {
	if c.Security.Audit.Dir != "" {
		return c.Security.Audit.Dir, nil
	}
	if os.Geteuid() == 0 {
		return "/var/log/py3run", nil
	}
	if dir := envvar.Lookup(environ, "XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "py3run", "audit"), nil
	}
	if home := envvar.Lookup(environ, "HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "py3run", "audit"), nil
	}
	return "", errors.New("audit: no directory for the log: security.audit.dir, XDG_STATE_HOME and HOME are not set")
}

// StateDir is the directory of keys, stored scripts and other state; empty: there is no place for it.
func StateDir(environ []string) string {
	if dir := envvar.Lookup(environ, "XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "py3run")
	}
	if os.Geteuid() == 0 {
		return "/var/lib/py3run"
	}
	if home := envvar.Lookup(environ, "HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "py3run")
	}
	return ""
}
