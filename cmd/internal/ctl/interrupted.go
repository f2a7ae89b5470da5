package ctl

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/scripts"
	"py3run/internal/filelock"
)

// restoreStep is called between the steps of a restore. Tests kill the process there.
var restoreStep = func(string) {}

const (
	restorePrefix  = ".restore-" // begins the name of the directory of a restore that is not finished
	restoreJournal = "restore.json"
)

// A journal says what a restore is about to do, so that another process can finish it.
type journal struct {
	Began     time.Time      `json:"began"`
	Files     *audit.FileSet `json:"files"`      // of the backup
	There     bool           `json:"there"`      // there were stored scripts before
	Scripts   uint64         `json:"scripts"`    // inode of the directory that takes their place
	OldPolicy string         `json:"old_policy"` // SHA-256 of the policy before; empty: there was none
	NewPolicy string         `json:"new_policy"` // SHA-256 of that of the backup; empty: it has none
}

// restoreDir makes the directory of a restore, and locks it until release.
func restoreDir(state string) (dir string, release func(), err error) {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return "", nil, err
	}
	for {
		dir, err := os.MkdirTemp(state, restorePrefix)
		if err != nil {
			return "", nil, err
		}
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = filelock.Take(fd, unix.LOCK_EX, time.Now().Add(time.Second), nil)
		}
		if errors.Is(err, fs.ErrNotExist) { // another process took it for one that was left
			continue
		}
		if err != nil {
			return "", nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		if _, err := os.Lstat(dir); err != nil {
			filelock.Release(fd)
			continue
		}
		return dir, func() { filelock.Release(fd) }, nil
	}
}

// begin writes down what a restore is about to do.
func (c policyChange) begin(s staged, there bool, now time.Time) (j journal, err error) {
	j = journal{Began: now, Files: s.files.set(), There: there, OldPolicy: hashOf(c.who.policy), NewPolicy: hashOf(s.policy)}
	if j.Scripts, err = inode(scripts.Dir(s.dir)); err != nil {
		return j, err
	}
	text, err := json.Marshal(j)
	if err == nil {
		err = newFile(filepath.Join(s.dir, restoreJournal), text)
	}
	if err != nil {
		return j, fmt.Errorf("write down the restore: %w", err)
	}
	return j, syncAll(s.dir)
}

func hashOf(p *access.Policy) string {
	if p == nil {
		return ""
	}
	return p.SHA256
}

// inode tells one directory from another; 0: there is none.
func inode(dir string) (uint64, error) {
	var st unix.Stat_t
	err := unix.Lstat(dir, &st)
	if err == unix.ENOENT {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look at %s: %w", dir, err)
	}
	return st.Ino, nil
}

// finish records a restore whose steps are done, and cleans up. before and after are the policies; the
// same: it stays.
func (c policyChange) finish(dir string, j journal, before, after *access.Policy) error {
	if err := keepPolicies(dir, c.who.state); err != nil {
		return err
	}
	rec := c.who.record()
	rec.Event = audit.Event{Action: audit.PolicyRestored, Outcome: audit.Success, Reason: "after"}
	rec.Files = &audit.Files{Put: j.Files}
	var err error
	if before != after {
		err = c.appendChange(rec, before, after, func(string) {}) // they are told already
	} else {
		_, err = c.log.Append(rec)
	}
	if err != nil {
		return err // the next call tries it again
	}
	restoreStep("told")
	if !j.There {
		return errors.Join(os.RemoveAll(dir), syncDir(c.who.state))
	}
	kept, err := c.keepReplaced(dir, j)
	if err == nil {
		c.say("the stored scripts as they were before are in %s; remove them when you do not need them", kept)
	}
	return err
}

// keepReplaced keeps what a restore has replaced, without the files that only the restore needs.
func (c policyChange) keepReplaced(dir string, j journal) (kept string, err error) {
	kept = filepath.Join(c.who.state, "replaced-"+j.Began.Format("20060102T150405.000Z"))
	if err := os.Rename(dir, kept); err != nil {
		return "", err
	}
	os.Remove(filepath.Join(kept, backupPolicy)) // that is in its place now, and the one before is kept by its hash
	os.Remove(filepath.Join(kept, restoreJournal))
	return kept, syncDir(c.who.state)
}

