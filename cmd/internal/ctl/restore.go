package ctl

import (
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
)

// A restore replaces two things, and no file system does that in one step. So it is written down first,
// and the next call of py3runctl goes on with what a killed one has left (interrupted.go):
//
//	unpack, check ─► restore.json ─► record "before" ─► exchange the scripts ─► replace the policy ─► record "after" ─► clean up
//	└──────── killed here: nothing is changed ───────┘                     └──────── killed here: it is finished ────────┘
//
// All of it lies in a directory of its own, which is locked as long as the restore is alive.

func (a *app) restore() *cobra.Command {
	var dryRun bool
	c := &cobra.Command{
		Use: "restore FILE", Short: "Put policy, keys and stored scripts back as they were in a backup", Args: exactly("FILE"),
		Long: `Checks the whole backup first: each file by its SHA-256, the policy, every version of every script.
Then it replaces the scripts and the policy, each in one step. What was there before is kept in the
state directory. Two records tell it: one before, with the hash of what was there, and one after. If
it is killed between the two steps, the next command for users, keys, groups or scripts finishes it.

Keys are accepted again as the backup says: a key that was revoked since is not revoked any more. It
lists all changes; with --dry-run it does nothing else.`,
		Example: "  py3runctl restore --dry-run /backup/py3run-2026-11-24.tar.gz",
		RunE: func(_ *cobra.Command, args []string) error {
			if !dryRun {
				if err := a.goOn(); err != nil {
					return err
				}
			}
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
	dir, release, err := restoreDir(c.who.state)
	if err != nil {
		return err
	}
	defer release()
	keep := false
	defer func() {
		if !keep {
			os.RemoveAll(dir)
		}
	}()
	restoreStep("made")
	s, err := c.stage(path, dir)
	if err != nil {
		return err
	}
	restoreStep("unpacked")
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
	j, err := c.begin(s, there, now)
	if err != nil {
		return err
	}
	restoreStep("written down")
	rec := c.who.record()
	rec.Event = audit.Event{Action: audit.PolicyRestored, Outcome: audit.Unknown, Reason: "before"}
	rec.Files = &audit.Files{Put: current.set()}
	if _, err := c.log.Append(rec); err != nil {
		return err
	}
	restoreStep("recorded")
	before, after := c.who.policy, c.who.policy
	keep, err = exchange(scripts.Dir(dir), place, there, func() (err error) {
		restoreStep("exchanged")
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
	restoreStep("replaced")
	keep = true // from here on, finish removes what is not needed, or the next call does
	return c.finish(dir, j, before, after)
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
