package scripts

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/access"
	"py3run/internal/filelock"
)

// Swept is what Sweep has removed.
type Swept struct {
	Texts int   // that no version of any script refers to
	Bytes int64 // of these
	Names int   // of scripts that were never saved
}

// Sweep removes what killed and failed writers have left: texts that no version refers to, directories of
// scripts that never got a version, files that are not whole. Versions of deleted scripts stay, and so do
// their texts.
//
// It has the store alone: a writer puts the text first and its version last. While others are changing
// scripts, it does nothing. It does nothing either where it cannot read every history: then it does not
// know which texts are needed. Readers need no lock: what they look for, a version refers to.
func Sweep(dir string) (swept Swept, err error) {
	s, err := Open(dir)
	if err != nil || s.fd < 0 {
		return swept, err
	}
	defer s.Close()
	lock, err := openAt(s.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err == nil {
		defer filelock.Release(lock)
		err = unix.Flock(lock, unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		err = isInPlace(lock, dir)
	}
	if err == nil {
		err = s.sweep(&swept)
	}
	if err == unix.EWOULDBLOCK || err == errReplaced {
		return swept, nil
	}
	if err != nil {
		return swept, fmt.Errorf("sweep scripts %s: %w", dir, err)
	}
	return swept, nil
}

func (s *Store) sweep(swept *Swept) error {
	all, err := s.entries(namesDir)
	if err != nil {
		return err
	}
	needed := map[string]bool{}
	var unsaved []string
	for _, one := range all {
		_, versions, err := s.History(nameOf(one))
		missing := new(NotFoundError)
		switch {
		case errors.As(err, &missing):
			if err := s.neverSaved(one); err != nil {
				return err
			}
			unsaved = append(unsaved, one)
		case err != nil:
			return err
		}
		for _, v := range versions {
			needed[v.SHA256] = true
		}
	}
	if err := s.removeTexts(needed, swept); err != nil {
		return err
	}
	for _, one := range all {
		if err := s.removeFiles(one, newMeta, newObject); err != nil {
			return err
		}
	}
	for _, one := range unsaved {
		if err := s.removeFiles(one, historyName, lockName); err != nil {
			return err
		}
		if err := s.removeDir(one); err != nil {
			return err
		}
		swept.Names++
	}
	return nil
}

// neverSaved refuses a directory without a meta.json if it had one once: its history has more than the one
// line that a killed first writer leaves.
func (s *Store) neverSaved(dir string) error {
	fd, err := s.sub(namesDir, dir)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer unix.Close(fd)
	text, err := readAt(fd, historyName, historyMost)
	switch {
	case err == unix.ENOENT:
		return nil
	case err != nil:
		return fmt.Errorf("read %s/%s: %w", dir, historyName, err)
	case bytes.Count(text, []byte("\n")) > 1:
		return damage(nameOf(dir), namesDir+"/"+dir+"/"+metaName, unix.ENOENT)
	}
	return nil
}

// entries lists a directory of the store.
func (s *Store) entries(name string) ([]string, error) {
	fd, err := s.sub(name)
	if err == unix.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	return dir.Readdirnames(-1)
}

// removeTexts removes the texts that are not needed.
func (s *Store) removeTexts(needed map[string]bool, swept *Swept) error {
	texts, err := s.entries(objectsDir)
	if err != nil || len(texts) == 0 {
		return err
	}
	dir, err := s.sub(objectsDir)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	for _, sum := range texts {
		if needed[sum] || !access.IsHash(sum) {
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstatat(dir, sum, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("look at %s: %w", sum, err)
		}
		if err := unix.Unlinkat(dir, sum, 0); err != nil {
			return fmt.Errorf("remove %s: %w", sum, err)
		}
		swept.Texts++
		swept.Bytes += st.Size
	}
	return nil
}

// removeFiles removes files of a script's directory, as far as they are there.
func (s *Store) removeFiles(dir string, names ...string) error {
	fd, err := s.sub(namesDir, dir)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer unix.Close(fd)
	for _, name := range names {
		if err := unix.Unlinkat(fd, name, 0); err != nil && err != unix.ENOENT {
			return fmt.Errorf("remove %s/%s: %w", dir, name, err)
		}
	}
	return nil
}

// removeDir removes the directory of a script, unless there is something else in it.
func (s *Store) removeDir(dir string) error {
	names, err := s.sub(namesDir)
	if err != nil {
		return err
	}
	defer unix.Close(names)
	if err := unix.Unlinkat(names, dir, unix.AT_REMOVEDIR); err != nil && err != unix.ENOTEMPTY && err != unix.EEXIST {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}
