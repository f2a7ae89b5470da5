// Package warm keeps interpreters ready: templates that fork workers ahead of time (runtime/template.py in
// package python, Worker in package sandbox).
//
// A template is a process of this program in the background, for one interpreter under one policy.
// It ends when nobody has used it for some time, when its interpreter changes, or on request.
// Nobody depends on it: a run that finds no template, or one that does not answer, starts an
// interpreter of its own.
//
//	DIR/KEY.sock   where the template listens
//	DIR/KEY.lock   the template holds it locked while it lives, and notes in it what it has to remove
//
// DIR is closed to everybody but its owner. Both ends of a connection ask the kernel who the other
// one is. KEY is a hash of everything that decides what a worker is, so that another policy,
// interpreter or version of py3run finds no template. The protocol, one message each
// (SOCK_SEQPACKET):
//
//	launcher ──"lease"──► template     launcher ◄── a handoff (sandbox.Handoff), or "none"
//	                                   the launcher closes the connection when the run is over: the
//	                                   template then removes what is left of the run
//	         ──"status"──►                      ◄── JSON (Status)
//	         ──"stop"──►                        ◄── end of file, when the template has ended
package warm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/python"
	"py3run/sandbox"
)

// A Setup is everything that decides what a template is.
type Setup struct {
	PoolKey     sandbox.PoolKey
	Interpreter string // path
	Identity    string // of the interpreter; it changes when the interpreter does
	Environ     []string
	Preload     []string
	ImportPath  []string
	Flagged     []string // modules whose import is reported
	Inherited   string   // see Inherited

	// The rest may change and the template stays the same.
	Dir      string // where its socket is; for Own, the root in which it notes what to remove
	CacheDir string // of facts about interpreters
	KeyFile  string // of their MACs
	Spares   int
	Idle     time.Duration // the template ends after so long without use; 0: never

	Limits sandbox.Limits `json:"-"` // of the runs, probably: see [sandbox.Worker.Ready]

	Run   python.Runner `json:"-"` // runs a candidate for the interpreter; nil: like any program
	Ahead []string      `json:"-"` // the environment with which the template starts; nil: Environ. Each run gets its own in any case
}

// Dir is where the templates of this user are: a directory that is private to the user and, if
// possible, empty after a restart of the machine. Empty: there is no place for them.
func Dir(environ []string) string {
	for _, e := range environ {
		if dir, ok := strings.CutPrefix(e, "XDG_RUNTIME_DIR="); ok && filepath.IsAbs(dir) {
			return filepath.Join(dir, "py3run")
		}
	}
	if os.Geteuid() == 0 {
		return "/run/py3run"
	}
	return ""
}

// Dirs are all places where templates of this user can be, whatever the caller's environment was.
// No run may see them.
func Dirs(environ []string) []string {
	dirs := []string{"/run/user/" + strconv.Itoa(os.Geteuid()) + "/py3run"}
	if own := Dir(environ); own != "" {
		dirs = append(dirs, own)
	}
	if os.Geteuid() == 0 {
		dirs = append(dirs, Dir(nil))
	}
	return dirs
}

