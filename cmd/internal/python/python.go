// Package python knows CPython: how to find an interpreter, how to hand it the user's code, and how
// to read what it says back.
//
// What runs in front of the user's code are the modules under runtime/ (runtime.go). The
// interpreter compiles them when it is first met, and the byte code is kept in a cache. What both
// sides have to agree on stands in protocol.go.
package python

// An Interpreter is a CPython that can run the runtime.
type Interpreter struct {
	Path     string   // what to execute; in a virtual environment, the link inside it
	Version  string   // "3.11.2"
	Banner   string   // sys.version on one line
	Platform string   // sys.platform
	Venv     string   // directory of the virtual environment, or empty
	Prefixes []string // directories that it is installed in
	Identity string   // changes whenever the interpreter or the runtime may have changed
	Through  []string // the shims that led to it, in order
	Link     string   // Path leads by this link to py3run: a run needs a link to Behind in its place; empty: it does not
	Behind   string   // with Link: the interpreter itself
	code     byteCode // the runtime, compiled by this interpreter
	answers  []answer // of shims, that are not in the cache yet
}
