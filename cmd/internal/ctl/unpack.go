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

// A bounded reader fails where it would read more than it may.
type bounded struct {
	from io.Reader
	left int64
	most int64
}

func (b *bounded) Read(p []byte) (int, error) {
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
	var from io.Reader = f
	if isPacked(path) {
		packed, err := gzip.NewReader(f)
		if err != nil {
			return m, fmt.Errorf("not a backup: decompress: %w", err)
		}
		info, err := f.Stat()
		if err != nil {
			return m, err
		}
		most := unpackedMost(info.Size())
		from = &bounded{packed, most, most}
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
	var found []audit.FileEntry
	room := backupBounds
	for r := tar.NewReader(from); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if bomb := new(tooLargeError); errors.As(err, &bomb) {
			return m, errors.New(bomb.Error())
		}
		if err != nil && len(found) == 0 && m.Version == 0 {
			return m, fmt.Errorf("not a backup of py3runctl: %w", err)
		}
		if err != nil {
			return m, fmt.Errorf("read: %w", err)
		}
		isFile := h.Typeflag == tar.TypeReg && (h.Name == backupManifest || backupNames.MatchString(h.Name))
		switch {
		case !isFile && len(found) == 0:
			return m, fmt.Errorf("not a backup of py3runctl: %q is no file of a backup", h.Name)
		case !isFile:
			return m, fmt.Errorf("%q is no file of a backup", h.Name)
		case m.Version != 0:
			return m, fmt.Errorf("%s stands behind the manifest", h.Name)
		}
		if err := room.take(h.Name, h.Size); err != nil {
			return m, errors.New(err.Error()) // without what helps when a backup is made
		}
		if err := hasRoom(place, h.Name, h.Size); err != nil {
			return m, err
		}
		text, err := io.ReadAll(r)
		if err != nil {
			return m, fmt.Errorf("read %s: %w", h.Name, err)
		}
		if h.Name == backupManifest {
			if err := json.Unmarshal(text, &m); err != nil {
				return m, fmt.Errorf("read %s: %w", h.Name, err)
			}
			if m.Version != backupVersion {
				return m, fmt.Errorf("the backup is of version %d, and this py3runctl reads version %d", m.Version, backupVersion)
			}
			continue
		}
		found = append(found, fileEntry(h.Name, text))
		if err := root.MkdirAll(filepath.Dir(h.Name), 0o700); err != nil {
			return m, err
		}
		if err := writeInside(root, h.Name, text); err != nil {
			return m, err
		}
	}
	if m.Version == 0 && len(found) == 0 {
		return m, errors.New("not a backup of py3runctl: it is empty")
	}
	if m.Version == 0 {
		return m, errors.New("the backup is not whole: it has no manifest")
	}
	if err := root.MkdirAll(scripts.DirName, 0o700); err != nil {
		return m, err
	}
	slices.SortFunc(found, func(a, b audit.FileEntry) int { return strings.Compare(a.Name, b.Name) })
	for i := range max(len(found), len(m.Files)) {
		switch {
		case i >= len(found) || i < len(m.Files) && m.Files[i].Name < found[i].Name:
			return m, fmt.Errorf("%s is missing", m.Files[i].Name)
		case i >= len(m.Files) || m.Files[i].Name > found[i].Name:
			return m, fmt.Errorf("%s is not in the manifest", found[i].Name)
		case m.Files[i] != found[i]:
			return m, fmt.Errorf("%s is not what the manifest says", found[i].Name)
		}
	}
	return m, syncAll(dir)
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
