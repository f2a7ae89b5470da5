package python

//lint:file-ignore U1000 only the modules under runtime/ use some of these constants

//go:generate go test -run ^TestConstants$ . -generate

// Everything that the launcher and the modules under runtime/ have to agree on stands here, and
// nowhere else. `go generate` makes runtime/constants.py from this file: wordDropped is
// WORD_DROPPED there. TestConstants fails when the two differ, and TestNoLiterals fails when a
// Python module spells one of these numbers out again.

// The interpreter finds five descriptors, at numbers that no file of the user's can get
// (sandbox.Spec.FirstFile). A preforked worker has the same, but for the code, which its template
// has read.
//
//	first + 0  the code of the runtime: probe.py
//	first + 1  the shared memory, drawn below
//	first + 2  a pipe for the events of forked children
//	first + 3  the gate: one byte when the start record is durable
//	first + 4  the dump pipe, for faulthandler
const (
	fileCode     = 0
	fileMemory   = 1
	fileChildren = 2
	fileGate     = 3
	fileDump     = 4
	fileCount    = 5
)

const (
	gateOpen    = 1   // the byte
	exitNoStart = 125 // of an interpreter whose gate was closed instead
)

// The shared memory. The interpreter writes all of it but the request, and so can the user's code:
// for the launcher it is data, never a verdict.
//
//	offset      contents
//	0           words of 32 bits in this machine's order: word* below, and from counters on one
//	            for each event, how often it was seen
//	textOffset  the events, a line each: KIND FIELD \t FIELD ... \n
//	            (fields in Python's unicode_escape; the first NUL ends the events)
//	eventsSize  the request: marshal, wordRequest bytes
//	            the description of the reply: JSON, wordAbout bytes
//	            its value: JSON, wordValue bytes
const (
	wordDropped   = 0 // events that are missing
	wordImports   = 1 // modules that were imported and not loaded before
	wordCommitted = 2 // 1 when the reply is whole; written last
	wordAbout     = 3
	wordValue     = 4
	wordRequest   = 5
	wordStart     = 6 // and 7: when the user's code began, nanoseconds of CLOCK_MONOTONIC, the low half first
	counters      = 64
	distinct      = 4000 // events that have a counter; the rest is dropped

	textOffset = 16384
	eventsSize = 1 << 20
)

// Kinds of events. A forked child writes the same lines into its pipe.
const (
	eventDirect   = 'J' // the program itself imports a flagged module
	eventIndirect = 'I' // somebody else does
	eventConnect  = 'C'
	eventBind     = 'B'
	eventStart    = 'P' // a program: its path, and arguments
	eventStartCut = 'Q' // the same of a long line: how many arguments are missing, how many end early, then as above
	eventWrite    = 'W'
	eventAppend   = 'A' // written to the end of a file
	eventDelete   = 'D'
	eventMakeDir  = 'M'
)

// Kinds of replies.
const (
	replyValue = "value"
	replyExit  = "exit" // sys.exit, with the variable result if it was set
	replyError = "error"
)

// Codes of the warnings that only the interpreter can give. All of them are about the value.
const (
	warnInexact   = "inexact_value"
	warnCircular  = "circular_value"
	warnTruncated = "truncated_value"
)

// Signals that make faulthandler write where all threads are.
const (
	SignalWhere = 63 // the last but one real-time signal, which nobody uses: the launcher asks
	signalXCPU  = 24 // the processor time is over, the kill follows
)

// What follows is about templates, and defined by package sandbox, which this package does not
// import: TestSandboxProtocol holds it.

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
