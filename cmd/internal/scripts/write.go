package scripts

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/access"
	"py3run/internal/atomicfile"
	"py3run/internal/filelock"
)

// A Draft is what Save stores. Nil means: as it was.
type Draft struct {
	Code        []byte
	Comment     string // on this version
	Description *string
	Public      *bool
	Origin      *Origin
}

// An Edit is who changes a script, when, and on what condition.
type Edit struct {
	By        string    // becomes the author of a version, and of a new script
	At        time.Time // zero: now
	IfVersion *int      // the version that the writer has seen, 0 for none; nil: whatever there is

	// May says whether the change is allowed, under the lock; nil: the name was never used. Its error
	// is returned as it is.
	May func(old *Meta) error
}

// A Change is what was changed. Old and New are the current versions before and after; Number 0: none.
type Change struct {
	Meta     Meta // as it is now
	Old, New Version
	Changes  []string // short sentences; empty: everything was so already
}

// Save stores a text as the next version of a script, or makes the script. If the current version
// has the same bytes, there is no new version. Errors are *[NameError], *[DeclarationError],
// *[ConflictError], *[DamageError], what May returns, and those of the system.
func (s *Store) Save(name string, d Draft, e Edit) (Change, error) {
	if err := BadName(name); err != nil {
		return Change{}, err
	}
	declared, err := Declared(d.Code)
	if err == nil {
		err = d.check()
	}
	if err != nil {
		return Change{}, fmt.Errorf("save script %s: %w", name, err)
	}
	return s.change(name, e, true, func(w *writer) error {
		m := &w.head.Meta
		if w.head.Latest == 0 {
			*m = Meta{Name: name, Author: e.By, Created: e.At}
		}
		if d.Description != nil && *d.Description != m.Description {
			m.Description = *d.Description
			w.note("description")
		}
		if d.Public != nil && *d.Public != m.Public {
			w.note(publicNote + yesNo(m.Public) + " -> " + yesNo(*d.Public))
			m.Public = *d.Public
		}
		if d.Origin != nil && (m.Origin == nil || *m.Origin != *d.Origin) {
			m.Origin = d.Origin
			w.note("origin")
		}
		sum := hexSHA256(d.Code)
		if m.Current > 0 && w.head.Version.SHA256 == sum {
			return nil
		}
		if err := w.putObject(sum, d.Code); err != nil {
			return err
		}
		return w.addVersion(Version{SHA256: sum, Bytes: int64(len(d.Code)), Author: e.By, At: e.At, Comment: d.Comment, Variables: declared})
	})
}

// Try says whether Save would succeed, and stores nothing.
func (s *Store) Try(name string, d Draft, e Edit) error {
	if err := BadName(name); err != nil {
		return err
	}
	_, err := Declared(d.Code)
	if err = cmp.Or(err, d.check()); err != nil {
		return fmt.Errorf("save script %s: %w", name, err)
	}
	return s.mayChange(name, e, true)
}

func (d Draft) check() error {
	description := ""
	if d.Description != nil {
		description = *d.Description
	}
	switch {
	case len(d.Code) > CodeMost:
		return fmt.Errorf("has %d bytes, at most %d are allowed", len(d.Code), CodeMost)
	case !utf8.Valid(d.Code):
		return errors.New("is not UTF-8; save the file as UTF-8")
	case bytes.IndexByte(d.Code, 0) >= 0:
		return errors.New("has a NUL byte, which Python does not accept")
	}
	for _, text := range []struct{ what, text string }{{"description", description}, {"comment", d.Comment}} {
		if len(text.text) > TextMost || !utf8.ValidString(text.text) {
			return fmt.Errorf("%s: want at most %d bytes of UTF-8", text.what, TextMost)
		}
	}
	return nil
}

// Delete deletes a script. Its versions stay in the history. Its shares end: a script that is saved
// under that name later does not have them.
func (s *Store) Delete(name string, e Edit) (Change, error) {
	return s.change(name, e, false, func(w *writer) error {
		w.head.Public, w.head.Shares = false, nil
		return w.addVersion(Version{Author: e.By, At: e.At, Deleted: true})
	})
}

// Publish makes a script public, or private again.
func (s *Store) Publish(name string, public bool, e Edit) (Change, error) {
	return s.change(name, e, false, func(w *writer) error {
		if w.head.Public != public {
			w.note(publicNote + yesNo(w.head.Public) + " -> " + yesNo(public))
			w.head.Public = public
		}
		return nil
	})
}

