package wire

import "unsafe"

// DefaultFilename is the name of code that has none.
const DefaultFilename = "main.py"

// Protocol is the one version of request and result that this package speaks.
const Protocol = 1

// A Request is one accepted request. It is complete and consistent, but only what the caller says:
// user and client_ip are not proved, and limits can only tighten what the operator has set.
type Request struct {
	ID      string // the caller's; empty = not given
	Command Command

	Code, Expression string
	Module, Function string
	Args             []any // as Parse makes them, except that arrays and objects are *Raw; likewise the values of Kwargs and Variables
	Kwargs           *Object
	Variables        *Object // names are Python identifiers that user code may bind
	Line             int     // from 1; 0 = not given
	Column           int     // from 0

	Argv     []string
	Stdin    *string // nil = not given; the program finds it empty
	Filename string  // what tracebacks show; never opened

	User, ClientIP string
	Key            Secret // the API key that was presented; nil: none was
	Script         string // a stored script instead of Code: its name, with @VERSION or without; empty: none
	SecurityMode   string // name of a profile, or empty
	Limits         Limits
	ResultFormat   string  // plain or tagged
	ResultFrom     string  // auto, last_expression, result or none
	Labels         *Object // of strings

	Files   []File    // to be put into the working directory: no name twice, none also a directory
	Collect []Pattern // of the files to be handed back
}

// A Secret is text that can be overwritten, unlike a string: see Forget.
type Secret []byte

// Text returns the secret as a string without a copy. The string must not be used after Forget.
func (s Secret) Text() string { return unsafe.String(unsafe.SliceData(s), len(s)) }

// Forget overwrites the secret.
func (s Secret) Forget() { clear(s) }

// String keeps a secret out of messages.
func (s Secret) String() string { return "[secret]" }

// GoString does the same.
func (s Secret) GoString() string { return s.String() }

// A Command is what a request asks for.
type Command string

const (
	CommandExecute        Command = "execute"
	CommandEvaluate       Command = "evaluate"
	CommandCallModule     Command = "call_module"
	CommandCheckSyntax    Command = "check_syntax"
	CommandGetCompletions Command = "get_completions"
	CommandVersion        Command = "version"
	CommandListModules    Command = "list_modules"
	CommandPing           Command = "ping"

	// These two are only for a bridge: DecodeLine takes them, Decode does not.
	CommandClearGlobals Command = "clear_globals"
	CommandShutdown     Command = "shutdown"
)

// commands says which fields each command needs, and whether it runs code of the user's. Those that
// do leave audit records.
var commands = [...]struct {
	name  Command
	needs []string
	runs  bool
}{
	{CommandExecute, []string{"code"}, true}, // or a script
	{CommandEvaluate, []string{"expression"}, true},
	{CommandCallModule, []string{"module", "function"}, true},
	{CommandCheckSyntax, []string{"code"}, false},
	{CommandGetCompletions, []string{"code", "line", "column"}, false},
	{CommandVersion, nil, false},
	{CommandListModules, nil, false},
	{CommandPing, nil, false},
}

// RunsCode reports whether the command runs code of the user's. A run of such a command leaves two
// audit records, if the log is on.
func (c Command) RunsCode() bool {
	for _, row := range commands {
		if row.name == c {
			return row.runs
		}
	}
	return false
}
