package python

//lint:file-ignore U1000 Only the modules under runtime/ use these.

// This is the part of the protocol that concerns templates and their workers. Package sandbox is the
// other side and defines the same numbers; this package does not import it, and TestSandboxProtocol
// compares the two.

// The descriptors of a template and of its workers, which run nothing of the user's at these
// numbers.
const (
	workerControl = 8  // messages to the template
	workerOwnPid  = 9  // in the template: its pid namespace
	workerInit    = 10 // messages of and to init
	workerProgram = 11 // messages of and to the program
	workerGroups  = 12 // and up: files of control groups to be entered
	workerRuleset = 20 // a Landlock ruleset
)

// A message of a worker: kind (1 byte), 0, step (2 bytes), value (4 bytes, signed), in the order of
// this machine.
const (
	msgFailed  = 1 // a step failed with the errno value
	msgMissing = 2 // the same of an optional one
	msgEnded   = 3 // the program ended with the wait status value; step 1: others of the run are left
	msgReady   = 6 // one of a worker's processes waits; from init with its process id

	stepGroup     = 1   // the step of entering a control group, which no list has
	lifelineEnded = 255 // a byte to init that is no signal: the program has ended, and its end is hidden
	lifelineStop  = 254 // likewise: all other processes stop
	lifelineGo    = 253 // likewise: they go on
)

// A syscall list (sandbox/syscalllist_linux.go): words of 64 bits.
const (
	listCount       = 0 // word: number of lists
	listRelocations = 1 // word: number of relocations
	listRights      = 2 // word: offset of the control message that a descriptor is sent with
	listHead        = 4 // words before the lengths of the lists
	listCall        = 9 // words of a call: number, six arguments, step and mode, which arguments are offsets
	listStepShift   = 8 // of the step, above the mode
)

// The lists of a template's set-up (sandbox.PoolKey.Setup), by who makes them.
const (
	setupStart   = 0 // the template, or its child in a user namespace, before init
	setupBack    = 1 // the template, after it has started init
	setupInit    = 2
	setupProgram = 3
	setupAfter   = 4 // init, when it has started the program
)

// The modes of a call.
const (
	modeOptional = 1 << 0 // a failure is told, the set-up goes on
	modeQuiet    = 1 << 1 // a failure means nothing
	modeWithPrev = 1 << 2 // the first argument is the result of the call before
	modeWantOne  = 1 << 3 // another result than 1 is a failure
	modeIfPrev   = 1 << 4 // only after a success of the call before
	modeToSend   = 1 << 5 // the result is a descriptor, which the next call sends
	modeAddRule  = 1 << 6 // a rule of the Landlock ruleset: the place is opened first
)
