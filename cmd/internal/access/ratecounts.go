package access

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A countFile is the open file of limits while it is locked.
type countFile struct {
	path    string
	fd      int
	kept    bool // the descriptor belongs to a slot
	now     instant
	salt    salt
	isNew   bool // the file was empty
	pages   int  // of the file
	trouble *Trouble
	all     *tally // of all users; nil: not read yet
}

// forming is the boot of a file that is being made.
const forming = "forming"

// open opens and locks the file. If it is missing, open makes it, or returns an error if it may not.
// What is damaged it makes anew.
func (l *Limits) open(create bool) (*countFile, error) {
	if l.path == "" {
		return nil, errors.New("limits: there is no state directory: neither XDG_STATE_HOME nor HOME is set")
	}
	f := &countFile{path: l.path, fd: -1}
	if err := f.openFile(l.path, create); err != nil {
		return nil, fmt.Errorf("open %s: %w", l.path, err)
	}
	f.now = l.clock() // not earlier: others came first while this one waited
	if err := f.check(); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// close unlocks the file.
func (f *countFile) close() {
	unlock(f.fd, fileLock)
	if !f.kept {
		unix.Close(f.fd)
	}
}

// openFile opens and locks the file. It must belong to this user alone: what else is in its place,
// openFile removes.
func (f *countFile) openFile(path string, create bool) error {
	deadline, made := time.Now().Add(patience), false
	if err := isSafeDir(filepath.Dir(path)); err != nil {
		return err
	}
	for {
		flags := unix.O_RDWR | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY
		if create {
			flags |= unix.O_CREAT
		}
		fd, err := unix.Open(path, flags, 0o600)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ENOENT && create && !made:
			made = true
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return err
			}
			continue
		case err == unix.ELOOP || err == unix.ENXIO: // a symbolic link, a socket
		case err != nil:
			return err
		}
		var st unix.Stat_t
		if err == nil {
			if err := lock(fd, fileLock, deadline); err != nil {
				unix.Close(fd)
				return err
			}
			if err := unix.Fstat(fd, &st); err != nil {
				unix.Close(fd)
				return err
			}
			if st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink == 1 && int(st.Uid) == os.Geteuid() && st.Mode&0o022 == 0 {
				f.fd, f.isNew, f.pages = fd, st.Size == 0, int(st.Size/pageSize)
				return nil
			}
			unix.Close(fd)
			if st.Nlink == 0 { // somebody has replaced it
				continue
			}
		}
		if time.Now().After(deadline) {
			return errors.New("not a file of this user alone")
		}
		if err := unix.Unlink(path); err != nil && err != unix.ENOENT {
			return fmt.Errorf("not a file of this user alone, and it cannot be removed: %w", err)
		}
		f.repaired("there was something else in the place of the file")
	}
}

// isSafeDir returns an error if another user can put a file of its own into a directory. A directory that
// does not exist is safe.
func isSafeDir(dir string) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		if err == unix.ENOENT {
			return nil
		}
		return err
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() || st.Mode&0o002 != 0 && st.Mode&unix.S_ISVTX == 0 {
		return errors.New("the directory belongs to another user, or everybody can write there")
	}
	return nil
}

// repaired notes that counts were lost.
func (f *countFile) repaired(why string) {
	if f.trouble == nil {
		f.trouble = &Trouble{warnRepaired, "the file of limits was damaged (" + why + "): what it had counted there begins anew"}
	}
}

// check makes the file anew if it is not whole, or of another boot.
func (f *countFile) check() error {
	if f.isNew {
		return f.form(nil)
	}
	head, err := f.read(headPage)
	if err != nil {
		return err
	}
	salt, boot, whole := head.head()
	switch {
	case !whole || f.pages < firstUser && boot != forming:
		f.repaired("its head")
	case boot == f.now.id:
		f.salt = salt
		return nil
	}
	waiting, err := f.refusals()
	if err != nil {
		return err
	}
	return f.form(waiting)
}

// form makes the file anew, without users. Refusals that no record has yet stay.
func (f *countFile) form(waiting []refusal) error {
	f.salt = newSalt()
	if err := f.write(headPage, headOf(f.salt, forming)); err != nil {
		return err
	}
	all := tally{}
	for i := range waiting {
		if waiting[i].again == 0 {
			waiting[i] = refusal{}
			continue
		}
		waiting[i].over, waiting[i].claimed = true, 0
		all.due = 1 // at once
	}
	text := all.page()
	text = append(text, refusalText(waiting)...)
	for range regions {
		text = append(text, tally{who: Subject{Standing: Others}}.page()...)
	}
	for range regions * indexes {
		text = append(text, newPage(kindIndex).seal()...)
	}
	if err := f.write(globalPage, text); err != nil {
		return err
	}
	if err := unix.Ftruncate(f.fd, firstUser*pageSize); err != nil {
		return fmt.Errorf("cut %s: %w", f.path, err)
	}
	f.pages, f.all = firstUser, nil
	return f.write(headPage, headOf(f.salt, f.now.id))
}

