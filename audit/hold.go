package audit

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"py3run/internal/atomicfile"
	"py3run/internal/filelock"
)

// The kinds of events about legal holds.
const (
	AuditHold        Action = "audit-hold"
	AuditHoldRelease Action = "audit-hold-release"
)

const (
	holdsName = "holds.json"
	holdsMost = 1000    // in force at a time
	holdsSize = 8 << 20 // bytes of the file
)

// A Hold selects records that retention must not remove. A record has to match every field that is
// set; a hold without any selects all records.
type Hold struct {
	ID      string `json:"id"`
	Since   string `json:"since,omitempty"` // RFC 3339, UTC: records from then on
	Until   string `json:"until,omitempty"` // records before then
	Run     string `json:"run,omitempty"`   // id
	User    string `json:"user,omitempty"`  // named anywhere in the record: see Matches
	Script  string `json:"script,omitempty"`
	Version string `json:"version,omitempty"` // of a stored script
	Comment string `json:"comment"`
}

// An OpenHold is a hold in force.
type OpenHold struct {
	Hold
	By  string `json:"by"`
	At  string `json:"at"`
	Seq uint64 `json:"-"` // of its record; 0: there is none, or only the file was read
}

// Matches reports whether a hold selects a record. A user is the one the work was done for, the
// holder of the key, the user of the operating system and the caller of sudo: a record about any of
// them is kept. A time that cannot be read matches.
func (h Hold) Matches(r Record, at time.Time) bool {
	if since, err := time.Parse(time.RFC3339Nano, h.Since); err == nil && !at.IsZero() && at.Before(since) {
		return false
	}
	if until, err := time.Parse(time.RFC3339Nano, h.Until); err == nil && !at.IsZero() && !at.Before(until) {
		return false
	}
	if h.User != "" && !slices.Contains([]string{r.User.Name, r.Auth.Holder, r.Auth.OSUser, r.Auth.SudoUser}, h.User) {
		return false
	}
	if h.Run != "" && r.RunID != h.Run {
		return false
	}
	return (h.Script == "" || r.Script.Name == h.Script) && (h.Version == "" || r.Script.Version == h.Version)
}

// check says why a hold is none.
func (h Hold) check() error {
	var times [2]time.Time
	for i, text := range []string{h.Since, h.Until} {
		at, err := time.Parse(time.RFC3339Nano, text)
		if text != "" && err != nil {
			return fmt.Errorf("hold %s: %q is no time", h.ID, text)
		}
		times[i] = at
	}
	switch {
	case h.ID == "":
		return errors.New("a hold without an id")
	case h.Since != "" && h.Until != "" && !times[0].Before(times[1]):
		return fmt.Errorf("hold %s: it begins at %s and ends at %s", h.ID, h.Since, h.Until)
	case h.Version != "" && h.Script == "":
		return fmt.Errorf("hold %s: a version without a script", h.ID)
	}
	return nil
}

// A holdFile is what the file of holds says. It is missing where there has never been a hold.
type holdFile struct {
	Holds []OpenHold `json:"holds"`

	missing bool
	err     error // it cannot be read, or is not such a file
}

