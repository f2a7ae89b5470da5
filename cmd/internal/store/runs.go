package store

import (
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"time"

	"py3run/audit"
)

// runIDs are the ids of the names in a run.
type runIDs struct {
	user, auth, osUser, key, holder, client, host, script, version, source, path, invocation, command, code, status, reason, signal int64
	effective                                                                                                                       int64 // whose key it was, for queries
}

// A storedRun is a row of runs.
type storedRun struct {
	seq, head, tail, started int64
	ids                      runIDs
	data                     []byte
}

// runColumns are read of a run, in the order of [storedRun.scan].
const runColumns = "runs.seq, head, tail, user, key, holder, client, host, script, version, code, status, started, data"

func (s *storedRun) scan(from row) error {
	i := &s.ids
	return from.Scan(&s.seq, &s.head, &s.tail, &i.user, &i.key, &i.effective, &i.client, &i.host, &i.script, &i.version, &i.code, &i.status, &s.started, &s.data)
}

func (s *storedRun) values() []any {
	i := &s.ids
	return []any{s.seq, s.head, s.tail, i.user, i.key, i.effective, i.client, i.host, i.script, i.version, i.code, i.status, s.started, s.data}
}

// inData are the ids that stand in data, in their order.
func (i *runIDs) inData() [17]*int64 {
	return [...]*int64{&i.user, &i.auth, &i.osUser, &i.key, &i.holder, &i.client, &i.host, &i.script, &i.version, &i.source, &i.path, &i.invocation, &i.command, &i.code, &i.status, &i.reason, &i.signal}
}

// texts are the fields whose names inData has.
func (r *Run) texts() [17]*string {
	return [...]*string{&r.User, &r.Auth, &r.OSUser, &r.KeyID, &r.Holder, &r.Client, &r.Host, &r.Script, &r.Version, &r.Source, &r.Path, &r.Invocation, &r.Command, &r.Code, &r.Status, &r.Reason, &r.Signal}
}

// newest is the number of the newest record about a run.
func (r *Run) newest() uint64 { return max(r.StartSeq, r.EndSeq) }

// idEnd is how much of a run's id, at its beginning or at its end, an index finds quickly.
const idEnd = 8

// idHash stands for the beginning or the end of an id. It is a number, so that the row is short.
func idHash(text string) int64 {
	h := fnv.New32a()
	io.WriteString(h, text)
	return int64(h.Sum32())
}

func headOf(id string) int64 { return idHash(id[:min(len(id), idEnd)]) }
func tailOf(id string) int64 { return idHash(id[max(0, len(id)-idEnd):]) }

// store makes the row of a run, and gives its names ids.
func (w *Writer) store(r *Run) (s storedRun, err error) {
	texts := r.texts()
	for n, id := range s.ids.inData() {
		if *id, err = w.id(*texts[n], r.newest()); err != nil {
			return s, err
		}
	}
	if holder := r.keyHolder(); holder != "" {
		if s.ids.effective, err = w.id(holder, r.newest()); err != nil {
			return s, err
		}
	}
	s.seq, s.head, s.tail, s.started = int64(r.Place()), headOf(r.ID), tailOf(r.ID), r.Started.UnixMicro()
	s.data = summed(appendRun(make([]byte, 0, 256), r, &s.ids), s.key()...)
	return s, nil
}

// key are the columns that data does not have.
func (s *storedRun) key() []int64 { return []int64{s.seq, s.head, s.tail, s.ids.effective} }

// appendRun appends a whole run but for the names' texts.
func appendRun(b []byte, r *Run, ids *runIDs) []byte {
	for _, id := range ids.inData() {
		b = binary.AppendVarint(b, *id)
	}
	b = appendHex(b, r.ID, true)
	b = appendHex(b, r.EndHash, false)
	b = binary.AppendUvarint(b, uint64(len(r.Labels)))
	for _, name := range slices.Sorted(maps.Keys(r.Labels)) {
		b = appendText(appendText(b, name), r.Labels[name])
	}
	exit := int64(0) // none
	if r.ExitCode != nil {
		exit = int64(*r.ExitCode)<<1 | 1
	}
	ended := int64(0)
	if r.Status != "" {
		ended = r.Ended.UnixMicro() - r.Started.UnixMicro()
	}
	for _, n := range []int64{r.CodeBytes, r.Started.UnixMicro(), ended, r.Duration.Microseconds(), r.CPU.Microseconds(), r.PeakMemory, r.StdoutBytes, r.StderrBytes, exit, r.Refusals,
		int64(r.StartSeq), int64(r.StartAt.Segment), r.StartAt.Offset, int64(r.EndSeq), int64(r.EndAt.Segment), r.EndAt.Offset} {
		b = binary.AppendVarint(b, n)
	}
	return b
}