func (f *countFile) read(number int) (page, error) {
	p := make(page, pageSize)
	for n := 0; n < pageSize; {
		got, err := unix.Pread(f.fd, p[n:], int64(number)*pageSize+int64(n))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, fmt.Errorf("read %s: %w", f.path, err)
		case got == 0: // beyond the end
			return p, nil
		default:
			n += got
		}
	}
	return p, nil
}

func (f *countFile) write(number int, text []byte) error {
	for n := 0; n < len(text); {
		put, err := unix.Pwrite(f.fd, text[n:], int64(number)*pageSize+int64(n))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("write %s: %w", f.path, err)
		default:
			n += put
		}
	}
	f.pages = max(f.pages, number+len(text)/pageSize)
	return nil
}

// global returns the count of all users, which is kept for the time of the lock.
func (f *countFile) global() (*tally, error) {
	if f.all != nil {
		return f.all, nil
	}
	p, err := f.read(globalPage)
	if err != nil {
		return nil, err
	}
	t, whole := p.tally(globalMost)
	if !whole {
		f.repaired("the count of all users")
		t = tally{due: 1}
	}
	t.window, t.moved = t.window.settle(f.now.boot)
	f.all = &t
	return f.all, nil
}

// A counter is the count of a user, and where it is in the file, or where it would be.
type counter struct {
	tally     tally
	page      int
	index     page // nil: the user has no entry, and shares a count with others
	indexPage int
	entry     int
}

// idle is for how long a user has not run anything when another can have its place, in seconds.
const idle = 3600 + 60

// find returns the counter of a user. It writes nothing: a user that is refused needs none.
func (f *countFile) find(who Subject) (counter, error) {
	id := who.id(f.salt)
	at := counter{indexPage: indexPage + who.region()*indexes + int(id[0])%indexes}
	var err error
	if at.index, err = f.read(at.indexPage); err != nil {
		return counter{}, err
	}
	if !at.index.is(kindIndex) {
		f.repaired("the index of users")
		at.index = newPage(kindIndex)
	}
	place := -1 // a free entry, else the one that was not used for the longest time
	var used int64
	for i := range entries {
		e := at.index.entry(i)
		if e.page != 0 && e.id == id {
			at.entry, at.page = i, e.page
			return at, f.readCounter(&at, who, id)
		}
		if e.used = min(e.used, f.now.boot/1e6); e.page == 0 {
			e.used = -1
		}
		if place < 0 || e.used < used {
			place, used = i, e.used
		}
	}
	at.entry, at.tally = place, tally{id: id, who: who}
	at.page = at.index.entry(place).page
	switch {
	case used < 0:
		at.page, err = f.newPage()
	case used > f.now.boot/1e6-idle:
		at.page = 0
	default:
		var busy bool
		if busy, err = f.busy(at.page); busy { // a run that has lasted for longer than an hour
			at.page = 0
		}
	}
	if err != nil || at.page != 0 {
		return at, err
	}
	return f.shared(who.region())
}

// readCounter reads the count of a user that has a place.
func (f *countFile) readCounter(at *counter, who Subject, id subjectID) error {
	p, err := f.read(at.page)
	if err != nil {
		return err
	}
	t, whole := p.tally(marksMost)
	if !whole {
		f.repaired("the count of a user")
	}
	if !whole || t.id != id { // of another: a kill came before its place was noted, so it has counted nothing
		t = tally{id: id, who: who}
	}
	t.window, t.moved = t.window.settle(f.now.boot)
	at.tally = t
	return nil
}

// newPage is a page at the end of the file. Runs of a user that was forgotten there may still be under way.
func (f *countFile) newPage() (int, error) {
	for n := max(f.pages, firstUser); n < usersMost; n++ {
		if busy, err := f.busy(n); err != nil || !busy {
			return n, err
		}
	}
	return 0, nil
}

// fullAgain is when to say again that users share a count, in microseconds.
const fullAgain = hour

// shared is the counter of all users of a region for whom there is no place.
func (f *countFile) shared(region int) (counter, error) {
	p, err := f.read(othersPage + region)
	if err != nil {
		return counter{}, err
	}
	t, whole := p.tally(marksMost)
	if !whole {
		f.repaired("the count of other users")
		t = tally{who: Subject{Standing: Others}}
	}
	t.window, t.moved = t.window.settle(f.now.boot)
	if f.trouble == nil && (t.due <= f.now.boot || t.due > f.now.boot+fullAgain) {
		whose := [regions]string{"users", "names without a key"}[region]
		f.trouble = &Trouble{warnFull, fmt.Sprintf("more than %d %s have run something within an hour: others share the limits of one user", entries*indexes*3/4, whose)}
		t.due, t.moved = f.now.boot+fullAgain, true
	}
	return counter{tally: t, page: othersPage + region}, nil
}

// keep writes the count of a user, and where it is. A kill in between costs a page and no count.
func (f *countFile) keep(at counter) error {
	if err := f.write(at.page, at.tally.page()); err != nil || at.index == nil {
		return err
	}
	was, is := at.index.entry(at.entry), entry{at.tally.id, at.page, f.now.boot / 1e6}
	if was.id == is.id && was.page == is.page && is.used-was.used < 60 && is.used >= was.used {
		return nil
	}
	at.index.setEntry(at.entry, is)
	return f.write(at.indexPage, at.index.seal())
}
