package store

import (
	"time"
)

// Stats takes the sums of whole months, days and hours. It goes through the runs only where the query begins or ends
// within an hour, or asks for what there are no sums of.
func (x *Index) Stats(q Query, by By) ([]Group, error) {
	all := grouping{}
	s, nothing, err := x.summed(all, q, by)
	if err != nil || nothing || q.Status == Running {
		return nil, err
	}
	if s == nil {
		err = x.cut(all, q, by)
		return all.sorted(by), err
	}
	if len(s.split) > splitMost { // a zone in which no hour is one of UTC
		clear(all)
		err = x.cut(all, q, by)
		return all.sorted(by), err
	}
	for hour := range s.split {
		since := hours.begins(hour)
		s.cuts = append(s.cuts, [2]time.Time{later(since, q.Since), earlier(since.Add(time.Hour), q.Until)})
	}
	for _, c := range s.cuts {
		part := q
		part.Since, part.Until = c[0], c[1]
		if err := x.cut(all, part, by); err != nil {
			return nil, err
		}
	}
	return all.sorted(by), nil
}

// splitMost is how many hours with a change of the day in them are cut.
const splitMost = 400

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func earlier(a, b time.Time) time.Time {
	if !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// cut adds the ended runs that a query selects.
func (x *Index) cut(all grouping, q Query, by By) error {
	q.Limit = 0
	for r, err := range x.History(q) {
		if err != nil {
			return err
		}
		if r.Status != "" {
			all.run(by, q, &r)
		}
	}
	return nil
}

// A span is some hours, days or months, one after the other.
type span struct {
	level    level
	from, to *int64 // to is not included; nil: open
}

// isShort reports whether a span has few units, so that all their keys are few.
func (u span) isShort() bool { return u.from != nil && u.to != nil && *u.to-*u.from <= 48 }

// A summedQuery is one that sums answer.
type summedQuery struct {
	q     Query
	by    By
	slice slice
	a     int64 // which a matches, with hasA
	hasA  bool
	b     *[2]int64 // the first and the last b that match; nil: all

	aNames, bNames bool // a, or b, is the id of a group's name
	halve          bool // b is twice an id

	spans []span
	cuts  [][2]time.Time
	split map[int64]struct{} // hours within which a day, or an hour, of the query's zone begins
}

// wants says which dimensions of sums a query needs.
func (q Query) wants(by By) (user, script, host, key, reason, label bool) {
	_, label = by.label()
	return q.User != "" || q.Owner != "" || by == ByUser, q.Script != "" || by == ByScript, q.Host != "" || by == ByHost, q.Key != "" || by == ByKey, by == ByReason, label || len(q.Labels) > 0
}

// sliceOf is the slice that has all dimensions which a query needs.
func (q Query) sliceOf(by By) (slice, bool) {
	if q.Run != "" || q.Holder != "" || q.Version != "" || q.Code != "" || q.Before > 0 || q.Text != "" || q.Client.IsValid() || len(q.Labels) > 1 {
		return 0, false
	}
	user, script, host, key, reason, label := q.wants(by)
	type wanted struct{ user, script, host, key, reason, label bool }
	s, has := map[wanted]slice{
		{}: sliceAll, {user: true}: sliceUser, {script: true}: sliceScript, {host: true}: sliceHost, {key: true}: sliceKey, {reason: true}: sliceReason, {label: true}: sliceLabel,
		{user: true, script: true}: sliceUserScript, {user: true, host: true}: sliceUserHost, {script: true, host: true}: sliceScriptHost,
	}[wanted{user, script, host, key, reason, label}]
	return s, has
}

// summed adds the sums that answer a query to the groups, and says what is left to do; nil: sums do not answer it.
// nothing: no run can match. It looks once: another file, which can take the place of this one, has other ids.
func (x *Index) summed(all grouping, q Query, by By) (s *summedQuery, nothing bool, err error) {
	slice, has := q.sliceOf(by)
	if !has || q.User != "" && q.Owner != "" && q.User != q.Owner {
		return nil, has, nil
	}
	s = &summedQuery{q: q, by: by, slice: slice, split: map[int64]struct{}{}}
	coarsest, finest := months, slice.finest()
	switch {
	case by == ByHour, by == ByDay && !q.countsUTC():
		coarsest = hours
	case by == ByDay:
		coarsest = days
	}
	if coarsest < finest {
		return nil, false, nil
	}
	s.divide(q.Since, q.Until, coarsest, finest)
	err = x.look(func(v view) (err error) {
		if nothing, err = s.resolve(v); err != nil || nothing || s.slice < 0 {
			return err
		}
		for _, u := range s.spans {
			if err := s.add(v, all, u); err != nil {
				return err
			}
		}
		return nil
	})
	if s.slice < 0 { // the label has too many values
		return nil, false, err
	}
	return s, nothing, err
}

// divide divides the time of a query into whole units, the longest first, and rests that have to be cut from the runs.
func (s *summedQuery) divide(since, until time.Time, l, finest level) {
	if !since.IsZero() && !until.IsZero() && !since.Before(until) {
		return
	}
	u := span{level: l}
	if !since.IsZero() {
		from := l.unit(since.UnixMicro())
		if l.begins(from).Before(since) {
			from++
		}
		u.from = &from
	}
	if !until.IsZero() {
		to := l.unit(until.UnixMicro())
		u.to = &to
	}
	shorter := func(since, until time.Time) {
		switch {
		case !since.Before(until):
		case l > finest:
			s.divide(since, until, l-1, finest)
		default:
			s.cuts = append(s.cuts, [2]time.Time{since, until})
		}
	}
	if u.from != nil && u.to != nil && *u.from >= *u.to {
		shorter(since, until)
		return
	}
	s.spans = append(s.spans, u)
	if u.from != nil {
		shorter(since, l.begins(*u.from))
	}
	if u.to != nil {
		shorter(l.begins(*u.to), until)
	}
}

// resolve finds the ids of what the query names.
func (s *summedQuery) resolve(v view) (nothing bool, err error) {
	q := s.q
	id := func(text string) (n int64) {
		if text == "" || nothing || err != nil {
			return 0
		}
		n, found, e := v.idOf(text)
		nothing, err = !found, e
		return n
	}
	user := q.User
	if user == "" {
		user = q.Owner
	}
	var first, second string // what a and b have to be
	switch s.slice {
	case sliceUser:
		first, s.aNames = user, s.by == ByUser
	case sliceScript:
		first, s.aNames = q.Script, s.by == ByScript
	case sliceHost:
		first, s.aNames = q.Host, s.by == ByHost
	case sliceKey:
		first, s.aNames = q.Key, s.by == ByKey
	case sliceReason:
		s.aNames = true
	case sliceUserScript:
		first, second, s.aNames, s.bNames, s.halve = user, q.Script, s.by == ByUser, s.by == ByScript, true
	case sliceUserHost:
		first, second, s.aNames, s.bNames, s.halve = user, q.Host, s.by == ByUser, s.by == ByHost, true
	case sliceScriptHost:
		first, second, s.aNames, s.bNames = q.Script, q.Host, s.by == ByScript, s.by == ByHost
	case sliceLabel:
		return s.resolveLabel(v)
	}
	if first != "" {
		s.a, s.hasA = id(first), true
	}
	if second != "" {
		want := id(second)
		s.b = &[2]int64{want, want}
		if s.halve {
			s.b = &[2]int64{2 * want, 2*want + 1}
		}
	}
	return nothing, err
}

// resolveLabel does that for a label. A query can ask for another label than it is grouped by: sums do not tell that.
func (s *summedQuery) resolveLabel(v view) (nothing bool, err error) {
	name, grouped := s.by.label()
	for n, value := range s.q.Labels {
		if grouped && n != name {
			s.slice = -1
			return false, nil
		}
		name = n
		want, found, err := v.idOf(value)
		if err != nil || !found {
			return true, err
		}
		s.b = &[2]int64{want, want}
	}
	s.bNames, s.hasA = grouped, true
	var found bool
	if s.a, found, err = v.idOf(name); err != nil || !found {
		return true, err
	}
	var many bool
	err = v.QueryRow("SELECT EXISTS (SELECT 1 FROM many WHERE label = ?)", s.a).Scan(&many)
	if many {
		s.slice = -1
	}
	return false, err
}

// A sumRow is a row of sums.
type sumRow struct {
	key      sumKey
	portions portions
}

// add adds the sums of a span to the groups.
func (s *summedQuery) add(v view, all grouping, u span) error {
	rows, err := s.rows(v, u)
	if err != nil {
		return err
	}
	ids := map[int64]struct{}{}
	for _, r := range rows {
		ids[s.nameID(r.key)] = struct{}{}
		for i := range r.portions {
			ids[r.portions[i].status] = struct{}{}
		}
	}
	names, err := v.names.learn(v, ids)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if err := s.addRow(names, all, r); err != nil {
			return err
		}
	}
	return nil
}