// goOnBefore goes on with interrupted restores before a command that shows or changes what they are about.
func (a *app) goOnBefore(c *cobra.Command, _ []string) {
	for c.HasParent() && c.Parent().HasParent() {
		c = c.Parent()
	}
	if slices.Contains([]string{"user", "group", "key", "access", "script", "backup"}, c.Name()) {
		if err := a.goOn(); err != nil {
			a.messages().Warnf("%v", err)
		}
	}
}

// leftRestores are the directories of restores that are not finished.
func leftRestores(state string) (dirs []string) {
	if state == "" {
		return nil
	}
	entries, _ := os.ReadDir(state)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), restorePrefix) {
			dirs = append(dirs, filepath.Join(state, e.Name()))
		}
	}
	return dirs
}

// goOn finishes the restores that were killed, or takes them back. Those that are alive it leaves alone.
func (a *app) goOn() error {
	who, err := a.actor()
	if err != nil {
		return nil // the command says so itself
	}
	left := leftRestores(who.state)
	if len(left) == 0 {
		return nil
	}
	at := *a
	at.dir = "" // the records belong into the log of this host, whichever log the command is about
	c, err := at.beginChange()
	if err != nil {
		return fmt.Errorf("go on with the interrupted restore in %s: %w", left[0], err)
	}
	defer c.log.Close()
	for _, dir := range left {
		if err := c.goOnWith(dir); err != nil {
			return fmt.Errorf("go on with the interrupted restore in %s: %w", dir, err)
		}
	}
	return nil
}

// goOnWith finishes one restore, or takes it back.
func (c policyChange) goOnWith(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		unix.Close(fd)
		if err == unix.EWOULDBLOCK {
			return nil // it is alive
		}
		return err
	}
	defer filelock.Release(fd)
	text, err := os.ReadFile(filepath.Join(dir, restoreJournal))
	if errors.Is(err, fs.ErrNotExist) { // it had not come to its changes
		return os.RemoveAll(dir)
	}
	var j journal
	if err == nil {
		err = json.Unmarshal(text, &j)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", restoreJournal, err)
	}
	now, err := inode(scripts.Dir(c.who.state))
	if err != nil {
		return err
	}
	staged, err := inode(scripts.Dir(dir))
	switch {
	case err != nil:
		return err
	case now == j.Scripts:
		return c.finishLeft(dir, j)
	case staged != j.Scripts: // others have replaced the scripts since: what is here is of earlier
		kept, err := c.keepReplaced(dir, j)
		if err == nil {
			c.warnf("a restore of %s was interrupted, and the stored scripts were replaced again since; what it has left is in %s", c.when(j.Began), kept)
		}
		return err
	}
	rec := c.who.record()
	rec.Event = audit.Event{Action: audit.PolicyRestored, Outcome: audit.Failure, Reason: "interrupted"}
	rec.Files = &audit.Files{Put: j.Files}
	if _, err := c.log.Append(rec); err != nil {
		return err
	}
	c.say("a restore of %s was interrupted before it changed anything: what it has left is removed", c.when(j.Began))
	return os.RemoveAll(dir)
}

// finishLeft finishes a restore that has replaced the scripts. A policy that was changed since stays.
func (c policyChange) finishLeft(dir string, j journal) error {
	before, after := c.who.policy, c.who.policy
	switch is := hashOf(c.who.policy); {
	case j.NewPolicy == "":
	case is == j.NewPolicy: // it was replaced, and perhaps not recorded
		if old, known := access.Before(c.who.state, j.OldPolicy); known && j.OldPolicy != is {
			before = old
		}
	case is == j.OldPolicy:
		text, err := os.ReadFile(filepath.Join(dir, backupPolicy))
		if err == nil {
			before, after, err = c.edit.Replace(string(text))
		}
		if err != nil {
			return err
		}
	default:
		c.warnf("the policy was changed since a restore of %s was interrupted, and stays: restore the backup again if you want its policy", c.when(j.Began))
	}
	c.say("a restore of %s was interrupted, and is finished now", c.when(j.Began))
	return c.finish(dir, j, before, after)
}