// Share lets a user, or group:NAME, do exactly these actions with a script; none: nothing.
func (s *Store) Share(name, with string, actions []access.Action, e Edit) (Change, error) {
	for _, a := range actions {
		if !slices.Contains(shareable, a) {
			return Change{}, fmt.Errorf("share script %s: %q: want run, read or write", name, a)
		}
	}
	return s.change(name, e, false, func(w *writer) error {
		at := slices.IndexFunc(w.head.Shares, func(s access.Share) bool { return s.With == with })
		var old, now []access.Action
		if at >= 0 {
			old = w.head.Shares[at].Actions
		}
		for _, a := range shareable { // in one order, each once
			if slices.Contains(actions, a) {
				now = append(now, a)
			}
		}
		shares := slices.Clone(w.head.Shares)
		switch {
		case slices.Equal(old, now):
			return nil
		case at < 0 && len(shares) == sharesMost:
			return fmt.Errorf("share script %s: it is shared with %d already; share it with a group", name, sharesMost)
		case at < 0:
			shares = append(shares, access.Share{With: with, Actions: now})
		case now == nil:
			shares = slices.Delete(shares, at, at+1)
		default:
			shares[at].Actions = now
		}
		w.head.Shares = shares
		w.note(sharedNote + with + ": " + actionList(old) + " -> " + actionList(now))
		return nil
	})
}

var shareable = []access.Action{access.ToRun, access.ToRead, access.ToWrite}

