package python

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/startup"
	"py3run/cmd/internal/wire"
)

// A Job is one piece of work for an interpreter.
type Job struct {
	Command      wire.Command
	Code         []byte // of check, execute and evaluate
	Text         bool   // Code is text from a request; else bytes of a file, whose coding cookie counts
	Path         string // the real file with Code
	Shown        string // its name in tracebacks
	Unread       bool   // tracebacks have no lines of Code: whoever runs it may not read it. The file Path is empty then
	Argv         []string
	ImportPath   []string
	Variables    *wire.Object
	Module       string
	Function     string
	Args         []any
	Kwargs       *wire.Object
	Line, Column int
	ResultFormat string
	ResultFrom   string
	LazySite     bool              // site is imported when an import finds nothing without it
	Flagged      map[string]string // modules whose import is an event; the values are of no interest here
	Reads        bool              // files that are read are events, too
	PrintError   bool              // an uncaught exception is also printed on stderr, as Python does
	OutputMost   int64             // bytes of the value's JSON; 0 = no limit
	Environ      []string          // NAME=value; only for a worker, which its template started with another environment
	Kept         bool              // this starts an interpreter that is kept: see Kept
	Fresh        bool              // for a kept interpreter: the globals of earlier requests are gone
	Stdin        string            // likewise: the standard input. (Others have theirs from the start.)
}

const (
	aboutMost     = 1 << 20 // bytes of a reply beside its value: traceback, warnings
	unlimitedMost = 1 << 30
	childrenMost  = 1 << 20     // bytes of events of forked children
	childrenWait  = time.Second // for the rest of these events, when the interpreter has ended
)

// A Session is one job in one interpreter: the memory that both share, drawn in protocol.go. The
// interpreter writes it, and so can the code that it runs: what is read here is data, checked and
// bounded, and never decides a verdict. Sessions do not share anything.
type Session struct {
	files       []*os.File
	memory      []byte
	most        int64
	children    *os.File
	childEvents []byte // events of forked children; whole when reading is done
	attended    bool   // Attend was called
	reading     sync.WaitGroup
	args        []string
}

// Open prepares a job for an interpreter that gets Files from descriptor first on.
func Open(ip Interpreter, job Job, first int) (*Session, error) {
	code, err := ip.code.open()
	if err != nil {
		return nil, err
	}
	s, err := open(job, nil, code)
	if err == nil {
		s.args = []string{"-I", "-X", "utf8"}
		if job.LazySite {
			s.args = append(s.args, "-S")
		}
		s.args = append(s.args, "-c", fmt.Sprintf(startStub, first+fileCode))
	}
	return s, err
}

// OpenWorker prepares a job for a preforked worker. The first of its Files is nil: the worker has the
// runtime already. The spare, which may be nil, is used up.
func OpenWorker(job Job, spare *Spare) (*Session, error) { return open(job, spare, nil) }

// open makes a session. It takes over the files.
func open(job Job, spare *Spare, files ...*os.File) (_ *Session, err error) {
	s := &Session{most: bounded(job.OutputMost), files: files}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	request := marshal(nil, job.request(s.most))
	if !spare.fits(len(request), s.most) {
		spare.Close()
		if spare, err = newSpare(s.most, len(request)); err != nil {
			return nil, err
		}
	}
	s.files, s.memory, s.children = append(s.files, spare.shared, spare.events), spare.memory, spare.children
	return s, s.put(request, spare.shared)
}

// bounded is a limit on the bytes of a value that memory can be made for.
func bounded(most int64) int64 {
	if most <= 0 || most > unlimitedMost {
		return unlimitedMost
	}
	return most
}

// Children is the file from which Attend reads.
func (s *Session) Children() *os.File { return s.children }

// Attend reads the events of forked children while the interpreter runs, in a goroutine. Without it,
// Events reads those for which the pipe has room.
func (s *Session) Attend() {
	s.attended = true
	s.reading.Go(s.readChildren)
}

func (s *Session) readChildren() {
	s.childEvents, _ = io.ReadAll(io.LimitReader(s.children, childrenMost))
	if len(s.childEvents) == childrenMost {
		io.Copy(io.Discard, s.children) // the rest is dropped; the writers notice nothing
	}
}

// share makes the shared memory with a request in it. room is how many bytes more it has for later ones.
func (s *Session) share(request []byte, room int) (_ *os.File, err error) {
	shared, memory, err := sharedMemory(s.most, len(request)+room)
	if err != nil {
		return nil, err
	}
	s.memory = memory
	if err := s.put(request, shared); err != nil {
		shared.Close()
		return nil, err
	}
	return shared, nil
}

