package store

import (
	"cmp"
	"database/sql"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"time"
)

// A slice is a set of sums that share what they tell apart. Each has the two ids a and b as its key.
type slice int64

const (
	sliceAll        slice = iota
	sliceUser             // a: user, b: 1 if asserted
	sliceScript           // a: script
	sliceHost             // a: host
	sliceKey              // a: API key, b: 1 if its secret was not proved
	sliceReason           // a: reason
	sliceUserScript       // a: user, b: twice the script, plus 1 if asserted
	sliceUserHost         // a: user, b: twice the host, plus 1 if asserted
	sliceScriptHost       // a: script, b: host
	sliceLabel            // a: name of a label, b: its value; not of names in many
)

// A level is how much time a sum is about. Each is kept by the number of its unit since 1970, in UTC.
type level int64

const (
	hours level = iota
	days
	months
)

// finest is the shortest time that a slice has sums of. The others have too many keys for hours.
func (s slice) finest() level {
	if s == sliceUserHost || s == sliceScriptHost || s == sliceLabel {
		return days
	}
	return hours
}

// Labels with more names, or more values of a name, have no sums.
const (
	labelNamesMost  = 100
	labelValuesMost = 200
)

const microsOfHour = int64(time.Hour / time.Microsecond)

// unit is the number of a time's hour, day or month.
func (l level) unit(micros int64) int64 {
	switch l {
	case hours:
		return floor(micros, microsOfHour)
	case days:
		return floor(micros, 24*microsOfHour)
	}
	t := time.UnixMicro(micros).UTC()
	return int64(t.Year())*12 + int64(t.Month()) - 1
}

// begins is when a unit begins.
func (l level) begins(unit int64) time.Time {
	switch l {
	case hours:
		return time.Unix(unit*3600, 0).UTC()
	case days:
		return time.Unix(unit*24*3600, 0).UTC()
	}
	return time.Date(int(floor(unit, 12)), time.Month(unit-floor(unit, 12)*12)+1, 1, 0, 0, 0, 0, time.UTC)
}

func floor(n, by int64) int64 {
	if q := n / by; n%by >= 0 {
		return q
	}
	return n/by - 1
}

// A sumKey is the key of a row of sums.
type sumKey struct {
	slice slice
	level level
	at    int64
	a, b  int64
}

func (k sumKey) compare(o sumKey) int {
	return cmp.Or(cmp.Compare(k.slice, o.slice), cmp.Compare(k.level, o.level), cmp.Compare(k.at, o.at), cmp.Compare(k.a, o.a), cmp.Compare(k.b, o.b))
}

func (k sumKey) numbers() []int64 { return []int64{int64(k.slice), int64(k.level), k.at, k.a, k.b} }

// A portion has the sums of the runs with one status.
type portion struct {
	status    int64 // its name's id
	runs      int64
	refused   int64 // in summaries
	cpu       int64 // microseconds
	peak      int64
	output    int64
	last      int64 // start of the newest, or the last refusal, in microseconds
	durations Histogram
}

// portions are by their statuses.
type portions []portion

func (all *portions) of(status int64) *portion {
	i, found := slices.BinarySearchFunc(*all, status, func(p portion, s int64) int { return cmp.Compare(p.status, s) })
	if !found {
		*all = slices.Insert(*all, i, portion{status: status})
	}
	return &(*all)[i]
}

func (p *portion) isEmpty() bool { return p.runs == 0 && p.refused == 0 }

// add counts an ended run, or the refusals of a summary.
func (p *portion) add(r *Run) {
	at := r.Started.UnixMicro()
	if p.isEmpty() || at > p.last {
		p.last = at
	}
	if r.Refusals > 0 {
		p.refused += r.Refusals
		return
	}
	p.runs++
	p.cpu += r.CPU.Microseconds()
	p.peak = max(p.peak, r.PeakMemory)
	p.output += r.StdoutBytes + r.StderrBytes
	if r.tookTime() {
		p.durations.Add(r.Duration)
	}
}

