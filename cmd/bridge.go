package cmd

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/launch"
	"py3run/cmd/internal/wire"
)

// A bridge is one process that serves many requests, one a line, one at a time and in order:
//
//	caller ◄── {"status":"ready"}
//	       ── request ──►      lines cut the input, wire.DecodeLine reads one
//	                           launch.Run: a sandbox and two records of its own
//	       ◄── reply ──        wire.Result.EncodeReply
//
// Each line gets exactly one reply, whatever is in it: a caller that counts stays in step. Nothing
// goes to standard error while requests are served, because many callers do not read it, and a full
// pipe would block the bridge.
type bridge struct {
	app   *app
	in    *input
	lines lines

	input  config.Input
	loaded *config.Loaded
	broken error          // why there is no configuration; nil: there is one
	job    launch.Job     // what all requests have in common
	keeper *launch.Keeper // with bridge.state = keep; else nil

	failed []wire.Warning // from cleaning up after the request before: the next reply has them

	mu      sync.Mutex
	signals chan os.Signal // of the request under way; nil: there is none. A signal from it ends the request
	ended   syscall.Signal // why the bridge is to end; 0: it goes on
	ending  chan struct{}  // closed when ended is set
}

const (
	bridgeLink = "python3-bridge" // a link of this name is a bridge, and an interpreter beside that

	unreadReply = time.Minute // for a caller to read a reply that does not fit into its pipe
	inputPiece  = 64 << 10    // bytes that are read at once

	// The results of the two commands that a bridge answers itself, as its callers know them.
	globalsCleared = "Globals cleared"
	shuttingDown   = "shutting down"
)

func newBridge(app *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "bridge",
		Short: "Serve many requests, one a line, each in a sandbox of its own",
		Long: `Writes {"status":"ready"}, then reads JSON requests from standard input, one a line, and answers each with one line of JSON,
in order. Every request runs in a new sandbox, with records of its own; with --state=keep the requests of one user share
an interpreter. The bridge ends after the command shutdown, at the end of its input, on a signal, or with the process
that has started it. A link named python3-bridge to py3run does the same without arguments and with a script, which it
does not run; with options such as --version or -c it stands in for python3. See py3run help bridge.`,
		Example: `  echo '{"command": "evaluate", "expression": "6 * 7"}' | py3run bridge`,
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return app.bridge() },
	}
	app.runFlags(c)
	app.waitFlag(c)
	app.keyFlags(c)
	c.Flags().Lookup("timeout-seconds").Value.(*keyFlag).key = "bridge.timeout-seconds" // the limit of a request here
	c.Flags().Var(&keyFlag{app, "bridge.state", "--state"}, "state", "`fresh|keep`: a new interpreter for each request, or one for all requests of a user")
	c.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(config.Values("bridge.state"), cobra.ShellCompDirectiveNoFileComp))
	return c
}

// isBridge reports whether a command line by a link named python3-bridge means the bridge. Its caller
// takes the link for an interpreter: it starts it with -u and a script, which are ignored, and with
// other arguments, such as --version or -m pip, for what an interpreter does with them.
func isBridge(args []string) bool {
	for len(args) > 0 && args[0] == "-u" {
		args = args[1:]
	}
	return len(args) == 0 || !strings.HasPrefix(args[0], "-")
}

// bridge serves requests until there is a reason to end. Its error carries the exit code.
func (app *app) bridge() error {
	app.listen()
	b := &bridge{app: app, in: newInput(app.in), ending: make(chan struct{})}
	defer b.in.close()
	if !b.write([]byte(wire.Ready)) {
		return b.result()
	}
	go func() {
		for s := range app.signals {
			b.end(s.(syscall.Signal))
		}
	}()
	afterParent(func() { b.end(syscall.SIGHUP) })
	go app.watchReader()
	b.configure()
	b.serve()
	if b.keeper != nil {
		b.keeper.Close()
	}
	if b.job.Series != nil {
		b.job.Series.Close()
	}
	return b.result()
}