// put writes a request into the memory that nobody has used yet.
func (s *Session) put(request []byte, shared *os.File) error {
	if _, err := shared.WriteAt(request, eventsSize); err != nil { // through the mapping, each new page would be a fault
		return fmt.Errorf("write shared memory: %w", err)
	}
	binary.NativeEndian.PutUint32(s.memory[4*wordRequest:], uint32(len(request)))
	return nil
}

// sharedMemory makes and maps memory for a value of at most so many bytes, and a request.
func sharedMemory(most int64, request int) (_ *os.File, memory []byte, err error) {
	size := int64(eventsSize+request) + most + aboutMost
	shared, err := memfd("py3run-memory", size)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			shared.Close()
		}
	}()
	// Nobody can cut the memory: reading behind its end would be a SIGBUS.
	if _, err := unix.FcntlInt(shared.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW); err != nil {
		return nil, nil, fmt.Errorf("seal shared memory: %w", err)
	}
	memory, err = unix.Mmap(int(shared.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map shared memory: %w", err)
	}
	return shared, memory, nil
}

func (j Job) request(most int64) map[string]any {
	flagged := map[string]any{}
	for module := range j.Flagged {
		flagged[module] = nil
	}
	environ := map[string]any{}
	for _, e := range j.Environ {
		name, value, _ := strings.Cut(e, "=")
		environ[name] = value
	}
	r := j.again(most)
	r["environ"], r["import_path"], r["flagged"], r["kept"], r["lazy_site"] = environ, j.ImportPath, flagged, j.Kept, j.LazySite
	return r
}

// again is what a request has to say to an interpreter that has started already.
func (j Job) again(most int64) map[string]any {
	var code any = j.Code
	if j.Text {
		code = string(j.Code)
	}
	return map[string]any{
		"command": string(j.Command), "code": code, "path": j.Path, "shown": j.Shown, "argv": j.Argv,
		"variables": j.Variables, "module": j.Module, "function": j.Function, "args": j.Args, "kwargs": j.Kwargs,
		"line": j.Line, "column": j.Column, "result_format": j.ResultFormat, "result_from": j.ResultFrom,
		"fresh": j.Fresh, "stdin": j.Stdin != "", "reads": j.Reads, "show": j.PrintError, "unread": j.Unread, "most": int(most),
	}
}

// Files are the descriptors for the interpreter.
func (s *Session) Files() []*os.File { return s.files }

// Args are the interpreter's arguments. Nothing of the user's is in them: everybody can read
// arguments.
func (s *Session) Args() []string { return s.args }

// Started closes what only the child needs. Call it when the child has its copies.
func (s *Session) Started() {
	for _, f := range s.files {
		f.Close()
	}
	s.files = nil
}

// Close frees everything. Call it when the interpreter has ended.
func (s *Session) Close() {
	s.Started()
	if s.children != nil {
		s.children.SetReadDeadline(time.Now())
		s.reading.Wait()
		s.children.Close()
		s.children = nil
	}
	if s.memory != nil {
		unix.Munmap(s.memory)
		s.memory = nil
	}
}

func (s *Session) word(n int) uint32 { return binary.NativeEndian.Uint32(s.memory[4*n:]) }

// CodeStarted is when the user's code began, on CLOCK_MONOTONIC; false if it never did.
func (s *Session) CodeStarted() (time.Duration, bool) {
	t := uint64(s.word(wordStart+1))<<32 | uint64(s.word(wordStart))
	return time.Duration(t), t != 0 && t < math.MaxInt64
}

// A Reply is what the interpreter said about how the code ended. Nothing in it is proved.
type Reply struct {
	Kind     string // "value", "exit" (sys.exit, with the variable result if it was set) or "error", as the interpreter said; "too_large", as measured here
	Type     string // of the value or of the exception
	Value    []byte // JSON, strict
	Inexact  wire.Findings
	Absent   bool   // there is no variable result, so what was printed is the result
	Text     string // str() of the value, when the JSON cannot hold it exactly
	Bytes    int64  // length of a value that is too large
	Warnings []wire.Warning

	Error, Traceback string
	Line, Column     int
	Syntax, Memory   bool
	Errno            int
}

// ErrNoReply: the interpreter ended before it had written a reply, as after os._exit or a signal.
var ErrNoReply = errors.New("no reply")

