package launch

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"py3run/cmd/internal/config"
	"py3run/sandbox"
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