// ids are the names that a row needs.
func (s *storedRun) needs(all map[int64]struct{}) error {
	d, err := unsummed(s.data, s.key()...)
	if err != nil {
		return err
	}
	columns := s.ids
	for _, id := range s.ids.inData() {
		*id = d.number()
		all[*id] = struct{}{}
	}
	i := &s.ids
	if d.wrong || i.user != columns.user || i.key != columns.key || i.client != columns.client || i.host != columns.host || i.script != columns.script ||
		i.version != columns.version || i.code != columns.code || i.status != columns.status {
		return errSum
	}
	return nil
}

// run is the run of a row.
func (s *storedRun) run(names nameTexts) (r Run, err error) {
	d := &decoder{text: s.data[:len(s.data)-8]} // needs has checked the sum
	for _, to := range r.texts() {
		if *to, err = names.of(d.number()); err != nil {
			return r, err
		}
	}
	r.ID, r.EndHash = readHex(d), readHex(d)
	if n := d.count(); n > 0 {
		r.Labels = make(map[string]string, n)
		for range n {
			name := string(d.bytes())
			r.Labels[name] = string(d.bytes())
		}
	}
	var started, ended, duration, cpu, exit, startSeq, startSegment, endSeq, endSegment int64
	for _, to := range []*int64{&r.CodeBytes, &started, &ended, &duration, &cpu, &r.PeakMemory, &r.StdoutBytes, &r.StderrBytes, &exit, &r.Refusals,
		&startSeq, &startSegment, &r.StartAt.Offset, &endSeq, &endSegment, &r.EndAt.Offset} {
		*to = d.number()
	}
	if d.wrong || started != s.started {
		return r, errSum
	}
	r.Started, r.Duration, r.CPU = time.UnixMicro(started).UTC(), time.Duration(duration)*time.Microsecond, time.Duration(cpu)*time.Microsecond
	if r.Status != "" {
		r.Ended = time.UnixMicro(started + ended).UTC()
	}
	if exit != 0 {
		r.ExitCode = new(int(exit >> 1))
	}
	r.StartSeq, r.EndSeq = uint64(startSeq), uint64(endSeq)
	r.StartAt.Segment, r.EndAt.Segment = uint64(startSegment), uint64(endSegment)
	if r.StartAt != (audit.Place{}) {
		r.StartAt.Seq = r.StartSeq
	}
	if r.EndAt != (audit.Place{}) {
		r.EndAt.Seq = r.EndSeq
	}
	return r, nil
}

// How a text of hexadecimal digits is stored.
const (
	asText = iota
	asHex
	asUUID // the same, with dashes
)

// appendHex appends a text, in half the space if it is a hash or a run id as py3run writes them.
func appendHex(b []byte, text string, uuid bool) []byte {
	digits, how := text, asHex
	if uuid {
		how = asUUID
		if len(text) == 36 && text[8] == '-' && text[13] == '-' && text[18] == '-' && text[23] == '-' {
			digits = text[:8] + text[9:13] + text[14:18] + text[19:23] + text[24:]
		} else {
			how = asText
		}
	}
	raw, err := hex.DecodeString(digits)
	if how == asText || err != nil || hex.EncodeToString(raw) != digits {
		return appendText(append(b, asText), text)
	}
	b = append(b, byte(how))
	return append(binary.AppendUvarint(b, uint64(len(raw))), raw...)
}

func readHex(d *decoder) string {
	how := d.natural()
	raw := d.bytes()
	switch how {
	case asHex:
		return hex.EncodeToString(raw)
	case asUUID:
		t := hex.EncodeToString(raw)
		if len(t) != 32 {
			d.fail()
			return ""
		}
		return t[:8] + "-" + t[8:12] + "-" + t[12:16] + "-" + t[16:20] + "-" + t[20:]
	}
	return string(raw)
}

// scanRuns reads rows of runs to their end, and closes them.
func scanRuns(db querier, names *nameBook, rows *sql.Rows) ([]Run, error) {
	defer rows.Close()
	var stored []storedRun
	ids := map[int64]struct{}{}
	for rows.Next() {
		var s storedRun
		if err := s.scan(rows); err != nil {
			return nil, err
		}
		if err := s.needs(ids); err != nil {
			return nil, err
		}
		stored = append(stored, s)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}
	texts, err := names.learn(db, ids)
	if err != nil {
		return nil, err
	}
	list := make([]Run, len(stored))
	for i := range stored {
		if list[i], err = stored[i].run(texts); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// selectRuns reads the runs that a rest of a statement selects.
func selectRuns(db querier, names *nameBook, rest string, args ...any) ([]Run, error) {
	rows, err := db.Query("SELECT "+runColumns+" FROM runs"+rest, args...)
	if err != nil {
		return nil, err
	}
	return scanRuns(db, names, rows)
}

// labelName is the name under which labelled has a label.
func labelName(name, value string) string { return LabelText(map[string]string{name: value}) }
