package cmd

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/launch"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/wire"
	"py3run/internal/envvar"
	"py3run/internal/sigaction"
	"py3run/sandbox"
)

// py3run in the place of an interpreter: `py3run python ARG...`, and links to py3run with the name of
// an interpreter. Whoever starts it is to notice no launcher. So it prints nothing, unless Python did
// not start or a limit has ended it.

func newPython() *cobra.Command {
	return &cobra.Command{
		Use:   "python [ARG...]",
		Short: "Stand in for python3: the same arguments, streams and exit status",
		Long: `Runs the interpreter with these arguments, as python3 would run with them: it has the caller's own streams, environment,
terminal and current directory, and ends as Python ends. Links to py3run named python, python3 or python3.N do the same:
py3run shim makes them. All arguments are Python's; what concerns py3run is set by its variables and files. See py3run
help drop-in.`,
		Example:            "  py3run python -c 'import sys; print(sys.version)'\n  py3run python -m venv .venv",
		DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error { // Main has handled it, unless something stands before it
			return usagef("python: no option of py3run can stand before it; set variables, as PY3RUN_SECURITY_MAX_MEMORY_MB")
		},
	}
}

// asInterpreter reports whether a command line means py3run in the place of an interpreter, and which
// arguments that has. argv0 is empty for `py3run python`.
func asInterpreter(argv []string) (argv0 string, args []string, is bool) {
	switch {
	case len(argv) == 0:
		return "", nil, false
	case python.IsLinkName(filepath.Base(argv[0])):
		return argv[0], argv[1:], true
	case filepath.Base(argv[0]) == bridgeLink && (!isBridge(argv[1:]) || sandbox.Inside()): // inside, it is sys.executable
		return argv[0], argv[1:], true
	case len(argv) > 1 && argv[1] == "python":
		return "", argv[2:], true
	}
	return "", nil, false
}

// dropIn is py3run in the place of an interpreter. It returns the exit code, or ends by the signal that
// has ended the interpreter.
func dropIn(argv0 string, args []string) int {
	began, environ := time.Now(), os.Environ()
	dir, _ := os.Getwd() // empty: it is gone, and the interpreter is where we are
	link := python.Link{Name: "python3"}
	if argv0 != "" {
		link = python.LinkAt(argv0, environ, dir)
	}
	if link.Name == bridgeLink {
		link.Name = "python3"
	}
	if sandbox.Inside() {
		return becomeInterpreter(link, append([]string{argv0}, args...), environ, dir)
	}
	inherited := withoutKey(inheritedDescriptors(), environ) // before this process opens anything that lasts
	ignored := ignoredSignals()
	signal.Ignore(syscall.SIGPIPE)
	mask := syscall.Umask(0o022)
	app := &app{umask: &mask, began: began, in: os.Stdin, out: cli.Stdout(), err: os.Stderr, environ: environ,
		flags: map[string]string{}, typed: map[string]string{}}
	bare := &launch.Bare{Args: append([]string{argv0}, args...), Link: link, Inherit: inherited, Ignored: ignored,
		Stdout: os.Stdout, Stderr: os.Stderr}
	return app.dropIn(bare)
}

func (app *app) dropIn(bare *launch.Bare) int {
	loaded, err := config.Load(app.sources())
	if err != nil {
		return app.notStarted(refused("", wire.StatusConfigError, err, app.began))
	}
	loaded.ForDropIn(app.environ)
	if loaded.Config.Security.MaxOutputSizeMB > 0 {
		bare.OneStream = oneStream(os.Stdout, os.Stderr)
	}
	app.signals = make(chan os.Signal, 64)
	app.pass(early)
	parent := os.Getppid()
	bare.Released = func() {
		app.pass(late())
		if loaded.Config.Python.OutliveCaller || slices.Contains(bare.Ignored, syscall.SIGHUP) {
			return
		}
		gone := func() { app.signals <- sandbox.CallerGone }
		if os.Getppid() != parent {
			gone()
			return
		}
		afterParent(gone)
	}
	request := wire.Request{Command: wire.CommandExecute, ResultFormat: "plain", ResultFrom: "none"}
	if err := app.withKey(&request, patienceOf(loaded.Config.Input)); err != nil {
		return app.notStarted(refused("", wire.StatusConfigError, err, app.began))
	}
	job := app.job(request, nil, loaded)
	job.Bare, job.Source = bare, readCodeOf(bare, job.Dir)
	answer := launch.Run(job)
	code := app.notStarted(answer.Result)
	asItEnded := func() {
		if r := answer.Result; r.Status == wire.StatusSignal {
			endBy(syscall.Signal(r.SignalNumber))
		}
	}
	err = app.sweepUntil(answer.Sweep, func() { asItEnded(); os.Exit(code) })
	if err != nil && os.Getenv("PY3RUN_TEST_TRACE") != "" {
		app.warnf("remove what earlier runs left: %v", err)
	}
	asItEnded()
	return code
}

// notStarted says why Python did not start, or that a limit has ended it, and returns the exit code. It
// says nothing of an interpreter that has ended in its own way.
func (app *app) notStarted(r wire.Result) int {
	switch r.Status {
	case wire.StatusOK, wire.StatusError, wire.StatusExit, wire.StatusSignal, wire.StatusCancelled:
		return r.ExitStatus()
	}
	r.Warnings, r.Isolation = nil, nil
	var code exitCode
	errors.As(app.tell(r), &code)
	return int(code)
}

