package ctl

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/scripts"
	"py3run/internal/atomicfile"
)

// A backup is a tar file, or a compressed one where its name ends in .gz or .tgz:
//
//	policy.toml                         users, roles and the hashes of keys
//	policies/SHA256.toml                earlier policies, of which the log tells
//	scripts/objects/…  scripts/names/…  the stored scripts with their history
//	manifest.json                       the last: SHA-256 and size of each file
//
// Without its last file it is not whole, and is refused.

const (
	backupPolicy   = access.FileName
	backupManifest = "manifest.json"
	backupVersion  = 1
)

// bounds say how large a backup can be. They hold for writing one as for reading one, its manifest
// included: a backup that was made can be restored.
type bounds struct {
	file  int64 // bytes of one file
	files int
	all   int64 // bytes of all files
}

var backupBounds = bounds{file: 64 << 20, files: 1 << 20, all: 16 << 30}

// take subtracts one more file.
func (b *bounds) take(name string, size int64) error {
	b.files--
	b.all -= size
	switch {
	case size > b.file:
		return &tooLargeError{fmt.Sprintf("%s has %d bytes, and a file of a backup at most %d", name, size, b.file)}
	case b.files < 0:
		return &tooLargeError{name + " is one file more than a backup can have"}
	case b.all < 0:
		return &tooLargeError{name + " does not fit any more: the files of a backup together have too many bytes"}
	}
	return nil
}

// A tooLargeError says why something is too large for a backup.
type tooLargeError struct{ what string }

func (e *tooLargeError) Error() string { return e.what }

// Hint says how to go on.
func (e *tooLargeError) Hint() string {
	return "save this host's policy and state directory with the tools of the host instead, while nobody changes them"
}

// backupNames are the only files that a backup can have.
var backupNames = regexp.MustCompile(`^(policy\.toml|policies/[0-9a-f]{64}\.toml|scripts/objects/[0-9a-f]{64}|scripts/names/[a-z0-9][a-z0-9._+-]*/(meta\.json|versions\.jsonl))$`)

// A manifest says what a backup has.
type manifest struct {
	Version int               `json:"version"`
	Created time.Time         `json:"created"`
	Host    string            `json:"host"`
	By      string            `json:"by"`
	Files   []audit.FileEntry `json:"files"` // by name
}

func fileEntry(name string, text []byte) audit.FileEntry {
	sum := sha256.Sum256(text)
	return audit.FileEntry{Name: name, Bytes: int64(len(text)), SHA256: hex.EncodeToString(sum[:])}
}

// set describes the files for a record.
func (m manifest) set() *audit.FileSet {
	set := audit.FileSet{Count: len(m.Files)}
	sum := sha256.New()
	for _, f := range m.Files {
		fmt.Fprintf(sum, "%s  %s\n", f.SHA256, f.Name)
		set.Bytes += f.Bytes
	}
	set.SHA256 = hex.EncodeToString(sum.Sum(nil))
	set.List = m.Files[:min(len(m.Files), 20)]
	return &set
}

func (m *manifest) sort() {
	slices.SortFunc(m.Files, func(a, b audit.FileEntry) int { return strings.Compare(a.Name, b.Name) })
}

func (a *app) backup() *cobra.Command {
	return &cobra.Command{
		Use: "backup FILE", Short: "Write policy, keys and stored scripts to one file", Args: exactly("FILE"),
		Long: `Writes a tar file, compressed if its name ends in .gz or .tgz: the policy with the hashes of the keys,
the texts of earlier policies, the stored scripts with their history, and a manifest with the SHA-256
of each. FILE gets mode 0600 and must not exist. The log is not in it: py3runctl audit export.

It needs the role script-admin, or the operator's account: scripts that are private are in it, too.`,
		Example: "  py3runctl backup /backup/py3run-$(date +%F).tar.gz",
		RunE: func(_ *cobra.Command, args []string) error {
			who, err := a.actor()
			if err != nil {
				return err
			}
			if err := who.may(access.ToManage, access.Object{Kind: access.ThePolicy}); err != nil { // scripts that are private to others are in it
				return err
			}
			d, err := a.logContext()
			if err != nil {
				return err
			}
			d.sweepScripts(who)
			m, err := writeBackup(args[0], who, backupBounds, time.Now().UTC().Truncate(time.Second))
			if err != nil {
				return fmt.Errorf("back up to %s: %w", args[0], err)
			}
			set := m.set()
			_, err = fmt.Fprintf(a.out, "%s: %s, %s, SHA-256 of all %s\n", args[0], counted(set.Count, "file"), counted(uint64(set.Bytes), "byte"), set.SHA256)
			return err
		},
	}
}