// Reply reads and checks the reply.
func (s *Session) Reply() (Reply, error) {
	if s.word(wordCommitted) != 1 {
		return Reply{}, ErrNoReply
	}
	start := uint64(eventsSize) + uint64(s.word(wordRequest))
	about, value := uint64(s.word(wordAbout)), uint64(s.word(wordValue))
	if start+about+value > uint64(len(s.memory)) {
		return Reply{}, errors.New("reply: lengths are out of bounds")
	}
	// Copies: what was checked must not change any more, and the memory is unmapped later.
	text := string(s.memory[start : start+about])
	r, err := readAbout(text)
	if err != nil {
		return Reply{}, fmt.Errorf("reply: %w", err)
	}
	if r.Kind == replyValue || r.Kind == replyExit {
		if int64(value) > s.most {
			if bytes.IndexByte(s.memory[start+about:][:s.most+1], 0) >= 0 {
				return Reply{}, errors.New("reply: value: it is said to be too large, and is not there")
			}
			return Reply{Kind: "too_large", Bytes: int64(value)}, nil
		}
		r.Value = append(startup.Grow(nil, int(value)), s.memory[start+about:start+about+value]...)
		if r.Inexact, err = wire.Inspect(r.Value); err != nil {
			return Reply{}, fmt.Errorf("reply: value: %w", err)
		}
	}
	return r, nil
}

func readAbout(text string) (r Reply, err error) {
	v, err := wire.Parse([]byte(text), 8)
	if err != nil {
		return r, err
	}
	about, ok := v.(*wire.Object)
	if !ok {
		return r, errors.New("not an object")
	}
	str := func(name string) string {
		v, _ := about.Get(name)
		s, _ := v.(string)
		return s
	}
	num := func(name string) int64 {
		v, _ := about.Get(name)
		n, _ := v.(wire.Number)
		i, _ := strconv.ParseInt(string(n), 10, 64)
		return i
	}
	flag := func(name string) bool {
		v, _ := about.Get(name)
		b, _ := v.(bool)
		return b
	}
	r = Reply{Kind: str("kind"), Type: oneLine(str("type"), typeMost), Absent: flag("absent"), Text: head(str("text"), textMost),
		Error: head(str("error"), errorMost), Traceback: tail(str("traceback"), tracebackMost), Line: position(num("line")), Column: position(num("column")),
		Syntax: flag("syntax"), Memory: flag("memory"), Errno: int(num("errno"))}
	list, _ := about.Get("warnings")
	warnings, _ := list.([]any)
	for _, w := range warnings {
		if pair, _ := w.([]any); len(pair) == 2 && len(r.Warnings) < warningsMost {
			code, _ := pair[0].(string)
			message, _ := pair[1].(string)
			r.Warnings = append(r.Warnings, warningFrom(code, message))
		}
	}
	switch r.Kind {
	case replyValue, replyExit, replyError:
		return r, nil
	}
	return r, errors.New("of no known kind")
}

// Bounds of the parts of a reply, in bytes. What the runtime itself writes is shorter.
const (
	typeMost      = 500
	textMost      = 64 << 10
	errorMost     = 16 << 10
	tracebackMost = 256 << 10
	warningMost   = 2000
	warningsMost  = 64
)

// interpreterCodes are the codes of warnings that an interpreter may give: all of them are about the
// value that it returns.
var interpreterCodes = []string{warnInexact, warnCircular, warnTruncated}

// warningFrom makes a warning of what the interpreter says. The user's code can put anything there, and
// a code that only the launcher gives would look like the launcher's.
func warningFrom(code, message string) wire.Warning {
	if !slices.Contains(interpreterCodes, code) {
		code, message = "program_says", oneLine(code, 100)+": "+message
	}
	return wire.Warning{Code: code, Message: oneLine(message, warningMost)}
}

// oneLine cuts a text, and replaces its control characters.
func oneLine(text string, most int) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return utf8.RuneError
		}
		return r
	}, head(text, most))
}

func head(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "")
}

func tail(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[len(text)-most:], "")
}

// position is a line or a column; 0 for anything that cannot be one.
func position(n int64) int {
	if n < 1 || n > math.MaxInt32 {
		return 0
	}
	return int(n)
}

// memfd makes a file in memory that disappears with its last descriptor.
func memfd(name string, size int64) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd_create %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := f.Truncate(size); err != nil {
		f.Close()
		return nil, fmt.Errorf("ftruncate %s: %w", name, err)
	}
	return f, nil
}

// Input is a file in memory that the interpreter reads as its standard input, from the start and
// read-only.
func Input(text string) (*os.File, error) {
	f, err := memfd("stdin", 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := io.WriteString(f, text); err != nil {
		return nil, fmt.Errorf("write stdin: %w", err)
	}
	return os.Open("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
}