// configure reads the configuration. If that fails, each request is refused with the reason.
func (b *bridge) configure() {
	b.input = config.Default().Input
	loaded, err := config.Load(b.app.sources())
	if b.broken = err; err == nil {
		loaded.ForBridge(b.app.environ)
		b.loaded, b.input = loaded, loaded.Config.Input
		b.job = b.app.job(wire.Request{}, nil, loaded)
		b.job.Command, b.job.Series = "bridge", launch.NewSeries(loaded.Config.Warm.Enabled)
		if loaded.Config.Bridge.State == "keep" {
			b.keeper = launch.NewKeeper()
		}
		job := b.job
		job.Request = wire.Request{Command: wire.CommandExecute, ResultFormat: "plain", ResultFrom: "auto", Filename: wire.DefaultFilename}
		go func() {
			defer func() { recover() }() // a fault here must not end the bridge: requests start interpreters of their own
			job.Series.Begin(job)
		}()
	}
	b.lines.most = int(b.input.MaxRequestMB * (1 << 20))
	if b.lines.most == 0 { // no limit
		b.lines.most = int(^uint(0) >> 1)
	}
}

// serve answers lines until the bridge is to end.
func (b *bridge) serve() {
	piece := make([]byte, inputPiece)
	for !b.in.isStopped() {
		line, found := b.lines.next()
		if found != noLine {
			if !b.reply(line, found) {
				return
			}
			continue
		}
		if !b.in.wait(b.patience()) {
			if b.in.isStopped() || !b.refuse(b.unfinished()) {
				return
			}
			continue
		}
		n := b.in.read(piece)
		if n == 0 {
			if line, found := b.lines.last(); found != noLine {
				b.reply(line, found)
			}
			return
		}
		b.lines.add(piece[:n])
	}
}

// patience returns how long to wait for more input; 0: for ever. Between two requests a bridge waits
// for ever. A line that has begun should go on.
func (b *bridge) patience() time.Duration {
	if b.lines.begun() == 0 {
		return 0
	}
	return time.Duration(b.input.TimeoutSeconds * float64(time.Second))
}

// unfinished gives up a line whose end does not come, and returns the refusal.
func (b *bridge) unfinished() error {
	n := b.lines.begun()
	b.lines.giveUp()
	return &wire.BadRequest{Message: fmt.Sprintf("the request has no end: %d bytes came, then nothing for %v s; the rest of the line is skipped", n, b.input.TimeoutSeconds),
		Hint: "end each request with a newline and flush it, or raise input.timeout-seconds"}
}

// refuse answers a line that was no request. It reports whether the bridge goes on.
func (b *bridge) refuse(err error) bool {
	return b.send(refused("", wire.StatusBadRequest, err, time.Now()))
}

// reply answers one line, and reports whether the bridge goes on.
func (b *bridge) reply(line []byte, found int) bool {
	if found == tooLong {
		return b.refuse(&wire.BadRequest{Message: fmt.Sprintf("the request is larger than %d MB", b.lines.most>>20), Hint: "raise input.max-request-mb, or pass large data in a file"})
	}
	began := time.Now()
	request, warnings, err := wire.DecodeLine(line)
	switch {
	case err != nil:
		return b.send(refused(request.ID, wire.StatusBadRequest, err, began))
	case request.Command == wire.CommandShutdown:
		b.send(said(request.ID, shuttingDown))
		return false
	case b.broken != nil:
		return b.send(refused(request.ID, wire.StatusConfigError, b.broken, began))
	}
	if err := b.app.withKey(&request, patienceOf(b.input)); err != nil {
		return b.send(refused(request.ID, wire.StatusConfigError, err, began))
	}
	if request.Command == wire.CommandClearGlobals { // without a keeper, each request has globals of its own
		job := b.job
		job.Request, job.Began = request, began
		if refused := b.keeper.Clear(job); refused != nil {
			return b.send(*refused)
		}
		return b.send(said(request.ID, globalsCleared))
	}
	answer := b.run(request, warnings, began)
	goesOn := b.send(forClient(answer.Result, request.Command))
	b.tidy(answer)
	return goesOn
}