// readHolds reads the file of holds in a directory of a log.
func readHolds(dir int) (f holdFile) {
	fd, err := unix.Openat(dir, holdsName, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return holdFile{missing: true}
	}
	if err != nil {
		return holdFile{err: err}
	}
	file := os.NewFile(uintptr(fd), holdsName)
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > holdsSize {
		return holdFile{err: errors.New("not a file of holds")}
	}
	text, err := io.ReadAll(io.LimitReader(file, holdsSize))
	if err != nil {
		return holdFile{err: err}
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err = d.Decode(&f); err == nil && d.More() {
		err = errors.New("something follows the object")
	}
	for _, h := range f.Holds {
		err = errors.Join(err, h.check())
	}
	if err != nil {
		return holdFile{err: err}
	}
	return f
}

// Holds are the holds in force by the file of holds. The error wraps ENOENT where there is none.
func (r *Reader) Holds() ([]OpenHold, error) {
	f := readHolds(r.dir)
	if f.missing {
		f.err = unix.ENOENT
	}
	if f.err != nil {
		return nil, r.failed("read", holdsName, f.err)
	}
	return f.Holds, nil
}

// writeHolds replaces the file of holds, while the log is locked: what a killed writer has left under
// the temporary name is removed. Who may read the log may read it, too.
func (l *Log) writeHolds(lock int, holds []OpenHold) error {
	text, err := json.MarshalIndent(holdFile{Holds: append([]OpenHold{}, holds...)}, "", "  ")
	if err != nil {
		return l.failed("encode", holdsName, err)
	}
	f, err := atomicfile.Create(l.dir, holdsName+".new", 0o600)
	if err != nil {
		return l.failed("make", holdsName, err)
	}
	defer f.Discard()
	if err := shareLike(int(f.Fd()), lock); err != nil {
		return l.failed("share", holdsName, err)
	}
	_, err = f.Write(append(text, '\n'))
	if err == nil {
		err = f.Put(l.dir, holdsName, 0)
	}
	if err != nil {
		return l.failed("write", holdsName, err)
	}
	return nil
}

// ErrNoHold says that no hold in force has an id.
var ErrNoHold = errors.New("no such hold is in force")

// changeHolds does something to the holds in the file while the log is locked.
func (l *Log) changeHolds(do func(lock int, holds []OpenHold) error) error {
	lock, err := l.lock()
	if err != nil {
		return err
	}
	defer filelock.Release(lock)
	f := readHolds(l.dir)
	if f.err != nil {
		return l.failed("read", holdsName, f.err)
	}
	return do(lock, f.Holds)
}

// AddHold puts a hold in force, and returns it with its id and the receipt of its record. r says who
// wants it. The hold is in force as soon as the file has it, which is before the record is written.
func (l *Log) AddHold(r Record, h Hold) (OpenHold, Receipt, error) {
	h.ID = "h" + strings.ToLower(rand.Text()[:9])
	open := OpenHold{Hold: h, By: r.User.Name, At: time.Now().UTC().Format(timeLayout)}
	var receipt Receipt
	err := l.changeHolds(func(lock int, holds []OpenHold) error {
		if err := h.check(); err != nil {
			return err
		}
		if len(holds) >= holdsMost {
			return l.failed("add a hold to", holdsName, fmt.Errorf("%d are in force already", len(holds)))
		}
		r.Event, r.Hold = Event{Action: AuditHold, Outcome: Success}, &h
		if d, _, err := l.fitWide(r); err != nil || d.record.Truncated { // file and record would differ
			return errors.Join(errors.New("the hold is too long for a record"), err)
		}
		err := l.writeHolds(lock, append(holds, open))
		if err != nil {
			return err
		}
		if receipt, err = l.addLocked(lock, r); err != nil {
			return errors.Join(err, l.writeHolds(lock, holds))
		}
		open.Seq, open.At = receipt.Seq, receipt.record.Timestamp
		return nil
	})
	return open, receipt, err
}

// ReleaseHold lifts a hold. r says who does it. The record is written before the file: if the writer
// is killed in between, the hold stays in force until it is released once more.
func (l *Log) ReleaseHold(r Record, id, comment string) (receipt Receipt, err error) {
	err = l.changeHolds(func(lock int, holds []OpenHold) error {
		at := slices.IndexFunc(holds, func(h OpenHold) bool { return h.ID == id })
		if at < 0 {
			return ErrNoHold
		}
		r.Event, r.Hold = Event{Action: AuditHoldRelease, Outcome: Success}, &Hold{ID: id, Comment: comment}
		if receipt, err = l.addLocked(lock, r); err != nil {
			return err
		}
		return l.writeHolds(lock, slices.Delete(slices.Clone(holds), at, at+1))
	})
	return receipt, err
}

// RepairHolds makes the file and the records agree again: all holds of a report stay in force. One
// without a record gets one, with the reason restored. A broken file is kept aside.
func (l *Log) RepairHolds(r Record, rep *Report) (restored []OpenHold, err error) {
	lock, err := l.lock()
	if err != nil {
		return nil, err
	}
	defer filelock.Release(lock)
	now := readHolds(l.dir)
	if now.err != nil {
		aside := holdsName + ".broken-" + time.Now().UTC().Format("20060102T150405.000000")
		if err := unix.Renameat2(l.dir, holdsName, l.dir, aside, unix.RENAME_NOREPLACE); err != nil {
			return nil, l.failed("keep aside", holdsName, err)
		}
	}
	holds := slices.Clone(rep.Holds)
	for i := range holds {
		h := &holds[i]
		known := slices.ContainsFunc(now.Holds, func(o OpenHold) bool { return o.ID == h.ID && o.Hold == h.Hold })
		if known && h.Seq > 0 {
			continue
		}
		restored = append(restored, *h)
		if h.Seq > 0 {
			continue // only the file has lost it
		}
		rec := r
		rec.Event, rec.Hold = Event{Action: AuditHold, Outcome: Success, Reason: "restored"}, &h.Hold
		receipt, err := l.addLocked(lock, rec)
		if err != nil {
			return restored, err
		}
		h.Seq = receipt.Seq
	}
	for _, h := range now.Holds { // that somebody has added meanwhile
		if !slices.ContainsFunc(holds, func(o OpenHold) bool { return o.ID == h.ID }) {
			holds = append(holds, h)
		}
	}
	return restored, l.writeHolds(lock, holds)
}

// hold takes a record about a hold.
func (v *verifier) hold(f *facts, rec Record) {
	h := rec.Hold
	if h == nil {
		v.add(Broken, LineForm, f.seq, "record %d: an %s that does not tell which hold", f.seq, f.action)
		return
	}
	rep := v.report
	at := slices.IndexFunc(rep.Holds, func(o OpenHold) bool { return o.ID == h.ID })
	switch {
	case Action(f.action) == AuditHoldRelease && at >= 0:
		rep.Holds = slices.Delete(rep.Holds, at, at+1)
	case Action(f.action) == AuditHold && at < 0:
		rep.Holds = append(rep.Holds, OpenHold{Hold: *h, By: rec.User.Name, At: rec.Timestamp, Seq: f.seq})
	}
}

// holds compares the holds that are in force by the records with the file. Those that only the file
// has are in force, too.
func (v *verifier) holds() {
	rep := v.report
	if len(rep.Unread) > 0 { // records of holds may stand where this user could not read
		rep.HoldsFault = "some records could not be read"
		return
	}
	var faults []string
	switch {
	case v.kept.err != nil:
		faults = append(faults, fmt.Sprintf("%s: %v", holdsName, v.kept.err))
	case v.kept.missing && len(rep.Holds) > 0:
		faults = append(faults, fmt.Sprintf("%s is not there, and %d holds are in force by the records", holdsName, len(rep.Holds)))
	}
	for _, h := range rep.Holds {
		at := slices.IndexFunc(v.kept.Holds, func(o OpenHold) bool { return o.ID == h.ID })
		switch {
		case v.kept.err != nil || v.kept.missing:
		case at < 0:
			faults = append(faults, fmt.Sprintf("hold %s of record %d is not in %s", h.ID, h.Seq, holdsName))
		case v.kept.Holds[at].Hold != h.Hold:
			faults = append(faults, fmt.Sprintf("hold %s of record %d is another one in %s", h.ID, h.Seq, holdsName))
		}
	}
	recorded := len(rep.Holds)
	for _, h := range v.kept.Holds {
		if !slices.ContainsFunc(rep.Holds[:recorded], func(o OpenHold) bool { return o.ID == h.ID }) {
			faults = append(faults, fmt.Sprintf("hold %s is in %s, and in force by no record", h.ID, holdsName))
			rep.Holds = append(rep.Holds, h)
		}
	}
	if len(faults) > 0 {
		rep.HoldsFault = strings.Join(faults, "; ")
		severity := Warning
		if !v.locked || errors.Is(v.kept.err, unix.EACCES) { // a hold may just have been added; who may only read the log may have no access to the file
			severity = Note
		}
		v.add(severity, HoldsDiffer, 0, "%s: nothing is removed until py3runctl audit hold repair", rep.HoldsFault)
	}
}
