package ctl

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/scripts"
)

// How a script was shared at a time follows from the records of its changes:
//
//	made or deleted ──► changes ──► that time ──► changes ──► now
//	nothing is shared               Redo ─►   ◄─ Undo         as the store says
//
// The way from the past is the better one: it also goes past a restore. Where the log does not reach so
// far back, the other has to do. Each change tells what there was before it, so a missing one shows.

// A scriptEvent is a change of a script, as a record tells it.
type scriptEvent struct {
	audit.Record
	at time.Time
}

// made reports whether the script did not exist before; removed, whether it does not exist afterwards.
func (e scriptEvent) made() bool {
	return e.Changed != nil && e.Changed.OldVersion == 0 && e.Changed.NewVersion > 0
}
func (e scriptEvent) removed() bool { return e.Event.Action == audit.ScriptDeleted }

// opaque reports whether the record does not tell what has changed about this script.
func (e scriptEvent) opaque() bool { return e.Changed == nil }

func (e scriptEvent) String() string {
	return fmt.Sprintf("record %d of %s (%s by %s)", e.Seq, e.at.UTC().Format(time.RFC3339), e.Event.Action, e.User.Name)
}

// A scriptThen is what is known of a script at a time.
type scriptThen struct {
	sharing scripts.Sharing
	missing bool         // it did not exist
	by      *scriptEvent // the record that tells so; nil: the store does
	doubt   *scriptEvent // the record at which it shows that others are missing; nil: it is certain
	lost    bool         // the sharing then cannot be known: it is that of now
}

// scriptThenOf finds what a script was at a time. It makes no system call.
func scriptThenOf(events []scriptEvent, now scripts.Meta, at time.Time) (then scriptThen) {
	later := slices.IndexFunc(events, func(e scriptEvent) bool { return e.at.After(at) })
	if later < 0 {
		later = len(events)
	}
	for i, e := range slices.Backward(events[:later]) {
		if e.opaque() && !e.removed() {
			break
		}
		if e.made() || e.removed() {
			then = forward(events[i:later])
			if then.doubt == nil {
				then.doubt = then.check(events[later:], now)
			}
			return then
		}
	}
	return backward(events[later:], now, at)
}

// forward begins with a record that makes or deletes the script.
func forward(events []scriptEvent) (then scriptThen) {
	for i := range events {
		e := &events[i]
		then.missing, then.by = e.removed(), e
		if e.made() || e.removed() {
			then.sharing = scripts.Sharing{}
		}
		if e.Changed == nil {
			continue
		}
		for _, change := range e.Changed.Changes {
			if !then.sharing.Redo(change) && then.doubt == nil {
				then.doubt = e
			}
		}
	}
	return then
}

// check goes on to the present, and returns the record at which it shows that others are missing.
func (then scriptThen) check(events []scriptEvent, now scripts.Meta) *scriptEvent {
	sharing := scripts.Sharing{Public: then.sharing.Public, Shares: slices.Clone(then.sharing.Shares)}
	for i := range events {
		e := &events[i]
		if e.made() || e.removed() || e.opaque() { // what comes after it says nothing about before
			return nil
		}
		for _, change := range e.Changed.Changes {
			if !sharing.Redo(change) {
				return e
			}
		}
	}
	last := then.by
	if len(events) > 0 {
		last = &events[len(events)-1]
	}
	if then.missing || sharing.Same(now.Sharing()) {
		return nil
	}
	return last
}

// backward begins with what the store says now.
func backward(events []scriptEvent, now scripts.Meta, at time.Time) (then scriptThen) {
	then.sharing, then.missing = now.Sharing(), now.Current == 0
	for i := range slices.Backward(events) {
		e := &events[i]
		switch {
		case e.made():
			then = scriptThen{missing: true, by: e}
			continue
		case e.removed() || e.opaque():
			then = scriptThen{sharing: now.Sharing(), doubt: e, lost: true}
			continue
		case then.lost:
			continue
		}
		for _, change := range slices.Backward(e.Changed.Changes) {
			if !then.sharing.Undo(change) && then.doubt == nil {
				then.doubt = e
			}
		}
	}
	then.missing = then.missing || now.Created.After(at)
	return then
}

// scriptAt is a stored script as the rules saw it at a time. What is not certain it says in warnings.
func (a *app) scriptAt(d logContext, name string, at time.Time) (access.Object, error) {
	store, err := a.openScripts()
	if err != nil {
		return access.Object{}, err
	}
	defer store.Close()
	found, err := store.Find(name)
	if err != nil {
		return access.Object{}, err
	}
	events, begins, err := d.scriptEvents(name)
	if err != nil {
		return access.Object{}, err
	}
	then := scriptThenOf(events, found.Meta, at)
	when := at.UTC().Format(time.RFC3339)
	switch {
	case then.missing && then.by == nil && found.Current == 0:
		return access.Object{}, scripts.NotFound(name)
	case then.missing && then.by == nil:
		return access.Object{}, fmt.Errorf("find script %s at %s: it was made at %s", name, when, found.Created.UTC().Format(time.RFC3339))
	case then.missing:
		return access.Object{}, fmt.Errorf("find script %s at %s: there was none: %s tells it", name, when, then.by)
	case at.Before(begins):
		d.warnf("the log begins at %s: the sharing of the script is shown as it was then", begins.UTC().Format(time.RFC3339))
	case then.lost:
		d.warnf("how the script was shared before %s cannot be known: its sharing is shown as it is now", then.doubt)
	case then.doubt != nil:
		d.warnf("changes of the script are not in the log, as %s shows: its sharing may have been another", then.doubt)
	}
	o := found.Object()
	o.Public, o.Shares = then.sharing.Public, then.sharing.Shares
	return o, nil
}

// scriptEvents are the records of changes of a script, oldest first. A restore can have changed every
// script; its records do not say how. begins is the time of the first record of a log that was pruned.
func (d logContext) scriptEvents(name string) (list []scriptEvent, begins time.Time, err error) {
	r, err := audit.OpenReader(d.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, begins, nil
	}
	if err != nil {
		return nil, begins, err
	}
	defer r.Close()
	first := true
	for line, err := range r.Records(audit.Position{}) {
		if err == nil && first && line.Seq > 1 {
			begins = line.Time
		}
		first = first && err != nil
		restored := line.Action == audit.PolicyRestored
		if err != nil || !restored && !strings.HasPrefix(string(line.Action), "script-") { // who has found the policy has told of damaged lines
			continue
		}
		rec, err := line.Record()
		if err == nil && (restored || rec.Script.Name == name) {
			list = append(list, scriptEvent{rec, line.Time})
		}
	}
	return list, begins, nil
}
