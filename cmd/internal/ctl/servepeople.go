package ctl

import (
	"bytes"
	"cmp"
	"errors"
	"iter"
	"net/http"
	"slices"
	"strings"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/scripts"
	"py3run/cmd/internal/store"
	"py3run/cmd/internal/web"
)

// toldOfPolicy makes of an error of the policy one that a visitor may learn. A broken policy lets nobody
// in but the owner of the log, who may read its file.
func toldOfPolicy(err error) error {
	var broken *access.PolicyError
	if errors.As(err, &broken) {
		return visible{err, http.StatusConflict, hint(err)}
	}
	return told(err)
}

// reader is the visitor as one who may read the policy.
func (v visitor) reader() (actor, error) {
	who, err := v.actor()
	if err == nil {
		err = who.may(access.ToRead, access.Object{Kind: access.ThePolicy})
	}
	return who, toldOfPolicy(err)
}

// Policy is what user list, group list and key list show.
func (v visitor) Policy() (*access.Policy, error) {
	who, err := v.reader()
	return who.policy, err
}

// policyActions are the actions of records that tell of the policy.
var policyActions = []audit.Action{audit.PolicyChanged, audit.UserAdded, audit.UserChanged, audit.UserDisabled, audit.GroupChanged,
	audit.KeyCreated, audit.KeyRevoked, audit.KeyRotated, audit.PolicyRestored, audit.LimitsReset}

// PolicyChanges reads records of changes of the policy.
func (v visitor) PolicyChanges(index *store.Index, before uint64) ([]web.Change, uint64, error) {
	if _, err := v.reader(); err != nil {
		return nil, 0, err
	}
	return v.changes(index, store.RecordQuery{Actions: policyActions, Before: before, Limit: changesAtOnce})
}

// Access is what access who prints. What it says in warnings are notes, and why it cannot answer is the
// problem: whoever may read the policy may read all of that.
func (v visitor) Access(index *store.Index, q web.AccessQuestion, now time.Time) (a web.AccessAnswer, err error) {
	who, err := v.reader()
	if err != nil {
		return a, err
	}
	var notes bytes.Buffer
	d := v.logContext
	d.err = &notes
	policy, object, at, err := v.accessThen(d, who, index, q, now)
	a.At = at
	for line := range strings.Lines(notes.String()) {
		line = strings.TrimPrefix(strings.TrimSpace(line), program+": ")
		if line = strings.TrimPrefix(line, "warning: "); line != "" {
			a.Notes = append(a.Notes, strings.ToUpper(line[:1])+line[1:]+".")
		}
	}
	switch {
	case err != nil:
		a.Problem = err.Error()
		return a, nil
	case policy == nil:
		a.Problem = "There was no policy: everybody could run code, and the permissions of the files decided about the rest."
		return a, nil
	}
	list, asked := accessOfUsers(policy, object, at)
	a.Asked = asked
	for _, s := range list {
		if q.User == "" || s.User == q.User {
			a.Users = append(a.Users, web.UserAccess(s))
		}
	}
	if q.User != "" && len(a.Users) == 0 {
		a.Problem = "The policy of that time has no user of that name."
	}
	return a, nil
}

// accessThen finds the policy and the script of a time; without one, those of now.
func (v visitor) accessThen(d logContext, who actor, index *store.Index, q web.AccessQuestion, now time.Time) (policy *access.Policy, object *access.Object, at time.Time, err error) {
	if at, err = parseTime("at", q.At, now); err != nil {
		return nil, nil, now, err
	}
	if at.After(now) {
		return nil, nil, now, errors.New("that time is in the future")
	}
	policy, past := who.policy, !at.IsZero()
	if at = cmp.Or(at, now); past {
		found, err := d.policyAmong(d.policyLines(index, at), who.places, at)
		if err == nil {
			policy, err = d.policyOf(who, found, at)
		}
		if err != nil {
			return nil, nil, at, err
		}
	}
	if q.Script == "" {
		return policy, nil, at, nil
	}
	err = v.withScripts(func(s scriptContext) error {
		entry, err := s.store.Find(q.Script)
		if err != nil {
			return err
		}
		o := entry.Object()
		if !past && entry.Current == 0 {
			return scripts.NotFound(q.Script)
		}
		if past {
			var events []scriptEvent
			var begins time.Time
			if events, begins, err = d.eventsOf(index, q.Script); err == nil {
				o, err = d.scriptAfter(entry.Meta, events, begins, at)
			}
		}
		object = &o
		return err
	})
	return policy, object, at, err
}

