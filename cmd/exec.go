package cmd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/launch"
	"py3run/cmd/internal/startup"
	"py3run/cmd/internal/wire"
	"py3run/internal/passwd"
)

func newExec(app *app) *cobra.Command {
	var auditLine string
	heartbeat := 1.0
	c := &cobra.Command{
		Use:   "exec",
		Short: "Run one JSON request from stdin; print one JSON result line",
		Long: `Reads one JSON object from standard input, runs it, and prints exactly one line of JSON on standard output, whatever
happens. The end record of the audit log follows on standard error (a summary, if that is a terminal). Bare py3run with
something on standard input does the same. With --stream the lines before it tell what happens meanwhile. See py3run
help callers, and py3run schema request.`,
		Example: `  echo '{"code": "result = x * 2", "variables": {"x": 21}}' | py3run exec
  py3run exec --stream < request.json | jq -c 'select(.event == "stdout").text'
  py3run exec --timeout-seconds 5 < request.json | jq .result`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if auditLine != "auto" && auditLine != "off" {
				return usagef("--audit-line %q: want auto or off", auditLine)
			}
			if heartbeat != 0 && !(heartbeat >= 0.1 && heartbeat <= 3600) {
				return usagef("--heartbeat-seconds %v: want 0, for none, or 0.1 to 3600", heartbeat)
			}
			if c.Flags().Changed("heartbeat-seconds") && !app.stream {
				return usagef("--heartbeat-seconds: only with --stream")
			}
			if c.Flags().Changed("result-file") && app.resultPath == "" { // a variable that is not set
				return usagef("--result-file: want the name of a file")
			}
			app.heartbeat = time.Duration(heartbeat * float64(time.Second))
			return app.exec(auditLine == "auto")
		},
	}
	app.runFlags(c)
	app.waitFlag(c)
	app.keyFlags(c)
	c.Flags().BoolVar(&app.stream, "stream", false, "print what happens as events, one a line, and the result last")
	c.Flags().Float64Var(&heartbeat, "heartbeat-seconds", heartbeat, "with --stream: time between two heartbeats, in `seconds`; 0: none")
	c.Flags().StringVar(&app.resultPath, "result-file", "", "write the result line to this `file`, and nothing to standard output")
	c.Flags().StringVar(&auditLine, "audit-line", "auto", "whether the end record goes to standard error: `auto|off`")
	c.RegisterFlagCompletionFunc("audit-line", cobra.FixedCompletions([]string{"auto", "off"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// exec answers one request. Every failure becomes a result line; the error that it returns only carries
// the exit code.
func (app *app) exec(auditLine bool) error {
	if err := app.openResult(); err != nil {
		request, _, _ := app.request(config.Default().Input)
		return app.print(refused(request.ID, wire.StatusBadRequest, badResultFile(err), app.began), nil)
	}
	loaded, err := config.Load(app.sources())
	if err != nil {
		request, _, _ := app.request(config.Default().Input) // only for the id, which the result repeats
		return app.print(refused(request.ID, wire.StatusConfigError, err, app.began), nil)
	}
	request, warnings, err := app.request(loaded.Config.Input)
	var cancelled *cancelledError
	if errors.As(err, &cancelled) {
		result := refused("", wire.StatusCancelled, err, app.began)
		result.SignalNumber = int(cancelled.signal)
		return app.print(result, nil)
	}
	if err != nil {
		return app.print(refused(request.ID, wire.StatusBadRequest, err, app.began), nil)
	}
	if err := app.withKey(&request, patienceOf(loaded.Config.Input)); err != nil {
		return app.print(refused(request.ID, wire.StatusConfigError, err, app.began), nil)
	}
	for _, w := range loaded.Warnings {
		warnings = append(warnings, wire.Warning{Code: "config", Message: w})
	}
	job := app.job(request, warnings, loaded)
	job.Alone = true
	job.Lasts = sync.OnceFunc(func() { go app.watchReader() })
	if app.stream {
		if app.events = app.newEventStream(); app.events != nil {
			job.Stream, job.Heartbeat = app.events, app.heartbeat
		}
	}
	answer := launch.Run(job)
	if !auditLine {
		answer.AuditLine = nil
	}
	code := app.print(answer.Result, answer.AuditLine)
	app.sweep(answer, code)
	return code
}

// sweep removes what other runs have left, and warns if it cannot. A signal ends the launcher with the
// exit code of its run.
func (app *app) sweep(answer launch.Answer, ended error) {
	code := exitCode(0)
	errors.As(ended, &code)
	if err := app.sweepUntil(answer.Sweep, func() { os.Exit(int(code)) }); err != nil {
		app.warnf("remove what earlier runs left: %v", err)
	}
}

// sweepUntil removes what other runs have left. It comes after the result, so that it does not delay
// that. The run is over, so from here on a signal that ends a run ends the launcher at once, by end.
func (app *app) sweepUntil(sweep func() error, end func()) error {
	go func() {
		for s := range app.signals {
			if slices.Contains(ending, s) {
				end()
			}
		}
	}()
	return sweep()
}

// request reads and decodes standard input.
func (app *app) request(limits config.Input) (wire.Request, []wire.Warning, error) {
	app.listen()
	// Waiting for bytes needs a goroutine and a second thread. Creating these takes longer than reading most
	// requests, so first read what is there.
	data, whole := readReady(app.in, int64(limits.MaxRequestMB*(1<<20)))
	var err error
	if !whole {
		waiting := time.Now()
		defer func() { app.began = app.began.Add(time.Since(waiting)) }() // the wait for the caller is no part of the run
		data, err = read(app.in, data, app.signals, int64(limits.MaxRequestMB*(1<<20)), patienceOf(limits))
	}
	if err != nil {
		return wire.Request{}, nil, err
	}
	return wire.Decode(data)
}

// patienceOf is how long to wait for a byte; 0: for ever.
func patienceOf(c config.Input) time.Duration {
	return time.Duration(c.TimeoutSeconds * float64(time.Second))
}

// readReady reads what is available without waiting. whole reports whether that is the entire input, and
// not longer than most bytes.
func readReady(in *os.File, most int64) (all []byte, whole bool) {
	fd := int(in.Fd())
	all = startup.Grow(nil, int(min(sizeOf(in), most)+bytes.MinRead))
	for int64(len(all)) <= most {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(p, 0); n != 1 || err != nil || p[0].Revents&(unix.POLLIN|unix.POLLHUP) == 0 {
			return all, false
		}
		all = startup.Grow(all, bytes.MinRead)
		n, err := unix.Read(fd, all[len(all):cap(all)])
		if n == 0 || err != nil {
			return all, err == nil
		}
		all = all[:len(all)+n]
	}
	return all, false
}

// read reads on to the end of the input, at most `most` bytes. all is what has been read so far. read
// never waits longer than patience for the next byte (0: for ever). Not every file, pipe and terminal
// supports a deadline, so after patience it leaves the reading goroutine behind: the process ends soon.
func read(in io.Reader, all []byte, signals <-chan os.Signal, most int64, patience time.Duration) ([]byte, error) {
	type news struct {
		all []byte // everything read so far
		err error
	}
	coming := make(chan news)
	enough := make(chan struct{})
	defer close(enough)
	go func() {
		so := news{all: all}
		for so.err == nil {
			so.all = startup.Grow(so.all, bytes.MinRead)
			var n int
			n, so.err = in.Read(so.all[len(so.all):cap(so.all)])
			so.all = so.all[:len(so.all)+n]
			select {
			case coming <- so:
			case <-enough:
				return
			}
		}
	}()
	var timer *time.Timer
	var late <-chan time.Time
	if patience > 0 {
		timer = time.NewTimer(patience)
		defer timer.Stop()
		late = timer.C
	}
	for received := len(all); ; {
		if int64(received) > most {
			return nil, &wire.BadRequest{Field: "request", Message: fmt.Sprintf("the request is larger than %d MB", most>>20), Hint: "raise input.max-request-mb, or pass large data in a file"}
		}
		select {
		case s := <-signals:
			sig, _ := s.(syscall.Signal)
			return nil, &cancelledError{sig, " before the request was complete"}
		case <-late:
			return nil, &wire.BadRequest{Field: "request", Message: fmt.Sprintf("the request has no end: %d bytes came, then nothing for %v", received, patience),
				Hint: "close the pipe after the request, or raise input.timeout-seconds"}
		case p := <-coming:
			received = len(p.all)
			if p.err == io.EOF && int64(received) <= most {
				return p.all, nil
			}
			if p.err != nil && p.err != io.EOF {
				return nil, &wire.BadRequest{Field: "request", Message: "the request cannot be read: " + p.err.Error()}
			}
			if timer != nil {
				timer.Reset(patience)
			}
		}
	}
}

// sizeOf returns the size of a file. For a pipe it returns a size in which most requests fit.
func sizeOf(in io.Reader) int64 {
	if f, ok := in.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return info.Size()
		}
	}
	return 16 << 10
}

// A cancelledError reports a signal that came while py3run was waiting for the caller: before the request
// was complete, or before the caller had read the result.
type cancelledError struct {
	signal syscall.Signal
	when   string
}

func (e *cancelledError) Error() string {
	return "cancelled: the caller sent " + unix.SignalName(e.signal) + e.when
}

// watchReader ends the run when nobody can read the result any more: mostly because the caller is dead.
// It works for a pipe and a socket; a file has no reader to lose.
func (app *app) watchReader() {
	out, ok := app.out.(*cli.Output)
	if !ok || app.result != nil && !app.stream { // or nothing will be written to it
		return
	}
	defer func() { recover() }() // a fault here must not end the process: it only costs the run its early end
	// A thread that waits in poll(2) would cost more than the rest of this function. The poller of the Go
	// runtime accepts only non-blocking files, and we must not make this file non-blocking, because other
	// processes share it. So we hand the runtime an epoll(7) descriptor that watches the file.
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return
	}
	unix.SetNonblock(fd, true)
	reader := os.NewFile(uintptr(fd), "epoll")
	defer reader.Close()
	// Errors and hang-ups are always reported, so the event asks for nothing. A regular file is refused.
	if unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, int(out.File.Fd()), &unix.EpollEvent{}) != nil {
		return
	}
	raw, err := reader.SyscallConn()
	if err == nil {
		err = raw.Read(func(fd uintptr) bool {
			n, _ := unix.EpollWait(int(fd), make([]unix.EpollEvent, 1), 0)
			return n > 0
		})
	}
	if err == nil {
		app.signals <- syscall.SIGPIPE
	}
}

