package scripts

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	objectsDir  = "objects"
	namesDir    = "names"
	metaName    = "meta.json"
	historyName = "versions.jsonl"
	lockName    = "lock"
)

// A Store is a directory of scripts. Many processes can use the same one at once.
type Store struct {
	dir  string
	fd   int    // of dir; -1: it does not exist
	mode uint32 // bits that its files have for the group
}

// Open opens the store in a directory, which need not exist. It refuses a directory that belongs to
// somebody else, or that others could read, or the group change. Empty, there is no place for scripts.
func Open(dir string) (*Store, error) {
	if dir == "" {
		return nil, errors.New("open scripts: no place for them: HOME and XDG_STATE_HOME are not set")
	}
	s := &Store{dir: dir, fd: -1}
	err := s.open()
	if err == unix.ENOENT {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open scripts %s: %w", dir, err)
	}
	return s, nil
}

// Close releases the store.
func (s *Store) Close() {
	if s.fd >= 0 {
		unix.Close(s.fd)
		s.fd = -1
	}
}

func (s *Store) open() error {
	fd, err := openAt(unix.AT_FDCWD, s.dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	switch {
	case err != nil:
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		err = fmt.Errorf("belongs to user %d, not to this user or root", st.Uid)
	case st.Mode&0o027 != 0:
		err = fmt.Errorf("has mode %04o: others can read it or the group can change it (chmod 0700)", st.Mode&0o7777)
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	s.fd, s.mode = fd, st.Mode&0o050
	return nil
}

// openAt never follows a link in the last part of a path, and waits for no pipe.
func openAt(at int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(at, name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// sub opens a directory below the store. Each part is opened by itself, so that no link is followed.
func (s *Store) sub(parts ...string) (int, error) {
	if s.fd < 0 {
		return -1, unix.ENOENT
	}
	at := s.fd
	for _, part := range parts {
		next, err := openAt(at, part, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if at != s.fd {
			unix.Close(at)
		}
		if err != nil {
			return -1, err
		}
		at = next
	}
	return at, nil
}

// readAt reads a regular file of at most so many bytes.
func readAt(at int, name string, most int64) ([]byte, error) {
	fd, err := openAt(at, name, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.New("is not a regular file")
	}
	text := make([]byte, 0, min(st.Size, most)+1)
	for {
		n, err := unix.Read(fd, text[len(text):cap(text)])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, err
		case n == 0:
			return text, nil
		case int64(len(text)+n) > most:
			return nil, fmt.Errorf("has more than %d bytes", most)
		default:
			text = slices.Grow(text[:len(text)+n], 1)
		}
	}
}

// Resolve returns the script that NAME or NAME@VERSION names, with the bytes whose hash was checked.
// It takes no lock: a version that is there stays what it is.
//
// With a *[NotFoundError] or a *[DamageError] the script's Meta is returned as far as it is known:
// first ask whether the caller may know of it.
func (s *Store) Resolve(ref string) (Script, error) {
	name, version, err := ParseRef(ref)
	if err != nil {
		return Script{}, err
	}
	return s.read(ref, name, version, false)
}

// Text returns a version of a script, also of a deleted one; 0: the current one.
func (s *Store) Text(name string, version int) (Script, error) {
	if err := BadName(name); err != nil {
		return Script{}, err
	}
	ref := name
	if version > 0 {
		ref = fmt.Sprintf("%s@%d", name, version)
	}
	return s.read(ref, name, version, true)
}

func (s *Store) read(ref, name string, version int, deleted bool) (Script, error) {
	dir, err := s.sub(namesDir, dirOf(name))
	if err == unix.ENOENT {
		return Script{}, NotFound(ref)
	}
	if err != nil {
		return Script{}, damage(name, namesDir+"/"+dirOf(name), err)
	}
	defer unix.Close(dir)
	h, err := readHead(dir, name)
	if err == unix.ENOENT {
		return Script{}, NotFound(ref)
	}
	if err != nil {
		return Script{}, err
	}
	script := Script{Meta: h.Meta, Version: h.Version}
	if h.Current == 0 && !(deleted && version > 0) || version > h.Latest {
		return Script{Meta: h.Meta}, &NotFoundError{ref, &h.Meta}
	}
	if version > 0 && version != h.Latest {
		list, err := readHistory(dir, h)
		if err == nil {
			script.Version, err = versionAt(h, list, version)
		}
		if err == nil {
			script.Removed, err = deletedSince(h, list, version)
		}
		if err != nil {
			return script, err
		}
	}
	if script.Version.Deleted {
		return Script{Meta: h.Meta}, &NotFoundError{ref, &h.Meta}
	}
	script.Code, err = s.object(name, script.Version)
	return script, err
}

// object returns the bytes of a version.
func (s *Store) object(name string, v Version) ([]byte, error) {
	what := objectsDir + "/" + v.SHA256
	dir, err := s.sub(objectsDir)
	if err != nil {
		return nil, damage(name, objectsDir, err)
	}
	defer unix.Close(dir)
	code, err := readAt(dir, v.SHA256, CodeMost)
	if err != nil {
		return nil, damage(name, what, err)
	}
	if sum := hexSHA256(code); sum != v.SHA256 {
		return nil, &DamageError{name, what, "its bytes are not those that were saved: their SHA-256 is " + sum}
	}
	return code, nil
}

// damage is an error about a file that has to be there.
func damage(name, what string, err error) error {
	if errno := unix.Errno(0); errors.As(err, &errno) && errno != unix.ENOENT && errno != unix.ELOOP && errno != unix.ENOTDIR {
		return fmt.Errorf("read script %s: %s: %w", name, what, err) // the host's trouble, as EACCES or EIO
	}
	return &DamageError{name, what, err.Error()}
}

// readHead reads the meta.json in a directory of names; unix.ENOENT: there is no such script.
func readHead(dir int, name string) (head, error) {
	what := namesDir + "/" + dirOf(name) + "/" + metaName
	text, err := readAt(dir, metaName, metaMost)
	if err == unix.ENOENT {
		return head{}, err
	}
	if err != nil {
		return head{}, damage(name, what, err)
	}
	h, err := decodeHead(text)
	if err == nil && h.Name != name {
		err = fmt.Errorf("belongs to the script %s", shown(h.Name))
	}
	if err != nil {
		return head{}, &DamageError{name, what, err.Error()}
	}
	return h, nil
}

// readHistory returns the lines that meta.json vouches for, and checks that they are the ones that
// were written. It reads no more of a line than its end: a run wants only one of them.
func readHistory(dir int, h head) (list [][]byte, err error) {
	text, err := readAt(dir, historyName, historyMost)
	if err != nil {
		return nil, damage(h.Name, historyOf(h.Name), err)
	}
	wrong := func(format string, args ...any) ([][]byte, error) {
		return nil, &DamageError{h.Name, historyOf(h.Name), fmt.Sprintf(format, args...)}
	}
	if int64(len(text)) < h.HistoryBytes {
		return wrong("has %d bytes, and should have %d", len(text), h.HistoryBytes)
	}
	prev := ""
	for one := range bytes.Lines(text[:h.HistoryBytes]) {
		one = bytes.TrimSuffix(one, []byte("\n"))
		if !bytes.HasSuffix(one, []byte(`"prev":"`+prev+`"}`)) {
			return wrong("line %d does not follow the line before it: one of them was edited", len(list)+1)
		}
		prev = hexSHA256(one)
		list = append(list, one)
	}
	if len(list) != h.Latest || prev != h.HistoryHash {
		return wrong("its last line is not the one that was written")
	}
	return list, nil
}

func historyOf(name string) string { return namesDir + "/" + dirOf(name) + "/" + historyName }

// versionAt reads a line of a history; the first is version 1.
func versionAt(h head, list [][]byte, number int) (Version, error) {
	v, err := decodeLine(list[number-1])
	if err == nil && v.Number != number {
		err = fmt.Errorf("has version %d", v.Number)
	}
	if err != nil {
		return Version{}, &DamageError{h.Name, historyOf(h.Name), fmt.Sprintf("line %d: %v", number, err)}
	}
	return v, nil
}

// deletedSince reports whether a script was deleted after a version.
func deletedSince(h head, list [][]byte, number int) (bool, error) {
	for i := number; i < len(list); i++ {
		if !bytes.Contains(list[i], []byte(`"deleted":true`)) { // a default can have these bytes, too
			continue
		}
		if v, err := versionAt(h, list, i+1); err != nil || v.Deleted {
			return v.Deleted, err
		}
	}
	return false, nil
}

// An Entry is a script in a list, with its current version.
type Entry struct {
	Meta
	Version Version `json:"version"`
}

// List returns the scripts that are not deleted, by name. One that cannot be read is an error in its
// place, and the list goes on.
func (s *Store) List() iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for e, err := range s.All() {
			if (err != nil || e.Current > 0) && !yield(e, err) {
				return
			}
		}
	}
}

// All returns the scripts as List does, deleted ones included.
func (s *Store) All() iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		names, err := s.names()
		if err != nil {
			yield(Entry{}, err)
			return
		}
		for _, name := range names {
			h, err := s.head(name)
			if err != unix.ENOENT && !yield(Entry{h.Meta, h.Version}, err) {
				return
			}
		}
	}
}

