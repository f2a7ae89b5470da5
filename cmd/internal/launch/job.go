package launch

import (
	"io"
	"os"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

// A Job is the input of one run.
type Job struct {
	Request     wire.Request
	Warnings    []wire.Warning // from reading the request and the configuration
	Config      config.Config
	Looked      []config.Looked          // the files in which the configuration was looked for
	Origins     map[string]config.Origin // where each value of Config comes from; hints name it
	Environ     []string
	Dir         string // the caller's current directory
	Umask       *int   // the caller's, for the code; nil: the umask of this process
	KeyFile     string // the file that the API key is read from, absolute; empty: none
	NamedConfig string // the configuration file that the caller named instead of the usual ones; empty: none
	Caller      Caller
	LoginUID    *int      // the login user id that the kernel keeps (loginuid); nil: not set
	Began       time.Time // when this process began with the request

	Source []byte // the bytes of a script file, in its own encoding; nil: the code is Request.Code

	Live    *Live  // set by `run`, for people and shells; nil in exec
	Bare    *Bare  // set by `python`: the interpreter itself, without py3run's code in it
	Command string // of py3run, for the record; empty: exec, or run with Live

	Series *Series // that this run belongs to; nil: none

	Stream    Stream        // of exec: told what happens; nil: nobody wants to know
	Heartbeat time.Duration // between two heartbeats of the stream; 0: none

	Patience time.Duration // how long it waits if its user has as many runs as allowed

	Signals <-chan os.Signal // a signal from it ends the run
	Alone   bool             // the process has this run only: it may wait for it without goroutines
	Lasts   func()           // called when the code has run for a moment, if it runs as long, perhaps again for a second start; nil: nothing

	testOnlyReached func(step string) // called after each step; nil outside of tests
}

// Live is what only `run` has: streams that go straight through, and a script file of the user's.
type Live struct {
	File           string // the script, absolute; empty: the code came from stdin or from an option
	Argv0          string // as Python sets it: the file, "-" or "-c"
	Stdin          *os.File
	Stdout, Stderr io.Writer
	OneStream      bool // stdout and stderr are one file: all output goes to Stdout, in the program's order

	Terminal *sandbox.Terminal      // instead of Stdin, and for what goes to Stdout; nil: streams are pipes
	Attach   func() (detach func()) // connects the terminal with its user, while the code runs; nil without one
}

// Caller is the operating-system user that runs py3run.
type Caller struct {
	UID  int
	Name string
	Home string // from /etc/passwd; empty: none there
}

// An identity is the user that a run is for, and how well that is proved.
type identity struct {
	name   string
	method audit.AuthMethod
}

// user returns who the run is for. Of a plan whose job was not admitted that is the user that the
// request names, which is asserted only, or else the operating-system user.
func (p Plan) user() identity {
	switch {
	case p.Grant.Method != "":
		return identity{p.Grant.User, audit.AuthMethod(p.Grant.Method)}
	case p.Job.Request.User != "":
		return identity{p.Job.Request.User, audit.AuthAsserted}
	}
	return identity{p.Job.Caller.Name, audit.AuthOSUser}
}

// codeOf returns the code of a job: the bytes that run, and that the record hashes.
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
