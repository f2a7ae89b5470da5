package launch

import (
	"io"
	"os"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/wire"
)

// A Job is everything that one run follows from.
type Job struct {
	Request  wire.Request
	Warnings []wire.Warning // that came up on the way here
	Config   config.Config
	Looked   []config.Looked          // the files that it was looked for in
	Origins  map[string]config.Origin // of its values, for who is told to change one
	Environ  []string
	Dir      string // the caller's current directory
	Umask    *int   // the caller's, for the code; nil: this process's
	Steering string // a configuration file that was named instead of the usual ones; empty: none
	Caller   Caller
	LoginUID *int      // who logged in, as the kernel keeps it; nil: nobody did
	Began    time.Time // when this process began with the request

	Source []byte // the bytes of a file instead of Request.Code, with its own encoding; nil: Request.Code

	// Of `run`, for people and shells; nil and empty in exec.
	Live *Live

	// Signals that ask for the end of the run.
	Signals <-chan os.Signal

	testOnlyReached func(step string) // called as the run gets so far; nil outside of tests
}

// Live is what `run` has more than exec: streams that go through, and a file of the user's own.
type Live struct {
	File           string // the script, absolute; empty: the code came by stdin or by an option
	Argv0          string // as Python sets it: the file, "-" or "-c"
	Stdin          *os.File
	Stdout, Stderr io.Writer
	OneStream      bool // both are one file: everything goes to Stdout, in the order in which the program writes it
}

// Caller is the operating-system user that runs py3run.
type Caller struct {
	UID  int
	Name string
	Home string // by /etc/passwd; empty: it has none there
}

// An identity is who a run is for, and how far that is proved.
type identity struct {
	name   string
	method audit.AuthMethod
}

// user is the user that the request names, which nobody has proved, or else the operating system's.
func user(job Job) identity {
	if name := job.Request.User; name != "" {
		return identity{name, audit.AuthAsserted}
	}
	return identity{job.Caller.Name, audit.AuthOSUser}
}

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