// openDir opens the directory, if it is this user's and nobody else's. With create it is made.
func openDir(dir string, create bool) (*os.File, error) {
	if create {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(int(f.Fd()), &st); err == nil && (int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0) {
		err = fmt.Errorf("open %s: belongs to somebody else, or is open to others", dir)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// startNames are the environment variables that programs read when they start, and not again.
var startNames = []string{"LANG", "LANGUAGE", "LC_*", "LD_*", "TZ", "TZDIR", "LOCPATH", "NLSPATH", "MALLOC_*", "GLIBC_TUNABLES", "GCONV_PATH", "OPENSSL_*"}

// Environ is the part of a run's environment with which its template must start: what the
// interpreter and the C library read at their start. Imported modules may read anything, but the
// run's own directory is not known then.
func Environ(environ, preload []string) (kept []string) {
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		matches := func(pattern string) bool { ok, _ := filepath.Match(pattern, name); return ok }
		if name != "TMPDIR" && (len(preload) > 0 || slices.ContainsFunc(startNames, matches)) {
			kept = append(kept, e)
		}
	}
	slices.Sort(kept)
	return kept
}

// Inherited is what a process inherits from the one that starts it: where it is and what it may do.
// A run inherits it from its launcher, so only a template that has inherited the same can serve
// this launcher. groups tells whether the place of control groups depends on the launcher's own.
func Inherited(groups bool) string {
	var b strings.Builder
	for _, name := range []string{"/proc/self/ns/mnt", "/proc/self/ns/pid", "/proc/self/ns/user", "/proc/self/ns/net", "/proc/self/ns/ipc", "/proc/self/ns/uts", "/proc/self/ns/cgroup", "/proc/self/ns/time", "/"} {
		var st unix.Stat_t
		unix.Stat(name, &st) // one that this kernel does not have is 0 for all
		fmt.Fprintf(&b, "%d:%d ", st.Dev, st.Ino)
	}
	for resource := range 16 { // RLIM_NLIMITS
		var l unix.Rlimit
		if unix.Getrlimit(resource, &l); resource == unix.RLIMIT_NOFILE { // Go has raised the other one
			l.Cur = 0
		}
		fmt.Fprintf(&b, "%d:%d ", l.Cur, l.Max)
	}
	nice, _ := unix.Getpriority(unix.PRIO_PROCESS, 0)
	fmt.Fprintln(&b, nice)
	files := []string{"/proc/self/status", "/proc/self/oom_score_adj", "/proc/self/attr/current"}
	if groups {
		files = append(files, "/proc/self/cgroup")
	}
	for i, name := range files {
		text, _ := os.ReadFile(name)
		for line := range strings.Lines(string(text)) {
			field, _, _ := strings.Cut(line, ":")
			if i > 0 || slices.Contains(statusFields, field) {
				b.WriteString(line)
			}
		}
	}
	return b.String()
}

var statusFields = []string{"Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Cpus_allowed", "Mems_allowed"}

// Key names the template of a Setup.
func (s Setup) Key() string {
	var program unix.Stat_t
	unix.Stat("/proc/self/exe", &program)
	h := sha256.New()
	fmt.Fprintf(h, "%d:%d:%d:%d %+v %q %q %q %q %q %q %q", program.Dev, program.Ino, program.Size, program.Mtim.Nano(),
		s.PoolKey, s.Interpreter, s.Identity, s.Environ, s.Preload, s.ImportPath, s.Flagged, s.Inherited)
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// sameKey tells whether two Setups have the same key, as long as this program runs. It takes a tenth of the time that a key takes.
func (s Setup) sameKey(o Setup) bool {
	return s.Interpreter == o.Interpreter && s.Identity == o.Identity && s.Inherited == o.Inherited &&
		slices.Equal(s.Environ, o.Environ) && slices.Equal(s.Preload, o.Preload) && slices.Equal(s.ImportPath, o.ImportPath) && slices.Equal(s.Flagged, o.Flagged) &&
		s.PoolKey.Equal(o.PoolKey)
}

// A Status is what a template says of itself.
type Status struct {
	Key         string    `json:"key"`
	Process     int       `json:"pid"`
	Interpreter string    `json:"interpreter"`
	Preload     []string  `json:"preload,omitempty"`
	Started     time.Time `json:"started"`
	LastUse     time.Time `json:"last_use"`
	Ready       int       `json:"ready"`        // workers that wait
	Running     int       `json:"running"`      // runs under way
	Served      int       `json:"served"`       // runs so far
	MemoryBytes int64     `json:"memory_bytes"` // resident set of the template interpreter
	Failed      string    `json:"failed,omitempty"`
}

func (s Status) text() []byte { b, _ := json.Marshal(s); return b }