// rows reads the rows of a span.
func (s *summedQuery) rows(v view, u span) (list []sumRow, err error) {
	var where condition
	where.and("slice = ? AND level = ?", int64(s.slice), int64(u.level))
	// SQLite goes along the time, with all keys, or along one key, with all times: a sign keeps it from the other.
	ofKey, ofTime := "", ""
	if s.hasA && u.isShort() {
		ofKey = "+"
	} else if s.hasA {
		ofTime = "+"
	}
	if s.hasA {
		where.and(ofKey+"a = ?", s.a)
	}
	if s.b != nil {
		where.and(ofKey+"b BETWEEN ? AND ?", s.b[0], s.b[1])
	}
	if u.from != nil {
		where.and(ofTime+"at >= ?", *u.from)
	}
	if u.to != nil {
		where.and(ofTime+"at < ?", *u.to)
	}
	rows, err := v.Query("SELECT at, a, b, data FROM sums"+where.String(), where.args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		r := sumRow{key: sumKey{slice: s.slice, level: u.level}}
		var data []byte
		if err := rows.Scan(&r.key.at, &r.key.a, &r.key.b, &data); err != nil {
			return nil, err
		}
		if r.portions, err = decodePortions(data, r.key); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// nameID is the id of the name of a row's group; 0: the group has another name.
func (s *summedQuery) nameID(k sumKey) int64 {
	switch {
	case s.aNames:
		return k.a
	case s.bNames && s.halve:
		return k.b >> 1
	case s.bNames:
		return k.b
	}
	return none
}

// addRow adds a row's portions to their groups.
func (s *summedQuery) addRow(names nameTexts, all grouping, r sumRow) error {
	key := groupKey{key: string(ByAll)}
	var err error
	switch {
	case s.aNames || s.bNames:
		if key.key, err = names.of(s.nameID(r.key)); err != nil {
			return err
		}
		if s.by == ByUser {
			key.asserted = r.key.b&1 == 1
		}
	case s.by == ByDay, s.by == ByHour:
		layout := dayLayout
		if s.by == ByHour {
			layout = hourLayout
		}
		begins := r.key.level.begins(r.key.at).In(s.q.zone())
		key.key = begins.Format(layout)
		if r.key.level == hours && begins.Add(time.Hour-1).Format(layout) != key.key {
			s.split[r.key.at] = struct{}{}
			return nil
		}
	}
	for i := range r.portions {
		p := &r.portions[i]
		status, err := names.of(p.status)
		if err != nil {
			return err
		}
		if s.q.Status != "" && status != s.q.Status || s.q.Failed && status == "ok" {
			continue
		}
		if s.by == ByStatus {
			key.key = status
		}
		all.add(key, p.group(status))
	}
	return nil
}

// A Bucket has the sums of the runs that began within one hour or day.
type Bucket struct {
	At time.Time // when it begins
	Group
}

// Series returns Stats by the hour or the day, in the order of time.
func (x *Index) Series(q Query, step By) ([]Bucket, error) {
	layout := dayLayout
	if step == ByHour {
		layout = hourLayout
	}
	groups, err := x.Stats(q, step)
	var list []Bucket
	for _, g := range groups {
		at, wrong := time.ParseInLocation(layout, g.Key, q.zone())
		if wrong != nil {
			return nil, wrong
		}
		if before := at.Add(-time.Hour); before.Format(layout) == g.Key { // the hour comes twice when the clocks go back
			at = before
		}
		list = append(list, Bucket{at, g})
	}
	return list, err
}

// LastUse returns when the newest run of each user, or with each API key, began. Runs for which a user was only named
// are not that user's, and a secret that is wrong is not the use of a key.
func (x *Index) LastUse(by By) (map[string]time.Time, error) {
	found := map[string]time.Time{}
	slice := sliceUser
	if by == ByKey {
		slice = sliceKey
	}
	err := x.look(func(v view) error {
		s := &summedQuery{slice: slice, aNames: true, b: &[2]int64{0, 0}}
		rows, err := s.rows(v, span{level: months})
		if err != nil {
			return err
		}
		last, ids := map[int64]time.Time{}, map[int64]struct{}{}
		for _, r := range rows {
			for i := range r.portions {
				if p := &r.portions[i]; !p.isEmpty() {
					last[r.key.a] = later(last[r.key.a], time.UnixMicro(p.last).UTC())
					ids[r.key.a] = struct{}{}
				}
			}
		}
		names, err := v.names.learn(v, ids)
		if err != nil {
			return err
		}
		for id, at := range last {
			name, err := names.of(id)
			if err != nil {
				return err
			}
			if name != "" || by == ByUser {
				found[name] = at
			}
		}
		open, err := selectRuns(v, v.names, " WHERE status = 0 AND status <> 1")
		for i := range open {
			if r := &open[i]; by == ByKey && r.KeyID != "" {
				found[r.KeyID] = later(found[r.KeyID], r.Started)
			} else if by == ByUser && !r.Asserted() {
				found[r.User] = later(found[r.User], r.Started)
			}
		}
		return err
	})
	return found, err
}
