package ctl

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/web"
)

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

It listens on a loopback address, or on a Unix socket, and nowhere else. From another machine, use ssh:

  ssh -L 8731:127.0.0.1:8731 HOST py3runctl serve --listen 127.0.0.1:8731

It makes the index if there is none, keeps it up to date, and ends after 15 minutes without a request.`,
		Example: "  py3runctl serve\n  py3runctl serve --listen unix:/run/py3run/pages.sock --host plant-7",
		RunE: func(*cobra.Command, []string) error {
			if err := s.check(); err != nil {
				return err
			}
			if err := a.with.check(); err != nil {
				return err
			}
			return a.runServer(s)
		},
	}
	c.Flags().StringVar(&s.listen, "listen", s.listen, "where: 127.0.0.1:PORT, [::1]:PORT, or unix:`PATH`; port 0 takes a free one")
	c.Flags().StringArrayVar(&s.hosts, "host", nil, "also accept this `name[:port]` as the host of an address, as a tunnel or a proxy sends it;\nwithout a port: with the pages' own, or with none; can be repeated")
	c.Flags().DurationVar(&s.idle, "idle", s.idle, "end after this `time` without a request of somebody who has signed in; 0: never")
	indexFlag(c, &s.index)
	a.with.flags(c)
	a.runFlags(c)
	return c
}

// hostForm is the form of a header Host: a name, or an address in brackets, with a port or without.
var hostForm = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9._-]{0,250}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?$`)

// check checks the flags.
func (s serving) check() error {
	if s.idle < 0 {
		return cli.Usagef("invalid argument %v for --idle: want 0 or more", s.idle)
	}
	for _, name := range s.hosts {
		if !hostForm.MatchString(name) {
			return cli.Usagef("invalid argument %q for --host: want NAME or NAME:PORT, without http://", name)
		}
	}
	return nil
}

// runServer serves until it is stopped or idle.
func (a *app) runServer(s serving) error {
	// The memory of this process is none of the user's other processes' business: it has what the pages
	// show, and the keys that visitors type.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("close the memory of this process to others: %w", err)
	}
	d, err := a.sightedContext()
	if err != nil {
		return err
	}
	g, err := a.newGate()
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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	hosts, address := hostsOf(l, s.hosts)
	p := a.newPages(d, g, path, web.Options{Hosts: hosts, Idle: s.idle})
	fmt.Fprintf(a.out, "%s/sign-in?token=%s\n", address, p.token)
	d.say("open this address in a browser on this host: it signs in once, as %s; Ctrl-C ends the pages", operator().User.Name)
	err = p.serve(ctx, l)
	if err == nil && ctx.Err() == nil {
		d.say("nobody has asked for %v: the pages end", s.idle)
	}
	return err
}

// pages are a server with what it needs.
type pages struct {
	*web.Server
	token string
	index *freshIndex
	keep  func(context.Context) // keeps the index up to date until the context ends
	gate  *gate
}

func (a *app) newPages(d logContext, g *gate, index string, o web.Options) *pages {
	p := &pages{index: &freshIndex{path: index}, gate: g}
	o.Gate, o.Index, o.Damaged, o.Fresh, o.Zone, o.Log = g, p.index.get, p.index.damaged, p.index.fresh, namedZone(d.local(), a.environ), d.warn
	g.denials.warn = d.warn
	p.Server, p.token = web.New(o)
	p.keep = func(ctx context.Context) { d.keepFresh(ctx, index, freshEvery, p.index.told) }
	return p
}

// serve answers requests, and keeps the index up to date beside that.
func (p *pages) serve(ctx context.Context, l net.Listener) error {
	beside, stop := context.WithCancel(ctx)
	var ended sync.WaitGroup
	ended.Go(func() { p.keep(beside) })
	ended.Go(func() { p.gate.denials.keep(beside) })
	err := p.Serve(ctx, l)
	stop()
	ended.Wait()
	p.index.close()
	return err
}

// listenAt opens the listener: only this host can reach it.
func listenAt(where string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(where, "unix:"); ok && path != "" {
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
	path, err := filepath.Abs(path) // a name that begins with @ would be an abstract one, which everybody can use
	if err != nil {
		return nil, err
	}
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
	port := ""
	if l.Addr().Network() == "unix" {
		hosts, address = []string{"localhost"}, "http://localhost"
	} else {
		own := l.Addr().String()
		_, port, _ = net.SplitHostPort(own)
		hosts, address = []string{own, "localhost:" + port}, "http://"+own
		if port == "80" { // which browsers leave out
			hosts = append(hosts, strings.TrimSuffix(own, ":80"), "localhost")
		}
	}
	for _, name := range more {
		name = strings.ToLower(name)
		hosts = append(hosts, name)
		if i := strings.LastIndexByte(name, ':'); port != "" && (i < 0 || strings.HasSuffix(name, "]")) {
			hosts = append(hosts, name+":"+port)
		}
	}
	return hosts, address
}

// namedZone is a zone by its name, where that is the host's own: what the variable TZ or the link
// /etc/localtime names.
func namedZone(zone *time.Location, environ []string) *time.Location {
	if zone != time.Local {
		return zone
	}
	name, set := "", false
	for _, v := range environ {
		if value, ok := strings.CutPrefix(v, "TZ="); ok {
			name, set = strings.TrimPrefix(value, ":"), true
		}
	}
	if set && name == "" {
		return time.UTC
	}
	if !set {
		name, _ = filepath.EvalSymlinks("/etc/localtime")
	}
	if _, behind, ok := strings.Cut(name, "/zoneinfo/"); ok {
		name = behind
	}
	if strings.HasPrefix(name, "/") || name == "" {
		return zone
	}
	if found, err := time.LoadLocation(name); err == nil && sameTimes(found, zone) {
		return found
	}
	return zone
}

// sameTimes reports whether two zones agree now and half a year ago: the variable TZ can be another than
// that of this process's start.
func sameTimes(a, b *time.Location) bool {
	for _, t := range []time.Time{time.Now(), time.Now().AddDate(0, -6, 0)} {
		_, x := t.In(a).Zone()
		_, y := t.In(b).Zone()
		if x != y {
			return false
		}
	}
	return true
}