// Bounds on how much of the log is read to find a policy or the sharing of a script.
const (
	runsBefore   = 20 // the newest ones that began before a time: each tells the policy that it has read
	changesAfter = 5000
)

// policyLines are the records that tell which policy was in force around a time, the oldest first, as far
// as the index knows their places: the newest runs and the newest change before it, and the first change
// after it. A run that finds another policy than the one before it writes such a change.
func (d logContext) policyLines(index *store.Index, at time.Time) iter.Seq2[audit.Line, error] {
	return func(yield func(audit.Line, error) bool) {
		places, err := d.policyPlaces(index, at)
		if err != nil {
			yield(audit.Line{}, err)
			return
		}
		r, err := audit.OpenReader(d.dir)
		if err != nil {
			yield(audit.Line{}, err)
			return
		}
		defer r.Close()
		for _, p := range places {
			line, err := r.At(p)
			if gone := new(audit.PlaceError); errors.As(err, &gone) {
				continue
			}
			if !yield(line, err) {
				return
			}
		}
	}
}

func (d logContext) policyPlaces(index *store.Index, at time.Time) (places []audit.Place, err error) {
	just := at.Add(time.Microsecond) // as exact as the index is
	runs, err := index.Page(store.Query{Until: just, Limit: runsBefore})
	if err != nil {
		return nil, err
	}
	for _, r := range runs.Runs {
		if r.StartSeq > 0 {
			places = append(places, r.StartAt)
		}
	}
	before, _, err := index.Records(store.RecordQuery{Actions: policyActions, Until: just, Limit: runsBefore})
	if err != nil {
		return nil, err
	}
	after, err := allRecords(index, store.RecordQuery{Actions: policyActions, Since: just})
	if err != nil {
		return nil, err
	}
	for _, p := range append(before, after[max(0, len(after)-runsBefore):]...) {
		places = append(places, p.Place)
	}
	slices.SortFunc(places, func(a, b audit.Place) int { return cmp.Compare(a.Seq, b.Seq) })
	return places, nil
}

// allRecords are the records that a query selects, the newest first: a few thousand at most.
func allRecords(index *store.Index, q store.RecordQuery) (list []store.RecordPlace, err error) {
	q.Limit = 1000
	for len(list) < changesAfter {
		some, next, err := index.Records(q)
		if err != nil {
			return nil, err
		}
		if list = append(list, some...); next == 0 {
			return list, nil
		}
		q.Before = next
	}
	return nil, errors.New("there are too many changes since then: py3runctl access who --at reads them all")
}

// eventsOf are the records of changes of a script, as scriptEvents finds them, by the index.
func (d logContext) eventsOf(index *store.Index, name string) (list []scriptEvent, begins time.Time, err error) {
	span, err := index.Span()
	if err != nil {
		return nil, begins, err
	}
	if span.Oldest > 1 {
		begins = span.OldestAt
	}
	places, err := allRecords(index, store.RecordQuery{Actions: scriptActions, Script: name})
	if err != nil {
		return nil, begins, err
	}
	restores, err := allRecords(index, store.RecordQuery{Actions: []audit.Action{audit.PolicyRestored}})
	if err != nil {
		return nil, begins, err
	}
	places = append(places, restores...)
	slices.SortFunc(places, func(a, b store.RecordPlace) int { return cmp.Compare(a.Seq, b.Seq) })
	recs, err := d.recordsAt(places)
	for i, rec := range recs {
		if rec.Seq > 0 {
			list = append(list, scriptEvent{rec, places[i].At})
		}
	}
	return list, begins, err
}
