package ctl

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/scripts"
	"py3run/cmd/internal/store"
	"py3run/cmd/internal/web"
)

// withScripts passes what the commands for scripts work with.
func (v visitor) withScripts(do func(scriptContext) error) error {
	who, err := v.actor()
	if err != nil {
		return toldOfPolicy(err)
	}
	d := scriptContext{logContext: v.logContext, who: who}
	if d.store, err = scripts.Open(scripts.Dir(who.state)); err != nil {
		return err
	}
	defer d.close()
	return toldOfScript(do(d))
}

// toldOfScript makes of an error about a script one that a visitor may learn.
func toldOfScript(err error) error {
	code := 0
	var script interface{ Hint() string }
	switch {
	case errors.As(err, new(*scripts.NotFoundError)), errors.As(err, new(*scripts.NameError)):
		code = http.StatusNotFound
	case errors.As(err, new(*scripts.DamageError)):
		code = http.StatusConflict
	default:
		return told(err)
	}
	errors.As(err, &script)
	return visible{err, code, script.Hint()}
}

// Scripts lists what script list lists.
func (v visitor) Scripts() (list []scripts.Entry, damaged []string, err error) {
	err = v.withScripts(func(d scriptContext) error {
		for e, err := range d.store.List() {
			if wrong := new(scripts.DamageError); errors.As(err, &wrong) {
				if d.who.may(access.ToManage, access.Object{Kind: access.StoredScript}) == nil {
					damaged = append(damaged, err.Error())
				}
				continue
			}
			if err != nil {
				return err
			}
			if !d.sees(e.Meta) {
				continue
			}
			if d.who.may(access.ToRead, e.Object()) != nil {
				e.Shares = sharesOf(e.Shares, d.who.grant)
			}
			list = append(list, e)
		}
		return nil
	})
	return list, damaged, err
}

// Script is what script show --about and script history tell.
func (v visitor) Script(name string) (about web.ScriptAbout, err error) {
	err = v.withScripts(func(d scriptContext) error {
		entry, err := d.store.Find(name)
		if err != nil {
			if entry.Name == "" || !d.sees(entry.Meta) {
				return hiddenDamage(name, err)
			}
			return err
		}
		object := scripts.Script{Meta: entry.Meta, Removed: entry.Current == 0}.Object()
		if d.who.may(access.ToList, object) != nil {
			return scripts.NotFound(name)
		}
		about = web.ScriptAbout{Entry: entry, MayRun: d.who.may(access.ToRun, object) == nil, MayRead: d.who.may(access.ToRead, object) == nil, Own: d.who.grant.User == entry.Author}
		if !about.MayRead {
			about.Version.Comment, about.Version.Variables, about.Origin, about.Shares = "", nil, nil, sharesOf(about.Shares, d.who.grant)
			return nil
		}
		_, list, err := d.store.History(name)
		if err != nil {
			return err
		}
		if !v.seesRemoved(d, entry.Meta) {
			list = scripts.Kept(list)
		}
		slices.Reverse(list)
		about.Versions = list
		return nil
	})
	return about, err
}

// hiddenDamage is the error of a script whose meta cannot be read: nobody knows who may learn of it.
func hiddenDamage(name string, err error) error {
	if errors.As(err, new(*scripts.DamageError)) {
		return scripts.NotFound(name)
	}
	return err
}

// sharesOf are the shares that mean one user: whoever may only run a script does not learn who else may.
func sharesOf(shares []access.Share, g access.Grant) []access.Share {
	return slices.DeleteFunc(slices.Clone(shares), func(s access.Share) bool {
		return s.With != g.User && !slices.ContainsFunc(g.Groups, func(group string) bool { return s.With == "group:"+group })
	})
}

// seesRemoved reports whether the visitor may see the versions from before a deletion.
func (v visitor) seesRemoved(d scriptContext, m scripts.Meta) bool {
	return d.who.may(access.ToSeeHistory, scripts.Script{Meta: m, Removed: true}.Object()) == nil
}

// ScriptText reads a version as script show does.
func (v visitor) ScriptText(name string, version int) (text web.ScriptText, err error) {
	err = v.withScripts(func(d scriptContext) error {
		if err := scripts.BadName(name); err != nil {
			return err
		}
		ref := name
		if version > 0 {
			ref = fmt.Sprintf("%s@%d", name, version)
		}
		s, err := d.text(ref)
		text = web.ScriptText{Version: s.Version, Name: name, Text: harmlessCode(string(s.Code)), Own: d.who.grant.User == s.Meta.Author}
		return err
	})
	return text, err
}

var scriptActions = []audit.Action{audit.ScriptSaved, audit.ScriptShared, audit.ScriptDeleted, audit.ScriptImported}

const changesAtOnce = 30

// ScriptChanges reads records of changes. They tell no more than the versions that the visitor may see.
func (v visitor) ScriptChanges(index *store.Index, about web.ScriptAbout, before uint64) ([]web.Change, uint64, error) {
	q := store.RecordQuery{Actions: scriptActions, Script: about.Name, Before: before, Limit: changesAtOnce}
	if n := len(about.Versions); n == 0 {
		return nil, 0, nil
	} else if oldest := about.Versions[n-1]; oldest.Number > 1 { // there are versions that the visitor does not see
		q.Since = oldest.At.Truncate(time.Microsecond)
	}
	return v.changes(index, q)
}

// changes are records with what they say was changed.
func (v visitor) changes(index *store.Index, q store.RecordQuery) ([]web.Change, uint64, error) {
	places, next, err := index.Records(q)
	if err != nil {
		return nil, 0, err
	}
	recs, err := v.recordsAt(places)
	if err != nil {
		return nil, 0, err
	}
	list := make([]web.Change, len(places))
	for i, rec := range recs {
		c := web.Change{RecordPlace: places[i]}
		if rec.Changed != nil {
			c.Changes = rec.Changed.Changes
		}
		if rec.Policy != nil {
			c.Changes, c.Dropped = rec.Policy.Changes, rec.Policy.ChangesDropped
		}
		switch {
		case rec.Auth.KeyID != "":
			c.Known = "API key " + rec.Auth.KeyID
		case rec.Auth.SudoUser != "":
			c.Known = "by sudo of " + rec.Auth.SudoUser
		}
		list[i] = c
	}
	return list, next, nil
}
