package python

//lint:file-ignore U1000 only the modules under runtime/ use some of these constants

//go:generate go test -run ^TestConstants$ . -generate

// Everything that the launcher and the modules under runtime/ have to agree on stands here, and
// nowhere else. `go generate` makes runtime/constants.py from this file and protocol_template.go:
// wordDropped is WORD_DROPPED there. TestConstants fails when the two differ, and TestNoLiterals
// fails when a Python module spells one of these numbers out again.

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

// A kept interpreter has one more, and at first as its standard input, too: the socket on which it gets
// requests (sandbox.Resident).
const filePeriods = 5

const (
	//lint:ignore U1000 Only the runtime uses it.
	gateOpen = 1 // the byte
	//lint:ignore U1000 Only the runtime uses it.
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
	eventStartCut = 'Q' // a program whose arguments are cut: the number of missing ones, the number of cut ones, then as eventStart
	eventWrite    = 'W'
	eventAppend   = 'A' // written to the end of a file
	eventDelete   = 'D'
	eventMakeDir  = 'M'
	eventRead     = 'R' // only if the request asks for it
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