func (all *portions) merge(o portions) {
	for i := range o {
		p, q := all.of(o[i].status), &o[i]
		if !q.isEmpty() && (p.isEmpty() || q.last > p.last) {
			p.last = q.last
		}
		p.runs += q.runs
		p.refused += q.refused
		p.cpu += q.cpu
		p.peak = max(p.peak, q.peak)
		p.output += q.output
		p.durations.Merge(q.durations)
	}
}

func (all portions) encode(k sumKey) []byte {
	b := binary.AppendUvarint(make([]byte, 0, 64), uint64(len(all)))
	for i := range all {
		p := &all[i]
		for _, n := range []int64{p.status, p.runs, p.refused, p.cpu, p.peak, p.output, p.last} {
			b = binary.AppendVarint(b, n)
		}
		b = p.durations.encode(b)
	}
	return summed(b, k.numbers()...)
}

func decodePortions(data []byte, k sumKey) (all portions, err error) {
	d, err := unsummed(data, k.numbers()...)
	if err != nil {
		return nil, err
	}
	n := d.count()
	all = make(portions, n)
	for i := range all {
		p := &all[i]
		for _, to := range []*int64{&p.status, &p.runs, &p.refused, &p.cpu, &p.peak, &p.output, &p.last} {
			*to = d.number()
		}
		p.durations = decodeHistogram(d)
	}
	if d.wrong {
		err = errSum
	}
	return all, err
}

// group is what a portion adds to a group.
func (p *portion) group(status string) *Group {
	g := &Group{Runs: p.runs, Refused: p.refused, Statuses: map[string]int64{}, CPU: time.Duration(p.cpu) * time.Microsecond, PeakMemory: p.peak, OutputBytes: p.output, durations: p.durations}
	if p.runs > 0 {
		g.Statuses[status] = p.runs
	}
	if !p.isEmpty() {
		g.Last = time.UnixMicro(p.last).UTC()
	}
	if status != "ok" {
		g.Failed = p.runs
	}
	return g
}

// A summing collects sums: of the finest level of each slice, before it is spread.
type summing map[sumKey]*portions

func (s summing) of(k sumKey) *portions {
	p := s[k]
	if p == nil {
		p = &portions{}
		s[k] = p
	}
	return p
}

// spread adds the sums of the longer levels to those of the finest.
func (s summing) spread() { s.spreadTo(months) }

func (s summing) spreadTo(last level) {
	for k, p := range maps.Clone(s) {
		for l := k.level + 1; l <= last; l++ {
			longer := k
			longer.level, longer.at = l, l.unit(k.level.begins(k.at).UnixMicro())
			s.of(longer).merge(*p)
		}
	}
}

// count adds an ended run, or a summary, to the sums.
func (w *Writer) count(s summing, r *Run, ids *runIDs) error {
	at := r.Started.UnixMicro()
	hour, day := hours.unit(at), days.unit(at)
	asserted := bit(r.Asserted())
	add := func(k sumKey) {
		k.level, k.at = k.slice.finest(), hour
		if k.level == days {
			k.at = day
		}
		s.of(k).of(ids.status).add(r)
	}
	add(sumKey{slice: sliceAll})
	add(sumKey{slice: sliceUser, a: ids.user, b: asserted})
	add(sumKey{slice: sliceScript, a: ids.script})
	add(sumKey{slice: sliceHost, a: ids.host})
	add(sumKey{slice: sliceKey, a: ids.key, b: bit(r.withoutSecret())})
	add(sumKey{slice: sliceReason, a: ids.reason})
	add(sumKey{slice: sliceUserScript, a: ids.user, b: 2*ids.script + asserted})
	add(sumKey{slice: sliceUserHost, a: ids.user, b: 2*ids.host + asserted})
	add(sumKey{slice: sliceScriptHost, a: ids.script, b: ids.host})
	for name, value := range r.Labels {
		a, err := w.id(name, r.newest())
		if err != nil {
			return err
		}
		b, err := w.id(value, r.newest())
		if err != nil {
			return err
		}
		few, err := w.fewValues(s, a, b)
		if err != nil {
			return err
		}
		if few {
			add(sumKey{slice: sliceLabel, a: a, b: b})
		}
	}
	return nil
}