// writeBackup writes a file as a whole: it has its name only when everything is in it.
func writeBackup(path string, who actor, room bounds, now time.Time) (m manifest, err error) {
	if _, err := os.Lstat(path); err == nil {
		return m, fs.ErrExist
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return m, fmt.Errorf("%s: %w", filepath.Dir(path), cause(err))
	}
	defer dir.Close()
	f, err := atomicfile.Create(int(dir.Fd()), "", 0o600)
	if err != nil {
		return m, err
	}
	defer f.Discard()
	if m, err = packBackup(f, isPacked(path), who, room, now); err != nil {
		return m, err
	}
	if isPacked(path) {
		if err := canUnpack(f.File, m); err != nil {
			return m, err
		}
	}
	return m, f.Put(int(dir.Fd()), filepath.Base(path), unix.RENAME_NOREPLACE)
}

// canUnpack refuses a compressed backup that restore would take for one that is made to fill the disk.
func canUnpack(f *os.File, m manifest) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	const around = 4 << 10 // bytes of headers for each file, its manifest included, or more
	if unpacked := m.set().Bytes + int64(len(m.Files)+1)*around; unpacked > unpackedMost(info.Size()) {
		return refusedWith(fmt.Errorf("its %d bytes compress so well that restore would refuse it", unpacked), "write it uncompressed: to a name without .gz or .tgz")
	}
	return nil
}

// packBackup writes the files of a backup, the manifest last.
func packBackup(to io.Writer, compress bool, who actor, room bounds, now time.Time) (m manifest, err error) {
	var packed *gzip.Writer
	if compress {
		packed = gzip.NewWriter(to)
		to = packed
	}
	w := tar.NewWriter(to)
	rec := who.record()
	m = manifest{Version: backupVersion, Created: now, Host: rec.Host.Name, By: rec.User.Name, Files: []audit.FileEntry{}}
	put := func(name string, text []byte) error {
		err := room.take(name, int64(len(text)))
		if err == nil {
			err = w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(text)), ModTime: now, Typeflag: tar.TypeReg})
		}
		if err == nil {
			_, err = w.Write(text)
		}
		return err
	}
	err = who.saved(func(name string, text []byte) error {
		m.Files = append(m.Files, fileEntry(name, text))
		return put(name, text)
	})
	if err != nil {
		return m, err
	}
	m.sort()
	text, err := json.MarshalIndent(m, "", " ")
	if err == nil {
		err = put(backupManifest, append(text, '\n'))
	}
	err = errors.Join(err, w.Close())
	if packed != nil {
		err = errors.Join(err, packed.Close())
	}
	return m, err
}

func isPacked(path string) bool {
	return strings.HasSuffix(path, ".gz") || strings.HasSuffix(path, ".tgz")
}

// saved yields everything that a backup has. Of a script it reads first what is written last, so that
// all is there to which it refers, although others may be saving scripts.
func (who actor) saved(yield func(name string, text []byte) error) error {
	if p := who.policy; p != nil {
		if err := yield(backupPolicy, []byte(p.Text)); err != nil {
			return err
		}
	}
	if who.state == "" {
		return nil
	}
	root, err := os.OpenRoot(who.state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	var names []string
	list := func(dir string, below ...string) error {
		f, err := root.Open(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer f.Close()
		found, err := f.Readdirnames(-1)
		slices.Sort(found)
		for _, name := range found {
			for _, rest := range below {
				if path := dir + "/" + name + rest; backupNames.MatchString(path) {
					names = append(names, path)
				}
			}
		}
		return err
	}
	if err := errors.Join(list("policies", ""), list(scripts.DirName+"/names", "/meta.json", "/versions.jsonl")); err != nil {
		return err
	}
	read := func() error {
		for _, name := range names {
			text, err := readInside(root, name)
			if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(name, scripts.DirName+"/names/") {
				continue // a script that is being made
			}
			if err == nil {
				err = yield(name, text)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := read(); err != nil {
		return err
	}
	names = nil
	if err := list(scripts.DirName+"/objects", ""); err != nil {
		return err
	}
	return read()
}

// readInside reads a regular file of bounded size.
func readInside(root *os.Root, name string) ([]byte, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, backupBounds.file+1)) // one more is found out when it is packed
}
