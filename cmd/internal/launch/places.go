package launch

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

// Runs with different settings of security.isolation.working-dir have their directories in different
// places, and each run has to hide the places of the others. So py3run keeps a list of the places
// besides the usual one, a line each, in the state directory, which no run sees. A run that began
// before a place was first used does not hide that place.

const (
	placesName = "places"
	placesMost = 64 << 10       // bytes of the list that are read
	placesFull = placesMost / 4 // bytes from which on notePlace leaves out places that are gone
)

// knownPlaces returns the places in the list that still exist: the others have nothing to hide.
func knownPlaces(stateDir string) []string {
	if stateDir == "" {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(stateDir, placesName), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	text, _ := io.ReadAll(io.LimitReader(f, placesMost))
	var places []string
	for path := range strings.Lines(string(text)) {
		path = strings.TrimSuffix(path, "\n")
		if _, err := os.Lstat(path); filepath.IsAbs(path) && err == nil && !slices.Contains(places, path) {
			places = append(places, path)
		}
	}
	return places
}

// notePlace adds the root of a run to the list, unless it is known. If that fails, other runs cannot
// hide the root; the run goes on.
func notePlace(stateDir, root string, known []string) {
	if stateDir == "" || slices.Contains(known, root) || strings.Contains(root, "\n") {
		return
	}
	path := filepath.Join(stateDir, placesName)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	// Only the launcher that has the lock writes the list anew. Nobody waits for it: with the method
	// process, code can open this file, and could keep the lock.
	locked := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
	if info, err := f.Stat(); err != nil || info.Size() < placesFull || !locked {
		f.WriteString(root + "\n")
		return
	}
	// Another launcher may still add a line to the file that is replaced here. That line is lost, and
	// the next run with that root adds it again.
	shorter, err := os.CreateTemp(stateDir, ".new-")
	if err != nil {
		return
	}
	defer shorter.Close()
	_, err = shorter.WriteString(strings.Join(append(knownPlaces(stateDir), root), "\n") + "\n")
	if err != nil || os.Rename(shorter.Name(), path) != nil {
		os.Remove(shorter.Name())
	}
}

// roots returns where working directories lie: the root of this run if it uses the default template,
// and otherwise ""; and the roots of other runs, which this run must not see.
func roots(job Job) (root string, others []string) {
	usual := rootOf(config.DefaultWorkingDir, job.Caller.UID)
	chosen, others := sandbox.ChooseRoot(usual)
	own := rootOf(job.Config.Security.Isolation.WorkingDir, job.Caller.UID)
	for _, place := range knownPlaces(StateDir(job.Environ)) {
		if place != own {
			others = append(others, sandbox.Places(place)...)
		}
	}
	if own == usual {
		return chosen, others
	}
	return "", append(others, chosen)
}

// pathsOfOthers returns py3run's own directories that other calls of this user may use, although this
// one's configuration or environment names others: those of the environment and those of the home in
// /etc/passwd, with the log in its default place. Runs must not see hide, and must not change readOnly.
func pathsOfOthers(job Job) (hide, readOnly []string) {
	add := func(list *[]string, path string) {
		if path != "" {
			*list = append(*list, path)
		}
	}
	for _, environ := range [][]string{job.Environ, {"HOME=" + job.Caller.Home}} {
		if log, err := (config.Config{}).AuditDir(environ); err == nil {
			add(&hide, log)
		}
		add(&hide, CacheDir(environ))
		add(&hide, StateDir(environ))
		add(&readOnly, config.UserDir(environ))
	}
	slices.Sort(hide)
	return slices.Compact(hide), readOnly
}

// absentPaths warns about configured paths that do not exist: they may be mistyped. The run ignores them.
// Call it after the start, which makes missing directories above the working directory.
func absentPaths(c config.Config) (warnings []wire.Warning) {
	i := c.Security.Isolation
	for _, list := range []struct {
		key   string
		paths []string
	}{{"security.isolation.hide", i.Hide}, {"security.isolation.read-dirs", i.ReadDirs}, {"security.isolation.write-dirs", i.WriteDirs}, {"python.path", c.Python.Path}} {
		for _, path := range list.paths {
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
				warnings = append(warnings, wire.Warning{Code: "absent_path", Message: list.key + ": " + path + " does not exist"})
			}
		}
	}
	return warnings
}

// makeOwn makes the directories of Own and Config that do not exist. Otherwise the code could make
// them, and what it puts there would change later runs. What this user cannot make, the code cannot
// make either. makeOwn makes nothing in a home that does not exist.
//
// It returns the directories that it could not make although this user owns the directory above, for
// example because of a mode that the code can change.
func (p Plan) makeOwn(home string) (open []string) {
	_, err := os.Stat(home)
	homeless := func(dir string) bool { return err != nil && home != "" && within(home, dir) }
	for _, dir := range slices.Concat(p.Own, p.Config) {
		mode := fs.FileMode(0o700)
		switch {
		case homeless(dir):
			continue
		case strings.HasPrefix(dir, "/run/user/"): // the login manager makes the directory above
			os.Mkdir(dir, mode)
			continue
		case dir == config.SystemDir:
			mode = 0o755
		}
		if os.MkdirAll(dir, mode) != nil && ownAbove(dir) {
			open = append(open, dir)
		}
	}
	return open
}

// ownAbove reports whether this user owns the nearest directory above path that exists.
func ownAbove(path string) bool {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		var st unix.Stat_t
		if unix.Lstat(dir, &st) == nil {
			return int(st.Uid) == os.Geteuid()
		}
		if dir == "/" {
			return false
		}
	}
}