// fewValues reports whether a label has so few values, this one included, that it has sums.
func (w *Writer) fewValues(s summing, name, value int64) (bool, error) {
	if _, known := w.values[[2]int64{name, value}]; known {
		return true, nil
	}
	if _, known := w.many[name]; known {
		return false, nil
	}
	var listed, many bool
	if err := w.tx.QueryRow("SELECT EXISTS (SELECT 1 FROM label_values WHERE name = ? AND value = ?), EXISTS (SELECT 1 FROM many WHERE label = ?)", name, value, name).Scan(&listed, &many); err != nil {
		return false, err
	}
	if many {
		w.many[name] = struct{}{}
		return false, nil
	}
	if !listed {
		var values, names int
		if err := w.tx.QueryRow("SELECT (SELECT count(*) FROM label_values WHERE name = ?), (SELECT count(DISTINCT name) FROM label_values WHERE name <> ?)", name, name).Scan(&values, &names); err != nil {
			return false, err
		}
		if values >= labelValuesMost || names >= labelNamesMost {
			w.many[name] = struct{}{}
			return false, w.dropLabel(s, name)
		}
		if _, err := w.tx.Exec("INSERT INTO label_values VALUES (?,?)", name, value); err != nil {
			return false, err
		}
	}
	w.values[[2]int64{name, value}] = struct{}{}
	return true, nil
}

// dropLabel removes the sums of a label that has turned out to have too many values.
func (w *Writer) dropLabel(s summing, name int64) error {
	maps.DeleteFunc(s, func(k sumKey, _ *portions) bool { return k.slice == sliceLabel && k.a == name })
	maps.DeleteFunc(w.values, func(k [2]int64, _ struct{}) bool { return k[0] == name })
	for _, text := range []string{"INSERT OR IGNORE INTO many VALUES (?)", "DELETE FROM label_values WHERE name = ?", "DELETE FROM sums WHERE slice = 9 AND a = ?"} {
		if _, err := w.tx.Exec(text, name); err != nil {
			return err
		}
	}
	return nil
}

// putSums writes sums, and merges them with those that are there. Most are of a later time than any before, so that
// nothing needs to be looked up.
func (w *Writer) putSums(s summing) error {
	var newest [months + 1]sql.NullInt64
	for l := hours; l <= months; l++ {
		if err := w.tx.QueryRow("SELECT max(at) FROM sums WHERE slice = 0 AND level = ?", int64(l)).Scan(&newest[l]); err != nil {
			return err
		}
	}
	find, err := w.tx.Prepare("SELECT data FROM sums WHERE slice = ? AND level = ? AND at = ? AND a = ? AND b = ?")
	if err != nil {
		return err
	}
	defer find.Close()
	put := newBatch(w.tx, "INSERT OR REPLACE INTO sums", 6)
	for _, k := range slices.SortedFunc(maps.Keys(s), sumKey.compare) {
		p := s[k]
		if n := newest[k.level]; n.Valid && k.at <= n.Int64 {
			var data []byte
			err := find.QueryRow(int64(k.slice), int64(k.level), k.at, k.a, k.b).Scan(&data)
			if err == nil {
				var old portions
				if old, err = decodePortions(data, k); err == nil {
					p.merge(old)
				}
			}
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
		}
		if err := put.add(int64(k.slice), int64(k.level), k.at, k.a, k.b, p.encode(k)); err != nil {
			return err
		}
	}
	return put.end()
}
