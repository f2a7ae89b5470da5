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
	return m, f.Put(int(dir.Fd()), filepath.Base(path), unix.RENAME_NOREPLACE)
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

func (a *app) restore() *cobra.Command {
	var dryRun bool
	c := &cobra.Command{
		Use: "restore FILE", Short: "Put policy, keys and stored scripts back as they were in a backup", Args: exactly("FILE"),
		Long: `Checks the whole backup first: each file by its SHA-256, the policy, every version of every script.
Then it replaces the scripts and the policy, each in one step. What was there before is kept in the
state directory. Two records tell it: one before, with the hash of what was there, and one after.

Keys are accepted again as the backup says: a key that was revoked since is not revoked any more. It
lists all changes; with --dry-run it does nothing else.`,
		Example: "  py3runctl restore --dry-run /backup/py3run-2026-11-24.tar.gz",
		RunE: func(_ *cobra.Command, args []string) error {
			begin := a.beginChange
			if dryRun {
				begin = a.planChange
			}
			c, err := begin()
			if err != nil {
				return err
			}
			if dryRun {
				err = c.tryRestore(args[0])
			} else {
				defer c.log.Close()
				err = c.restore(args[0], time.Now().UTC())
			}
			if err != nil {
				return fmt.Errorf("restore %s: %w", args[0], err)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only check the backup, and say what would change")
	return c
}

// A staged backup is unpacked and checked.
type staged struct {
	dir    string
	files  manifest
	text   string         // of the policy
	policy *access.Policy // nil: it has none
}

func (c policyChange) stage(path, dir string) (s staged, err error) {
	s.dir = dir
	if s.files, err = unpack(path, dir); err != nil {
		return s, err
	}
	if s.text, s.policy, err = stagedPolicy(dir, c.who.path); err != nil {
		return s, err
	}
	return s, checkScripts(scripts.Dir(dir))
}

// present lists what a backup would have now.
func (who actor) present() (m manifest, err error) {
	err = who.saved(func(name string, text []byte) error {
		m.Files = append(m.Files, fileEntry(name, text))
		return nil
	})
	m.sort()
	return m, err
}

// tryRestore says what a restore would change. It unpacks the backup among the temporary files, and
// leaves nothing anywhere.
func (c policyChange) tryRestore(path string) error {
	dir, err := os.MkdirTemp("", "py3runctl-restore-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := c.stage(path, dir)
	if err != nil {
		return err
	}
	current, err := c.who.present()
	if err != nil {
		return err
	}
	_, err = c.tellRestore(path, s, current)
	return err
}

func (c policyChange) restore(path string, now time.Time) error {
	place := scripts.Dir(c.who.state)
	if place == "" {
		return errors.New("no place for scripts: HOME and XDG_STATE_HOME are not set")
	}
	if err := os.MkdirAll(c.who.state, 0o700); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(c.who.state, ".restore-")
	if err != nil {
		return err
	}
	keep := false
	defer func() {
		if !keep {
			os.RemoveAll(dir)
		}
	}()
	s, err := c.stage(path, dir)
	if err != nil {
		return err
	}
	there, unlock, err := lockScripts(place, scripts.Dir(dir)) // nobody saves a script that would be lost
	if err != nil {
		return err
	}
	defer unlock()
	current, err := c.who.present()
	if err != nil {
		return err
	}
	same, err := c.tellRestore(path, s, current)
	if err != nil {
		return err
	}
	if same {
		return keepPolicies(dir, c.who.state)
	}
	rec := c.who.record()
	rec.Event = audit.Event{Action: audit.PolicyRestored, Outcome: audit.Unknown, Reason: "before"}
	rec.Files = &audit.Files{Put: current.set()}
	if _, err := c.log.Append(rec); err != nil {
		return err
	}
	before, after := c.who.policy, c.who.policy
	keep, err = exchange(scripts.Dir(dir), place, there, func() (err error) {
		if s.policy != nil {
			before, after, err = c.edit.Replace(s.text)
		}
		return err
	})
	if err != nil {
		if keep {
			err = fmt.Errorf("%w; the stored scripts as they were before are in %s", err, scripts.Dir(dir))
		}
		return err
	}
	kept := filepath.Join(c.who.state, "replaced-"+now.Format("20060102T150405.000Z"))
	os.Remove(filepath.Join(dir, backupPolicy)) // that is in its place now, and the one before is kept by its hash
	err = keepPolicies(dir, c.who.state)
	if keep = there; keep {
		err = errors.Join(err, os.Rename(dir, kept))
	}
	if err := errors.Join(err, syncDir(c.who.state)); err != nil {
		c.warn(err)
	}
	rec.Event.Outcome, rec.Event.Reason = audit.Success, "after"
	rec.Files = &audit.Files{Put: s.files.set()}
	if before != after {
		err = c.appendChange(rec, before, after, func(string) {}) // they are told already
	} else {
		_, err = c.log.Append(rec)
	}
	if keep {
		c.say("the stored scripts as they were before are in %s; remove them when you do not need them", kept)
	}
	return err
}

// lockScripts locks the stored scripts, if there are any, and those that take their place: nobody
// changes the new ones before it is certain that they stay.
func lockScripts(place, staged string) (there bool, unlock func(), err error) {
	unlockStaged, err := scripts.Lock(staged)
	if err != nil {
		return false, nil, err
	}
	unlockPlace, err := scripts.Lock(place)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, unlockStaged, nil
	case err != nil:
		unlockStaged()
		return false, nil, err
	}
	return true, func() { unlockPlace(); unlockStaged() }, nil
}

// tellRestore says what a backup is, and what is different in it: first in the policy, then in the scripts.
// A dry run tells the same. same: nothing is different.
func (c policyChange) tellRestore(path string, s staged, current manifest) (same bool, err error) {
	m := s.files
	same = (s.policy == nil || c.who.policy != nil && c.who.policy.Text == s.text) && slices.Equal(scriptFiles(current), scriptFiles(m))
	lines := []string{fmt.Sprintf("%s of %s by %s on %s is whole: %s", path, c.when(m.Created), m.By, m.Host, counted(len(m.Files), "file"))}
	if s.policy == nil {
		lines = append(lines, "the backup has no policy: the one that holds here stays")
	} else {
		lines = append(lines, access.Diff(c.who.policy, s.policy)...)
	}
	lines = append(lines, scriptChanges(current, m)...)
	if same {
		lines = append(lines, "nothing was to change: the policy and the scripts are as in the backup")
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(c.out, plain(line)); err != nil {
			return same, err
		}
	}
	return same, nil
}

// scriptFiles are the files of the stored scripts.
func scriptFiles(m manifest) []audit.FileEntry {
	return slices.DeleteFunc(slices.Clone(m.Files), func(f audit.FileEntry) bool { return !strings.HasPrefix(f.Name, scripts.DirName+"/") })
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
		if from, err = gzip.NewReader(f); err != nil {
			return m, fmt.Errorf("not a backup: decompress: %w", err)
		}
	}
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

// scriptChanges says in which scripts two states differ.
func scriptChanges(old, new manifest) (changes []string) {
	histories := func(m manifest) map[string]string {
		all := map[string]string{}
		for _, f := range m.Files {
			parts := strings.Split(f.Name, "/")
			if len(parts) == 4 && parts[1] == "names" {
				all[strings.ReplaceAll(parts[2], "+", "/")] += f.SHA256
			}
		}
		return all
	}
	was, is := histories(old), histories(new)
	for name, state := range is {
		if before, ok := was[name]; !ok {
			changes = append(changes, "script "+name+": added")
		} else if before != state {
			changes = append(changes, "script "+name+": another state of it")
		}
	}
	for name := range was {
		if _, ok := is[name]; !ok {
			changes = append(changes, "script "+name+": removed")
		}
	}
	slices.Sort(changes)
	return changes
}

// exchange puts a directory in the place of another one in one step, does what else has to be done, and
// takes it back if that fails. there says whether that other directory exists. keep means that from has,
// or may have, what was in the place before, and nothing else has it.
func exchange(from, place string, there bool, then func() error) (keep bool, err error) {
	flags := uint(unix.RENAME_NOREPLACE)
	if there {
		flags = unix.RENAME_EXCHANGE
	}
	if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, place, flags); err != nil {
		return false, fmt.Errorf("put %s in its place: %w", place, err)
	}
	failed := then()
	if failed == nil {
		return true, nil
	}
	if err := unix.Renameat2(unix.AT_FDCWD, place, unix.AT_FDCWD, from, flags); err != nil {
		return there, errors.Join(failed, fmt.Errorf("put %s back: %w", place, err))
	}
	return false, failed
}

// keepPolicies moves the texts of earlier policies that a backup has to those that are kept. Their
// names are their hashes, so none is overwritten with another one.
func keepPolicies(from, state string) error {
	entries, err := os.ReadDir(filepath.Join(from, "policies"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(from, "policies", e.Name()))
		if err != nil {
			return err
		}
		if err := access.Keep(state, &access.Policy{SHA256: fileEntry("", text).SHA256, Text: string(text)}); err != nil {
			return err
		}
	}
	return os.RemoveAll(filepath.Join(from, "policies"))
}