// said returns the result of a command of the bridge itself.
func said(id, text string) wire.Result {
	value, _ := json.Marshal(text)
	return wire.Result{ID: id, Status: wire.StatusOK, Result: value}
}

// forClient returns a result in the form that the callers of a bridge know: list_modules gives the
// bare list.
func forClient(r wire.Result, command wire.Command) wire.Result {
	if command != wire.CommandListModules || r.Status != wire.StatusOK {
		return r
	}
	var value struct {
		Modules json.RawMessage `json:"modules"`
	}
	if json.Unmarshal(r.Result, &value) == nil && value.Modules != nil {
		r.Result = value.Modules
	}
	return r
}

// run runs one request.
func (b *bridge) run(request wire.Request, warnings []wire.Warning, began time.Time) launch.Answer {
	job := b.job
	for _, w := range b.loaded.Warnings {
		warnings = append(warnings, wire.Warning{Code: "config", Message: w})
	}
	job.Request, job.Began = request, began
	job.Warnings, b.failed = append(warnings, b.failed...), nil
	job.Signals = b.begin()
	defer b.over()
	if b.keeper != nil {
		return b.keeper.Run(job)
	}
	return launch.Run(job)
}

// tidy removes what is left of a request whose reply was sent, and has the templates make ready
// what it has used. What fails is in the next reply.
func (b *bridge) tidy(answer launch.Answer) {
	failed := func(why string) {
		b.failed = append(b.failed, wire.Warning{Code: "cleanup_failed", Message: "after the request before: " + strings.ReplaceAll(why, "\n", "; ")})
	}
	defer func() {
		if fault := recover(); fault != nil { // it must not end the requests to come
			failed(fmt.Sprintf("internal: %v", fault))
		}
	}()
	if err := answer.Sweep(); err != nil {
		failed(err.Error())
	}
	if !answer.Kept {
		b.job.Series.Next()
	}
}

// begin makes the channel of the signals for one request.
func (b *bridge) begin() <-chan os.Signal {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.signals = make(chan os.Signal, len(ending))
	if b.ended != 0 {
		b.signals <- b.ended
	}
	return b.signals
}

func (b *bridge) over() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.signals = nil
}

// cancel ends the request under way, as a signal to its launcher would; a second one kills it. It
// reports whether there is one.
func (b *bridge) cancel(s syscall.Signal) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.signals == nil {
		return false
	}
	select {
	case b.signals <- s:
	default: // it has got more than it needs
	}
	return true
}

// end ends the bridge, and with it the request under way.
func (b *bridge) end(s syscall.Signal) {
	b.mu.Lock()
	if b.ended == 0 {
		b.ended = s
		close(b.ending)
	}
	b.mu.Unlock()
	b.cancel(s)
	b.in.stop()
}

// result returns the exit code of the bridge, as an error.
func (b *bridge) result() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.ended {
	case syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT:
		return exitCode(128 + int(b.ended))
	}
	return exitCode(0)
}

// send writes the reply to one request, and reports whether the bridge goes on.
func (b *bridge) send(r wire.Result) bool {
	line, err := r.EncodeReply()
	if err != nil { // a bug of py3run: report that instead
		r = refused(r.ID, wire.StatusInternal, err, time.Now())
		line, _ = r.EncodeReply()
	}
	return b.write(line)
}

// write writes a line to the caller. It waits for a caller that reads late, but not for ever, and
// not for long once the bridge is to end. false: the caller does not get it, and the bridge has to
// end, because its lines are no longer whole.
func (b *bridge) write(line []byte) bool {
	out, ok := b.app.out.(*cli.Output)
	if !ok || fits(out.File, len(line)) {
		_, err := b.app.out.Write(line)
		return err == nil
	}
	done := make(chan error, 1)
	go func() {
		_, err := out.File.Write(line)
		done <- err
	}()
	late := time.NewTimer(unreadReply)
	defer late.Stop()
	ending := b.ending
	for {
		select {
		case err := <-done:
			return err == nil
		case <-ending:
			ending = nil
			late.Reset(signalPatience)
		case <-late.C:
			return false
		}
	}
}
