package ctl

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/store"
	"py3run/cmd/internal/web"
)

// freshEvery is how often serve looks for new records.
const freshEvery = time.Second

// A serving is one call of serve.
type serving struct {
	listen string
	hosts  []string
	idle   time.Duration
	index  string
}

func (a *app) serve() *cobra.Command {
	s := serving{listen: "127.0.0.1:0", idle: 15 * time.Minute}
	c := &cobra.Command{
		Use: "serve", Short: "Show the log, its runs, users, scripts and configuration as pages in a browser", Args: cobra.NoArgs,
		Long: `Serves pages to browsers on this host, and prints the address to open. The address signs in whoever opens
it first, as the user who has started the command. Everybody else signs in with an API key; the policy
decides what each one sees and does, as it does for the other commands.

It listens on 127.0.0.1, or on a Unix socket, and nowhere else. From another machine, use ssh:

  ssh -L 8731:127.0.0.1:8731 HOST py3runctl serve --listen 127.0.0.1:8731

It makes the index if there is none, keeps it up to date, and ends after 15 minutes without a request.`,
		Example: "  py3runctl serve\n  py3runctl serve --listen unix:/run/py3run/pages.sock --host plant-7",
		RunE: func(*cobra.Command, []string) error {
			if s.idle < 0 {
				return cli.Usagef("invalid argument %v for --idle: want 0 or more", s.idle)
			}
			return a.runServer(s)
		},
	}
	c.Flags().StringVar(&s.listen, "listen", s.listen, "where: 127.0.0.1:PORT, [::1]:PORT, or unix:`PATH`; port 0 takes a free one")
	c.Flags().StringArrayVar(&s.hosts, "host", nil, "also accept this `name[:port]` as the host of an address, as a tunnel or a proxy sends it; can be repeated")
	c.Flags().DurationVar(&s.idle, "idle", s.idle, "end after this `time` without a request; 0: never")
	indexFlag(c, &s.index)
	a.runFlags(c)
	return c
}

// runServer serves until it is stopped or idle.
func (a *app) runServer(s serving) error {
	d, err := a.sightedContext()
	if err != nil {
		return err
	}
	path := d.indexPath(s.index)
	if err := d.update(path, false, true); err != nil {
		return err
	}
	l, err := listenAt(s.listen)
	if err != nil {
		return err
	}
	defer l.Close()
	index := &freshIndex{path: path}
	defer index.close()
	if _, err := index.get(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	hosts, address := hostsOf(l, s.hosts)
	server, token := web.New(web.Options{
		Gate: gate{a}, Index: index.get, Zone: d.local(), Hosts: hosts, Idle: s.idle, Fresh: index.fresh,
		Log: func(err error) { d.warn(err) },
	})
	go index.keep(ctx, d)
	fmt.Fprintf(a.out, "%s/sign-in?token=%s\n", address, token)
	d.say("open this address in a browser on this host: it signs in once, as %s; Ctrl-C ends the pages", operator().User.Name)
	return server.Serve(ctx, l)
}

// listenAt opens the listener: only this host can reach it.
func listenAt(where string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(where, "unix:"); ok {
		return listenUnix(path)
	}
	host, _, err := net.SplitHostPort(where)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return nil, &cli.UsageError{Text: fmt.Sprintf("invalid argument %q for --listen: want 127.0.0.1:PORT, [::1]:PORT or unix:PATH", where),
			Hint: "the pages are for this host alone; for another machine: ssh -L 8731:127.0.0.1:8731 HOST py3runctl serve --listen 127.0.0.1:8731"}
	}
	l, err := net.Listen("tcp", where)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", where, err)
	}
	return l, nil
}

// listenUnix opens a socket that only its owner can use. One that nobody listens on any more is replaced.
func listenUnix(path string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("listen on %s: another process does", path)
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
			os.Remove(path)
		}
	}
	old := syscall.Umask(0o077)
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

// hostsOf are the names that requests may have in Host, and the address for people.
func hostsOf(l net.Listener, more []string) (hosts []string, address string) {
	if l.Addr().Network() == "unix" {
		hosts, address = []string{"localhost"}, "http://localhost"
	} else {
		own := l.Addr().String()
		_, port, _ := net.SplitHostPort(own)
		hosts, address = []string{own, "localhost:" + port}, "http://"+own
	}
	for _, name := range more {
		hosts = append(hosts, strings.ToLower(name))
	}
	return hosts, address
}