// names are the names of all scripts, deleted ones included.
func (s *Store) names() ([]string, error) {
	fd, err := s.sub(namesDir)
	if err == unix.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list scripts %s: %w", s.dir, err)
	}
	dir := os.NewFile(uintptr(fd), namesDir)
	defer dir.Close()
	all, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list scripts %s: %w", s.dir, err)
	}
	var names []string
	for _, one := range all {
		if name := nameOf(one); BadName(name) == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func (s *Store) head(name string) (head, error) {
	dir, err := s.sub(namesDir, dirOf(name))
	if err == unix.ENOENT {
		return head{}, err
	}
	if err != nil {
		return head{}, damage(name, namesDir+"/"+dirOf(name), err)
	}
	defer unix.Close(dir)
	return readHead(dir, name)
}

// Find returns what is known about a script, deleted or not, without its text.
func (s *Store) Find(name string) (Entry, error) {
	if err := BadName(name); err != nil {
		return Entry{}, err
	}
	h, err := s.head(name)
	if err == unix.ENOENT {
		return Entry{}, NotFound(name)
	}
	return Entry{h.Meta, h.Version}, err
}

// History returns all versions of a script, also of a deleted one, oldest first.
func (s *Store) History(name string) (Meta, []Version, error) {
	if err := BadName(name); err != nil {
		return Meta{}, nil, err
	}
	dir, err := s.sub(namesDir, dirOf(name))
	if err == unix.ENOENT {
		return Meta{}, nil, NotFound(name)
	}
	if err != nil {
		return Meta{}, nil, damage(name, namesDir+"/"+dirOf(name), err)
	}
	defer unix.Close(dir)
	h, err := readHead(dir, name)
	if err == unix.ENOENT {
		err = NotFound(name)
	}
	if err != nil {
		return Meta{}, nil, err
	}
	list, err := readHistory(dir, h)
	versions := make([]Version, len(list))
	for i := range list {
		if versions[i], err = versionAt(h, list, i+1); err != nil {
			break
		}
	}
	return h.Meta, versions, err
}
