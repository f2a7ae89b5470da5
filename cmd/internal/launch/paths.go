package launch

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"py3run/cmd/internal/config"
	"py3run/internal/envvar"
	"py3run/sandbox"
)

// StateDir returns the directory of keys and of other state; empty: there is no place for it.
func StateDir(environ []string) string { return config.StateDir(environ) }

// CacheDir returns the directory of cached facts about interpreters; empty: there is no place for it.
func CacheDir(environ []string) string {
	if dir := envvar.Lookup(environ, "XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "py3run")
	}
	if os.Geteuid() == 0 {
		return "/var/cache/py3run"
	}
	if home := envvar.Lookup(environ, "HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".cache", "py3run")
	}
	return ""
}

// cacheKey returns the file with the key that authenticates cached facts about interpreters. It
// returns "" if the code of this run could read that file.
func cacheKey(job Job) string {
	dir := StateDir(job.Environ)
	if dir == "" || job.Config.Security.Isolation.Method == string(sandbox.Process) {
		return ""
	}
	return filepath.Join(dir, "keys", "cache")
}

func withUID(template string, uid int) string {
	return filepath.Clean(strings.ReplaceAll(template, "${uid}", strconv.Itoa(uid)))
}

// rootOf returns the directory that all runs of a user with this template share.
func rootOf(template string, uid int) string {
	fixed, _, _ := strings.Cut(withUID(template, uid), "${")
	return filepath.Clean(fixed[:strings.LastIndexByte(fixed, '/')+1])
}

// within reports whether path is dir or below it.
func within(dir, path string) bool {
	rel, err := filepath.Rel(filepath.Clean(dir), path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