// A gate lets visitors in by the policy as it is now.
type gate struct{ a *app }

func (g gate) Starter() (web.Visitor, error) {
	d, err := g.a.quiet().sightedContext()
	return visitor{d, g.a, ""}, told(err)
}

func (g gate) Holder(key string) (web.Visitor, error) {
	d, err := g.a.quiet().logContext()
	if err != nil {
		return nil, err
	}
	who, err := g.a.actorWith(key)
	if err != nil {
		return nil, told(err)
	}
	d.who = &who
	d.only, err = who.sees()
	return visitor{d, g.a, key}, told(err)
}

// quiet is the same invocation without messages: a request has nobody who reads them.
func (a *app) quiet() *app {
	b := *a
	b.err = discard{}
	return &b
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// A visitor is somebody who has signed in to the pages: the log context of a command that this user would
// call.
type visitor struct {
	logContext
	app *app
	key string // that was shown; empty: it is the starter
}

func (v visitor) Name() string { return v.author().User.Name }

func (v visitor) Known() string {
	if rec := v.author(); rec.Auth.KeyID != "" {
		return "API key " + rec.Auth.KeyID
	}
	return "user of the operating system"
}

func (v visitor) May(action access.Action, o access.Object) error { return told(v.may(action, o)) }

func (v visitor) Sees() (string, error) { return v.only, nil }

// Note appends a record by the visitor.
func (v visitor) Note(action audit.Action, fill func(*audit.Record)) error {
	log, err := audit.Open(v.dir)
	if err != nil {
		return err
	}
	defer log.Close()
	rec := v.author()
	rec.Event = audit.Event{Action: action, Outcome: audit.Success}
	if fill != nil {
		fill(&rec)
	}
	_, err = log.Append(rec)
	return err
}

// Query is a filter of the pages as the flags of history would have it.
func (v visitor) Query(f web.Filter, now time.Time) (store.Query, error) {
	q, err := filter{user: f.User, holder: f.Holder, key: f.Key, client: f.Client, script: f.Script, code: f.Code, labels: f.Labels,
		status: f.Status, failed: f.Failed, since: f.Since, until: f.Until}.query(now)
	q.Owner, q.Host, q.Text = v.only, f.Host, f.Text
	return q, told(err)
}

// told makes of an error that a caller may learn one that a visitor may learn.
func told(err error) error {
	var denied refusal
	var usage *cli.UsageError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &denied):
		return visible{err, http.StatusForbidden, denied.Denial.Hint}
	case errors.As(err, &usage):
		return visible{err, http.StatusUnprocessableEntity, usage.Hint}
	}
	return err
}

// visible is an error that a visitor may learn.
type visible struct {
	error
	code int
	hint string
}

func (e visible) Code() int     { return e.code }
func (e visible) Hint() string  { return e.hint }
func (e visible) Unwrap() error { return e.error }

// A freshIndex is the index that the pages read, opened anew when its file was made anew.
type freshIndex struct {
	path string
	mu   sync.Mutex
	open *store.Index
	file os.FileInfo
	now  web.Fresh
}

func (x *freshIndex) get() (*store.Index, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	info, err := os.Stat(x.path)
	if err == nil && x.open != nil && os.SameFile(info, x.file) {
		return x.open, nil
	}
	opened, err := store.OpenIndex(x.path)
	if err != nil {
		return nil, err
	}
	if x.open != nil { // a request can still read it
		old := x.open
		time.AfterFunc(time.Minute, func() { old.Close() })
	}
	x.open, x.file = opened, info
	return opened, nil
}

func (x *freshIndex) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.open != nil {
		x.open.Close()
	}
}

func (x *freshIndex) fresh() web.Fresh {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.now
}

// keep brings the index up to date again and again.
func (x *freshIndex) keep(ctx context.Context, d logContext) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(freshEvery):
		}
		err := d.update(x.path, false, false)
		x.mu.Lock()
		x.now.Err = err
		if err == nil {
			x.now.At = time.Now()
		}
		x.mu.Unlock()
	}
}
