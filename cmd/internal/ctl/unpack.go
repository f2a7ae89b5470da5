package ctl

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/scripts"
)

// What a compressed backup can unpack to, so that a small file cannot fill the disk: so many times its
// size, and always so much. Writing one keeps to that, too.
const (
	unpackedTimes = 100
	unpackedLeast = 64 << 20
)

// unpackedMost is what a compressed backup of a size can unpack to, in bytes.
func unpackedMost(size int64) int64 { return max(unpackedLeast, min(size, 1<<40)*unpackedTimes) }

// diskReserve stays free on the disk that a backup is unpacked on, in bytes.
const diskReserve = 64 << 20

// A boundedReader fails where it would read more than it may.
type boundedReader struct {
	from io.Reader
	left int64
	most int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, &tooLargeError{fmt.Sprintf("it unpacks to more than %d bytes, which is too much for a file of its size", b.most)}
	}
	n, err := b.from.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// hasRoom says whether a file fits on the disk of a directory.
func hasRoom(dir *os.File, name string, size int64) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil {
		return fmt.Errorf("look at the disk of %s: %w", dir.Name(), err)
	}
	if free := int64(st.Bavail) * st.Bsize; size > free-diskReserve {
		return fmt.Errorf("%s has %d bytes, and on the disk of %s %d are free, of which %d have to stay", name, size, dir.Name(), free, int64(diskReserve))
	}
	return nil
}

// unpack writes the files of a backup into an empty directory, and compares them with the manifest.
func unpack(path, dir string) (m manifest, err error) {
	f, err := os.Open(path)
	if err != nil {
		return m, err
	}
	defer f.Close()
	from, err := unpackedReader(f, isPacked(path))
	if err != nil {
		return m, err
	}
	place, err := os.Open(dir)
	if err != nil {
		return m, err
	}
	defer place.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return m, err
	}
	defer root.Close()
	u := unpacking{tar: tar.NewReader(from), place: place, root: root, room: backupBounds}
	for more := true; more; {
		if more, err = u.next(); err != nil {
			return u.manifest, err
		}
	}
	if err := u.compare(); err != nil {
		return u.manifest, err
	}
	if err := root.MkdirAll(scripts.DirName, 0o700); err != nil {
		return u.manifest, err
	}
	return u.manifest, syncAll(dir)
}

// unpackedReader reads the tar file in a backup.
func unpackedReader(f *os.File, isPacked bool) (io.Reader, error) {
	if !isPacked {
		return f, nil
	}
	packed, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("not a backup: decompress: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	most := unpackedMost(info.Size())
	return &boundedReader{packed, most, most}, nil
}

// An unpacking is how far a backup is unpacked.
type unpacking struct {
	tar      *tar.Reader
	place    *os.File // the directory that it is unpacked into
	root     *os.Root // the same
	room     bounds
	manifest manifest // without a version: it was not read yet
	found    []audit.FileEntry
}

// next unpacks one more file; false: there is none.
func (u *unpacking) next() (more bool, err error) {
	h, err := u.tar.Next()
	if err == io.EOF {
		return false, nil
	}
	if bomb := new(tooLargeError); errors.As(err, &bomb) {
		return false, errors.New(bomb.Error())
	}
	if err != nil && len(u.found) == 0 && u.manifest.Version == 0 {
		return false, fmt.Errorf("not a backup of py3runctl: %w", err)
	}
	if err != nil {
		return false, fmt.Errorf("read: %w", err)
	}
	isFile := h.Typeflag == tar.TypeReg && (h.Name == backupManifest || backupNames.MatchString(h.Name))
	switch {
	case !isFile && len(u.found) == 0:
		return false, fmt.Errorf("not a backup of py3runctl: %q is no file of a backup", h.Name)
	case !isFile:
		return false, fmt.Errorf("%q is no file of a backup", h.Name)
	case u.manifest.Version != 0:
		return false, fmt.Errorf("%s stands behind the manifest", h.Name)
	}
	if err := u.room.take(h.Name, h.Size); err != nil {
		return false, errors.New(err.Error()) // without what helps when a backup is made
	}
	if err := hasRoom(u.place, h.Name, h.Size); err != nil {
		return false, err
	}
	text, err := io.ReadAll(u.tar)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", h.Name, err)
	}
	if h.Name == backupManifest {
		return true, u.readManifest(text)
	}
	u.found = append(u.found, fileEntry(h.Name, text))
	if err := u.root.MkdirAll(filepath.Dir(h.Name), 0o700); err != nil {
		return false, err
	}
	return true, writeInside(u.root, h.Name, text)
}

func (u *unpacking) readManifest(text []byte) error {
	if err := json.Unmarshal(text, &u.manifest); err != nil {
		return fmt.Errorf("read %s: %w", backupManifest, err)
	}
	if v := u.manifest.Version; v != backupVersion {
		return fmt.Errorf("the backup is of version %d, and this py3runctl reads version %d", v, backupVersion)
	}
	return nil
}

// compare compares what was unpacked with the manifest.
func (u *unpacking) compare() error {
	found, listed := u.found, u.manifest.Files
	if u.manifest.Version == 0 && len(found) == 0 {
		return errors.New("not a backup of py3runctl: it is empty")
	}
	if u.manifest.Version == 0 {
		return errors.New("the backup is not whole: it has no manifest")
	}
	slices.SortFunc(found, func(a, b audit.FileEntry) int { return strings.Compare(a.Name, b.Name) })
	for i := range max(len(found), len(listed)) {
		switch {
		case i >= len(found) || i < len(listed) && listed[i].Name < found[i].Name:
			return fmt.Errorf("%s is missing", listed[i].Name)
		case i >= len(listed) || listed[i].Name > found[i].Name:
			return fmt.Errorf("%s is not in the manifest", found[i].Name)
		case listed[i] != found[i]:
			return fmt.Errorf("%s is not what the manifest says", found[i].Name)
		}
	}
	return nil
}

// syncAll waits until everything below a directory is on the disk, names included.
func syncAll(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

func writeInside(root *os.Root, name string, text []byte) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// stagedPolicy is the policy of a backup; nil: it has none.
func stagedPolicy(staged, path string) (string, *access.Policy, error) {
	text, err := os.ReadFile(filepath.Join(staged, backupPolicy))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	p, findings := access.Parse(path, string(text))
	if findings != nil {
		return "", nil, &findings[0]
	}
	return string(text), p, nil
}

// checkScripts reads every version of every script in a store.
func checkScripts(dir string) error {
	store, err := scripts.Open(dir)
	if err != nil {
		return err
	}
	defer store.Close()
	entries, err := os.ReadDir(filepath.Join(dir, "names"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		name := strings.ReplaceAll(e.Name(), "+", "/")
		_, versions, err := store.History(name)
		if err != nil {
			return err
		}
		for _, v := range versions {
			if v.Deleted {
				continue
			}
			if _, err := store.Text(name, v.Number); err != nil {
				return err
			}
		}
	}
	return nil
}
