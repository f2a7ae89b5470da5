package sandbox

// This file holds every number that the launcher and a template, which is written in Python, share.
// Package python has the same numbers for its Python sources, and a test there compares them with
// these.
//
// # Messages
//
// Init and the program write messages to the launcher, eight bytes each, with one write(2), in the
// byte order of this machine:
//
//	kind 1 byte │ 0 1 byte │ step 2 bytes │ value 4 bytes
//
//	on a set-up socket, whose end of file without msgFailed means that the set-up is done:
//	msgFailed     step failed with errno value; nothing of the program ran
//	msgMissing    optional step failed with errno value; the set-up goes on
//	msgListener   with a descriptor: the listener of the second filter (see recorder)
//	msgReady      from a worker to its maker: this process waits. From init the value is its process id
//	msgHeld       of a transparent program: all but the execve is done, for which it waits at the gate
//
//	on the status pipe:
//	msgEnded      the program ended with wait status value; step is 1 if other processes of the
//	              run are left. Then init waits until they have ended, or for the end of the lifeline
//	msgChanged    before msgEnded, and only of a transparent program, which was stopped, or in a run with
//	              a terminal: the program was stopped or continued; value is its wait status
//	struct rusage from a worker's init, after msgEnded: what the tree has used. (For an own child
//	              wait4(2) returns it, when the launcher reaps init.)
//
// Bytes on the lifeline go from the launcher to init: first 0 to an own child (the id maps are
// written, go on), later the numbers of signals for the program (with a terminal, SIGCONT is for its
// group, which becomes the foreground group), or lifelineEnded: the program has ended, and its end is
// hidden; or, of a Resident, lifelineStop and lifelineGo: all other processes of the pid namespace get
// SIGSTOP, or SIGCONT. End of file: the launcher is gone.
const (
	msgFailed   = 1
	msgMissing  = 2
	msgEnded    = 3
	msgListener = 4
	msgReady    = 6
	msgHeld     = 7
	msgChanged  = 8

	lifelineEnded = 255 // no signal has these numbers
	lifelineStop  = 254
	lifelineGo    = 253
)

// A Resident's socket: one byte, periodBegins, comes with the descriptors of a period. The program
// answers with eight bytes, its status and its note, when the period is over.
const periodBegins = 1

// Steps that have a number of their own in messages; the others are numbered as they are built.
const (
	stepProgramClone = 0
	stepGroup        = 1
)

// # Syscall list
//
// A syscall list holds several lists of system calls and the memory that they point to. Another
// process makes the calls: builder.syscallList writes the list; a template or a worker reads it. All
// numbers have 64 bits, in the byte order of this machine:
//
//	listHead words: number of lists │ number of relocations │ offset of the rights │ offset of the
//	                first region
//	for each list:  number of calls
//	for each call, callWords words: number │ six arguments │ step << 8 and mode │ bits of the
//	                arguments that are offsets of this text
//	relocations: offsets of words that are offsets of this text
//	regions
//
// The rights are a control message (SCM_RIGHTS), with which a call sends a descriptor: see toSend.
// The descriptor follows struct cmsghdr.
const (
	listHead  = 4
	callWords = 9
)

// Modes of a call.
const (
	must     = 0      // a failure ends the set-up
	optional = 1 << 0 // a failure is reported, the set-up goes on
	quiet    = 1 << 1 // a failure means nothing
	withPrev = 1 << 2 // the first argument is the previous call's result
	wantOne  = 1 << 3 // a result other than 1 is a failure (the read of the lifeline)
	ifPrev   = 1 << 4 // only after a success of the previous call
	toSend   = 1 << 5 // the result is kept in the rights: a descriptor, which the next call sends, or a number, which it points to
	addRule  = 1 << 6 // in a worker only: opens a place and adds a rule for it (builder.rule)
)

// The syscall list of PoolKey.Setup has these lists, in this order. As root the template itself
// starts init: its next children are in a new pid namespace (listStart), until it goes back to its
// own (listBack), and init leaves the other namespaces by itself (listInit). A user namespace
// cannot be left again, so for an ordinary user a child of the template makes listStart and starts
// init.
const (
	listStart   = iota // before the start of init
	listBack           // after it, in the template
	listInit           // in init
	listProgram        // in the program's process
	listAfter          // in init, after the program's start; the result of the last call is the signalfd
	listsOfSetup
)

// # Descriptors
//
// In a template and in a worker's processes before a launcher has taken it:
//
//	 8  template: messages of its maker
//	 9  template: its own pid namespace
//	10  init: set-up socket                      11  program: set-up socket
//	12… files through which a process enters the control groups
//	20  program: the ruleset of Landlock, from its launcher until it is in force
//
// With the syscall list a launcher sends descriptors: to init the lifeline and the status pipe; to
// the program stdin, stdout, stderr, the run's files but the first, gate, dump pipe, and the
// ruleset if there is one. The program puts them at 0, 1, 2, PoolKey.FirstFile+1 and up, and
// workerRuleset.
const (
	workerOwnPid  = 9
	workerInit    = 10
	workerProgram = 11
	workerRuleset = 20
	workerTop     = 64 // the least Spec.FirstFile: lower numbers are the template's
)