func (app *app) job(request wire.Request, warnings []wire.Warning, loaded *config.Loaded) launch.Job {
	dir, _ := os.Getwd()
	return launch.Job{Request: request, Warnings: warnings, Config: loaded.Config, Looked: loaded.Looked, Origins: loaded.Origins, Environ: app.environ, Dir: dir, Caller: caller(), Umask: app.umask,
		KeyFile: app.keyPlace(), NamedConfig: app.sources().Named(dir), LoginUID: cli.LoginUID(), Began: app.began, Signals: app.signals, Patience: app.patience}
}

// caller returns the operating-system user. A user that is not in /etc/passwd has its number as its name.
func caller() launch.Caller {
	uid := os.Geteuid()
	if u, ok := passwd.ByUID(uid); ok {
		return launch.Caller{UID: uid, Name: u.Name, Home: u.Home}
	}
	return launch.Caller{UID: uid, Name: strconv.Itoa(uid)}
}

// print writes the result line, then the audit line, and returns the exit code as an error.
func (app *app) print(result wire.Result, auditLine []byte) error {
	line, err := result.Encode()
	if err != nil { // a bug of py3run: report that instead
		result = refused(result.ID, wire.StatusInternal, err, app.began)
		line, _ = result.Encode()
	}
	code := result.ExitStatus()
	kept := app.keepLine(line, result.Status)
	if app.stream {
		line = wire.ResultEvent(line, time.Now())
		if app.events != nil {
			line = append(app.events.close(), line...)
		}
	}
	if app.result != nil && kept && !app.stream {
		line = nil
	}
	if !kept { // the line goes to standard output after all: it is all that is left of the run
		code = wire.Result{Status: wire.StatusInternal}.ExitStatus()
	}
	limits := result.Limits
	if result.Status == wire.StatusCancelled { // whoever has ended the run does not wait for its time limit
		limits = nil
	}
	if err := app.deliver(line, limits); err != nil {
		app.errorf("write result: %v", cause(err))
		app.hintf("the run itself ended with status %q; the audit log has it", result.Status)
		code = wire.Result{Status: wire.StatusInternal}.ExitStatus()
		var cancelled *cancelledError
		if errors.As(err, &cancelled) {
			code = wire.Result{Status: wire.StatusCancelled, SignalNumber: int(cancelled.signal)}.ExitStatus()
		}
	}
	switch {
	case app.errIsTerminal:
		app.summary(result)
	case len(auditLine) > 0:
		app.say(append(auditLine, '\n'))
	}
	return exitCode(code)
}

