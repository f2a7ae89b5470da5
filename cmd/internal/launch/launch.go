// Package launch is the one use case of py3run: a request becomes a plan, the plan a run, the run a result and two audit records.
//
//	Request + Config + Caller ─► Plan ─► sandbox.Spec        no system call
//	              sandbox.Start ─► audit start               while Python starts, held at its gate
//	                          Release                        only after both
//	      Outcome + Reply ─► Result                          no system call; the Outcome wins
//	                 audit end ─► receipt in the Result
package launch

import (
	"io"
	"os"
	"time"

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