// becomeInterpreter executes the interpreter in this process, which is in a sandbox already.
func becomeInterpreter(link python.Link, argv, environ []string, dir string) int {
	want := python.Want{Interpreter: "auto", Environ: environ, Dir: dir}
	if loaded, err := config.Load(config.Sources{Environ: environ}); err == nil {
		want.Interpreter = loaded.Config.Python.Interpreter
	}
	app := &app{began: time.Now(), out: cli.Stdout(), err: os.Stderr, environ: environ}
	path, _, err := python.PathFor(want, link)
	if err == nil && path == "" && filepath.IsAbs(want.Interpreter) && !strings.Contains(link.Name, ".") && !python.IsItself(want.Interpreter) {
		path = want.Interpreter // the name asks for no version
	}
	if err == nil && path == "" { // the configured one, which only a start can tell more of
		var ip python.Interpreter
		ip, _, err = python.FindFor(want, link)
		path = ip.Path
		ip.Close()
	}
	if err == nil {
		argv[0] = cmp.Or(argv[0], path) // of py3run python
		err = &python.NotExecutableError{Path: path, Why: syscall.Exec(path, argv, environ).Error()}
	}
	return app.notStarted(refused("", interpreterStatus(err), err, app.began))
}

func interpreterStatus(err error) wire.Status {
	if _, ok := errors.AsType[*python.NotFoundError](err); ok {
		return wire.StatusPythonNotFound
	}
	return wire.StatusPythonNotExecutable
}

// inheritedDescriptors lists the descriptors that the caller has given this process: those that stay
// open at execve. Go's own do not.
func inheritedDescriptors() (fds []int) {
	names, err := readNames("/proc/self/fd")
	if err != nil {
		names = []string{"0", "1", "2"}
	}
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil || fd < 3 && cli.Closed(fd) { // Go has opened the null device there
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			fds = append(fds, fd)
		}
	}
	slices.Sort(fds)
	return fds
}

// withoutKey leaves out the descriptor that the API key comes through: the code must not read it.
func withoutKey(fds []int, environ []string) []int {
	file := envvar.Lookup(environ, config.KeyFileVariable)
	for _, dir := range []string{"/dev/fd/", "/proc/self/fd/"} {
		if fd, err := strconv.Atoi(strings.TrimPrefix(filepath.Clean(file), dir)); err == nil && fd > 2 {
			return slices.DeleteFunc(fds, func(other int) bool { return other == fd })
		}
	}
	return fds
}

func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// ignoredSignals are the signals that stay ignored: those that shells and nohup ignore on purpose. Go
// has SIGQUIT handled by now, and a shell ignores it together with SIGINT. What a Java parent ignores
// besides is reset.
func ignoredSignals() (ignored []syscall.Signal) {
	if signal.Ignored(syscall.SIGHUP) {
		ignored = append(ignored, syscall.SIGHUP)
	}
	if signal.Ignored(syscall.SIGINT) {
		ignored = append(ignored, syscall.SIGINT, syscall.SIGQUIT)
	}
	return ignored
}

// To catch a signal takes Go two switches between threads, so only those are caught early that callers
// and terminals send before a program has done anything. Of the others, Python has no handler before
// it has started.
var early = []syscall.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGTSTP}

// late are the other signals that can be passed on. Left out are those that nobody can catch, that Go
// uses itself or that are errors of this process, and what concerns this process only: its children
// and its own writes.
func late() (all []syscall.Signal) {
	own := []syscall.Signal{unix.SIGKILL, unix.SIGSTOP, unix.SIGCHLD, unix.SIGPIPE, unix.SIGURG, unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP, unix.SIGSYS}
	for s := syscall.Signal(1); s <= 31; s++ { // not the real-time signals: there are too many to catch them all, and Python programs use none
		if !slices.Contains(own, s) && !slices.Contains(early, s) {
			all = append(all, s)
		}
	}
	return all
}

// pass catches signals, to pass them on to the interpreter. What the caller ignores stays ignored.
func (app *app) pass(signals []syscall.Signal) {
	for _, s := range signals {
		if !signal.Ignored(s) {
			signal.Notify(app.signals, s)
		}
	}
}

// endBy ends this process by the signal that has ended the interpreter, so that the caller sees the
// same. It returns if that does not end it, as for the first process of a container.
func endBy(s syscall.Signal) {
	if s == 0 {
		return
	}
	unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) // the interpreter left no core dump, and this process would be the wrong one
	sigaction.Raise(s)
}

// readCodeOf reads the command line of the interpreter, and the code if it can be read without taking it
// from the interpreter.
func readCodeOf(bare *launch.Bare, dir string) []byte {
	bare.CommandLine = python.ReadCommandLine(bare.Args[1:], cli.IsTerminal(os.Stdin))
	bare.Source = string(bare.CommandLine.Source)
	switch bare.CommandLine.Source {
	case python.FromOption:
		return []byte(bare.Text)
	case python.FromFile:
		bare.File = bare.Name
		if !filepath.IsAbs(bare.File) {
			bare.File = filepath.Join(dir, bare.File)
		}
		text, why := readFileAsItIs(bare.Name)
		bare.Source = cmp.Or(why, bare.Source)
		return text
	}
	return nil
}

// readFileAsItIs reads a regular file; why says what is known instead.
func readFileAsItIs(name string) (text []byte, why string) {
	switch info, err := os.Stat(name); { // first: to open and close a pipe would end its writer
	case errors.Is(err, fs.ErrNotExist):
		return nil, "missing"
	case err != nil:
		return nil, "unreadable"
	case info.IsDir():
		return nil, "directory"
	case !info.Mode().IsRegular():
		return nil, "special"
	case info.Size() > codeMost:
		return nil, "too_large"
	}
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, "unreadable"
	}
	defer f.Close()
	if text, err = io.ReadAll(io.LimitReader(f, codeMost+1)); err != nil {
		return nil, "unreadable"
	} else if len(text) > codeMost {
		return nil, "too_large"
	}
	return append([]byte{}, text...), ""
}
