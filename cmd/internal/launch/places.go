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

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/wire"
	"py3run/sandbox"

	"golang.org/x/sys/unix"
)

// Runs with different templates have their directories in different places, and each of them has to hide those of the others. So places other than the usual
// one are kept in a list, a line each, in the state directory, which no run sees. A run that began before a place was first used does not hide it.

const (
	placesName = "places"
	placesMost = 64 << 10 // bytes of the list that are read
)

// knownPlaces are those in the list.
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
	return slices.DeleteFunc(strings.Split(string(text), "\n"), func(path string) bool { return !filepath.IsAbs(path) })
}

// notePlace puts the root of a run into the list, if it is not the usual one. Where that fails other runs do not know it: what they then see is as before.
func notePlace(stateDir, root string, known []string) {
	if stateDir == "" || slices.Contains(known, root) || strings.Contains(root, "\n") {
		return
	}
	f, err := os.OpenFile(filepath.Join(stateDir, placesName), os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return
	}
	f.WriteString(root + "\n")
	f.Close()
}

// roots are where working directories lie: that of this run, if the name that the default template gives was to be had, and those of others, which it
// must not see.
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

// ofOthers are directories of py3run's own that this call does not use, because it names others or its environment does: those of the user's home, and
// the log where it is when nobody names another.
func ofOthers(job Job) (hide, fixed []string) {
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
		add(&fixed, config.UserDir(environ))
	}
	slices.Sort(hide)
	return slices.Compact(hide), fixed
}

// absent warns of paths that the configuration names to be hidden, read or written and that do not exist: mistyped, perhaps. Nothing is done about
// them. For after the start, which makes what is missing above the working directory.
func absent(c config.Config) (warnings []wire.Warning) {
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

// makeOwn makes what is to be hidden from the code or kept as it is, and is not there yet: the code could make it otherwise, and steer later runs. What this
// user cannot make the code cannot either. A home that does not exist is not for us to make.
//
// It returns what could not be made although this user owns the directory above: with a mode that the code can change, say.
func (p Plan) makeOwn(home string) (open []string) {
	_, err := os.Stat(home)
	homeless := func(dir string) bool { return err != nil && home != "" && within(home, dir) }
	for _, dir := range slices.Concat(p.Own, p.Config) {
		mode := fs.FileMode(0o700)
		switch {
		case homeless(dir):
			continue
		case strings.HasPrefix(dir, "/run/user/"): // what is above belongs to the login manager
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

// ownAbove tells whether the last directory that there is on the way to a path is this user's.
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