// summary prints for a person at a terminal how the run ended.
func (app *app) summary(r wire.Result) {
	text := "py3run: " + string(r.Status)
	if r.Usage != nil {
		text += fmt.Sprintf(", %d ms, %d ms of processor time", r.Usage.WallMS, r.Usage.CPUMS)
	}
	if r.Audit != nil {
		text += fmt.Sprintf(", audit record %d", r.Audit.Seq)
	}
	app.say([]byte(text + "\n"))
}

// refused returns the result of a request that never became a run.
func refused(id string, status wire.Status, err error, began time.Time) wire.Result {
	failure := &wire.Failure{Message: err.Error()}
	var bad *wire.BadRequest
	var conf *config.Error
	switch {
	case errors.As(err, &bad):
		failure.Hint = bad.Hint
	case errors.As(err, &conf):
		failure.Hint = conf.Hint
	}
	return launch.Refusal(id, status, failure, began)
}

// catch turns a panic anywhere in exec into the one result line.
func (app *app) catch(err *error) {
	if fault := recover(); fault != nil {
		*err = app.print(refused("", wire.StatusInternal, fmt.Errorf("internal: %v", fault), app.began), nil)
		if os.Getenv("PY3RUN_TEST_TRACE") != "" {
			app.err.Write(debug.Stack())
		}
	}
}

// ending are the signals that end a run.
var ending = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}

// listen catches the signals that end a run. Before that they end the launcher, as they end any program.
// A signal that the caller ignores, as nohup does, stays ignored.
func (app *app) listen() {
	if app.signals != nil {
		return
	}
	app.signals = make(chan os.Signal, len(ending))
	for _, s := range ending {
		if !signal.Ignored(s) {
			signal.Notify(app.signals, s)
		}
	}
}