func actionList(list []access.Action) string {
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(access.Names(list), ", ")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// A writer changes one script under its lock.
type writer struct {
	store   *Store
	dir     int
	lock    int  // of the script
	shared  int  // the lock of the store
	head    head // as it will be
	changes []string
}

func (w *writer) note(change string) { w.changes = append(w.changes, change) }

// change does what all changes have in common. With make, there need not be such a script.
func (s *Store) change(name string, e Edit, make bool, do func(*writer) error) (c Change, err error) {
	if err := BadName(name); err != nil {
		return c, err
	}
	if err := s.mayChange(name, e, make); err != nil { // before anything is made
		return c, err
	}
	w, err := s.writer(name, make)
	if err != nil {
		return c, fmt.Errorf("change script %s: %w", name, err)
	}
	defer w.close()
	old := w.head
	if err := allowed(name, old, e, make); err != nil {
		return c, err
	}
	if err := do(w); err != nil {
		return c, err
	}
	c = Change{Meta: w.head.Meta, Changes: w.changes}
	if old.Current > 0 {
		c.Old = old.Version
	}
	if w.head.Current > 0 {
		c.New = w.head.Version
	}
	if len(w.changes) == 0 {
		return c, nil
	}
	if err := w.commit(); err != nil {
		return Change{}, fmt.Errorf("change script %s: %w", name, err)
	}
	return c, nil
}

func (s *Store) mayChange(name string, e Edit, make bool) error {
	h, err := s.head(name)
	if err != nil && err != unix.ENOENT {
		return err
	}
	return allowed(name, h, e, make)
}

// allowed tells whether a script in this state may be changed. Latest 0: there is none.
func allowed(name string, h head, e Edit, make bool) error {
	if !make && h.Latest == 0 {
		return NotFound(name)
	}
	if e.May != nil {
		var old *Meta
		if h.Latest > 0 {
			old = &h.Meta
		}
		if err := e.May(old); err != nil {
			return err
		}
	}
	if !make && h.Current == 0 {
		return &NotFoundError{name, &h.Meta}
	}
	if e.IfVersion != nil && *e.IfVersion != h.Current {
		conflict := &ConflictError{Name: name, Want: *e.IfVersion}
		if h.Current > 0 {
			conflict.Current = h.Version
		}
		return conflict
	}
	return nil
}

const (
	newMeta   = "new-meta" // these two are removed by the next writer after a kill
	newObject = "new-object"
)

// writer takes the lock of a script and reads what is there.
func (s *Store) writer(name string, make bool) (w *writer, err error) {
	w = &writer{store: s, dir: -1, lock: -1, shared: -1}
	defer func() {
		if err != nil {
			w.close()
			w = nil
		}
	}()
	if make {
		if err := s.make(); err != nil {
			return w, err
		}
	}
	if w.shared, err = s.share(); err != nil {
		return w, err
	}
	if make {
		if err := s.makeDirs(dirOf(name)); err != nil {
			return w, err
		}
	}
	if w.dir, err = s.sub(namesDir, dirOf(name)); err != nil {
		return w, err
	}
	lock, err := openAt(w.dir, lockName, unix.O_RDWR|unix.O_CREAT, 0o600|s.mode&0o060)
	if err == nil {
		err = filelock.Take(lock, unix.LOCK_EX, time.Now().Add(lockPatience), nil)
	}
	if err == filelock.ErrTimeout {
		return w, errBusy
	}
	if err != nil {
		return w, fmt.Errorf("lock: %w", err)
	}
	w.lock = lock
	if w.head, err = readHead(w.dir, name); err == unix.ENOENT {
		w.head, err = head{}, nil
	}
	return w, err
}

func (w *writer) close() {
	for _, fd := range []int{w.lock, w.shared} {
		if fd >= 0 {
			filelock.Release(fd)
		}
	}
	if w.dir >= 0 {
		unix.Close(w.dir)
	}
}

// make makes the directory of the store, unless it exists.
func (s *Store) make() error {
	if s.fd >= 0 {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(s.dir), 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(s.dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := s.open(); err != nil {
		return fmt.Errorf("open scripts %s: %w", s.dir, err)
	}
	return nil
}

// makeDirs makes the directories that a script needs below the store.
func (s *Store) makeDirs(name string) error {
	for _, d := range []struct {
		in   []string
		name string
	}{{nil, objectsDir}, {nil, namesDir}, {[]string{namesDir}, name}} {
		at := s.fd
		if d.in != nil {
			var err error
			if at, err = s.sub(d.in...); err != nil {
				return err
			}
			defer unix.Close(at)
		}
		err := unix.Mkdirat(at, d.name, 0o700|s.mode)
		if err == nil {
			err = unix.Fsync(at)
		}
		if err != nil && err != unix.EEXIST {
			return fmt.Errorf("make directory %s: %w", d.name, err)
		}
	}
	return nil
}

// putFile writes a file in the script's directory, and moves it to its place when it is on the disk.
func (w *writer) putFile(temporary string, data []byte, mode uint32, to int, name string) error {
	f, err := atomicfile.Create(w.dir, temporary, mode|w.store.mode&0o040)
	if err != nil {
		return fmt.Errorf("make %s: %w", name, err)
	}
	defer f.Discard()
	if _, err = f.Write(data); err == nil {
		err = f.Put(to, name, 0)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// putObject stores bytes by their hash, unless they are there. An object with other bytes is replaced.
func (w *writer) putObject(sum string, code []byte) error {
	dir, err := w.store.sub(objectsDir)
	if err != nil {
		return fmt.Errorf("open %s: %w", objectsDir, err)
	}
	defer unix.Close(dir)
	if there, err := readAt(dir, sum, CodeMost); err == nil && hexSHA256(there) == sum {
		return nil
	}
	return w.putFile(newObject, code, 0o400, dir, sum)
}

// addVersion appends a version to the history and makes it the current one. It counts only with commit.
func (w *writer) addVersion(v Version) error {
	before := "nothing"
	if w.head.Current > 0 {
		before = strconv.Itoa(w.head.Current)
	}
	v.Number = w.head.Latest + 1
	text, err := encode(line{v, w.head.HistoryHash})
	if err == nil {
		err = w.append(text)
	}
	if err != nil {
		return fmt.Errorf("change script %s: %w", w.head.Name, err)
	}
	w.head.Version, w.head.Latest, w.head.Current = v, v.Number, v.Number
	after := strconv.Itoa(v.Number)
	if v.Deleted {
		w.head.Current, after = 0, "deleted"
	}
	w.head.HistoryBytes += int64(len(text))
	w.head.HistoryHash = hexSHA256(bytes.TrimSuffix(text, []byte("\n")))
	w.note("version " + before + " -> " + after)
	return nil
}

// append writes a line behind those that meta.json vouches for. What stands there is of a writer
// that was killed before its version counted, and is cut.
func (w *writer) append(text []byte) error {
	if w.head.Latest > 0 {
		if _, err := readHistory(w.dir, w.head); err != nil {
			return err
		}
	}
	fd, err := openAt(w.dir, historyName, unix.O_WRONLY|unix.O_CREAT, 0o600|w.store.mode&0o040)
	if err != nil {
		return fmt.Errorf("open %s: %w", historyName, err)
	}
	f := os.NewFile(uintptr(fd), historyName)
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = errors.New("is not a regular file")
	case w.head.HistoryBytes+int64(len(text)) > historyMost:
		err = fmt.Errorf("has no room for another version: at most %d bytes", historyMost)
	default:
		err = f.Truncate(w.head.HistoryBytes)
	}
	if err == nil {
		_, err = f.WriteAt(text, w.head.HistoryBytes)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", historyName, err)
	}
	return nil
}

// commit is the one moment at which a change happens.
func (w *writer) commit() error {
	w.head.Format = formatNow
	text, err := encode(w.head)
	if err != nil {
		return err
	}
	if len(text) > metaMost {
		return fmt.Errorf("%s would have %d bytes, at most %d are allowed", metaName, len(text), metaMost)
	}
	return w.putFile(newMeta, text, 0o600, w.dir, metaName)
}
