package ctl

import (
	"cmp"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/store"
	"py3run/cmd/internal/web"
	"py3run/internal/envvar"
)

// A gate lets visitors in by the policy as it is now.
type gate struct {
	a       *app
	starter web.Pass // of who has started the server; empty: a user of the operating system
	denials denials
	common  *common
}

// A common is what all visitors of one server share.
type common struct {
	with verification // what the pages verify the log with
	acks ackBook

	proving sync.Mutex // held by the one who goes through the whole log for a proof
}

// newGate makes the gate. A key that the starter has named is read once: it can come from a pipe.
func (a *app) newGate() (*gate, error) {
	b := *a // a request has nobody who reads messages
	b.err = discard{}
	b.policy = new(atomic.Pointer[access.Policy])
	b.environ = withoutVariable(a.environ, config.KeyFileVariable)
	g := &gate{a: &b, common: &common{with: a.with}}
	g.denials.note = g.note
	file := envvar.Lookup(a.environ, config.KeyFileVariable)
	if file == "" {
		return g, nil
	}
	key, err := readAPIKey(file)
	if err != nil {
		return nil, err
	}
	_, g.starter, err = g.Holder(string(key))
	return g, err
}

func withoutVariable(environ []string, name string) (left []string) {
	for _, v := range environ {
		if !strings.HasPrefix(v, name+"=") {
			left = append(left, v)
		}
	}
	return left
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// Holder is who has shown an API key.
func (g *gate) Holder(key string) (web.Visitor, web.Pass, error) {
	v, err := g.visitor(access.Claim{Key: key})
	if err != nil {
		return nil, "", err
	}
	return v, web.Pass(key), nil
}

// Again is who has got a pass before.
func (g *gate) Again(p web.Pass) (web.Visitor, error) {
	return g.visitor(access.Claim{Key: string(cmp.Or(p, g.starter))})
}

// visitor is who has shown a key; without one, the user of the operating system
// who has started the server. All that the visitor's app does, it does as that one.
func (g *gate) visitor(c access.Claim) (web.Visitor, error) {
	b := *g.a
	b.claim = c
	d, err := b.sightedContext()
	if err != nil {
		return nil, unusable(err, c.Key == "")
	}
	return visitor{d, &b, c.Key, g.common}, nil
}

// unusable makes of a policy or a configuration that cannot be read an error that a visitor may learn. What
// is wrong in them, only who has started the pages learns. It is no refusal, so it ends no session.
func unusable(err error, starter bool) error {
	var conf *config.Error
	switch {
	case errors.As(err, &conf) && starter:
		return visible{err, http.StatusServiceUnavailable, conf.Hint}
	case errors.As(err, &conf):
		return visible{errors.New("the configuration or the policy of this host cannot be used"), http.StatusServiceUnavailable,
			"it works again when that is mended; py3run config check says what is wrong"}
	}
	return told(err)
}

// Denied records that somebody could not sign in.
func (g *gate) Denied(err error) {
	reason, rec := "one-time-token", operator()
	rec.User.Name = "" // the starter of the pages was not it
	var denied refusal
	if errors.As(err, &denied) {
		reason, rec.User.Name, rec.Auth.Method, rec.Auth.KeyID = denied.Code, denied.User, audit.AuthAPIKey, denied.KeyID
	} else if errors.As(err, new(visible)) {
		reason = "policy-unusable"
	}
	g.denials.add(reason, rec, time.Now())
}

// note appends a record of the gate's own.
func (g *gate) note(rec audit.Record) error {
	d, err := g.a.logContext()
	if err != nil {
		return err
	}
	_, err = d.append(rec)
	return err
}

// A visitor is somebody who has signed in to the pages: the log context of a command that this user would
// call.
type visitor struct {
	logContext
	app    *app
	key    string // API key that was shown; empty: none
	common *common
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
	rec := v.author()
	rec.Event = audit.Event{Action: action, Outcome: audit.Success}
	if fill != nil {
		fill(&rec)
	}
	_, err := v.append(rec)
	return err
}

// Query is a filter of the pages as the flags of history would have it.
func (v visitor) Query(f web.Filter, now time.Time) (store.Query, error) {
	q, err := filter{user: f.User, holder: f.Holder, key: f.Key, client: f.Client, script: f.Script, code: f.Code, labels: f.Labels,
		status: f.Status, failed: f.Failed, since: f.Since, until: f.Until}.query(now)
	q.Owner, q.Host, q.Text = v.only, f.Host, f.Text
	return q, told(err)
}

// forPages is a filter of the command line as the pages have it.
func (f filter) forPages() web.Filter {
	return web.Filter{User: f.user, Holder: f.holder, Key: f.key, Client: f.client, Script: f.script, Code: f.code, Labels: f.labels,
		Status: f.status, Failed: f.failed, Since: f.since, Until: f.until}
}

// told makes of an error that a caller may learn one that a visitor may learn.
func told(err error) error {
	var denied refusal
	var usage *cli.UsageError
	var conf *config.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &conf):
		return visible{err, http.StatusConflict, conf.Hint}
	case errors.As(err, &denied):
		hint := ""
		if denied.Told {
			hint = denied.Denial.Hint
		}
		return visible{err, http.StatusForbidden, hint}
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
