package python

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"py3run/internal/envvar"
)

// Oldest is the first Python 3 minor version with audit hooks (PEP 578).
const Oldest = 8

// askLimit is how long a candidate may take to answer.
var askLimit = 10 * time.Second

// A Want says which interpreter the caller wants, and where to look.
type Want struct {
	Interpreter string // "auto", a path, a command name, a version as "3.12", or the directory of a virtual environment
	Environ     []string
	Dir         string // .venv is looked for here and in the directories above
	CacheDir    string // "": nothing is kept
	KeyFile     string // has the key of the cache's MACs; "": nothing is kept
	Run         Runner // runs a candidate, to ask it; nil: like any program
}

// A Runner runs a program to its end, in a directory and with a text on its standard input. It is an
// error that the program cannot be started, or does not end in time ([context.DeadlineExceeded]); its
// exit code is not.
type Runner func(path string, args, environ []string, dir, stdin string, within time.Duration) (stdout, stderr string, err error)

// A Candidate is an interpreter that Find has looked at, and why it was not taken.
type Candidate struct {
	Path string
	From string // "VIRTUAL_ENV", ".venv", "PATH" …
	Why  string // empty for the one that was taken
}

// NotFoundError: there is no interpreter where the caller wants one.
type NotFoundError struct {
	Want    string
	Skipped []Candidate
	ByLink  bool // a link to py3run stands for it
}

func (e *NotFoundError) Error() string {
	s := "find python " + e.Want + ": not found"
	if e.ByLink {
		s = "find python: no " + e.Want + " in PATH besides py3run's links"
	} else if e.Want == "auto" {
		s = "find python: no Python 3.8 or newer in VIRTUAL_ENV, .venv or PATH"
	}
	for _, c := range e.Skipped {
		s += "; " + c.Path + ": " + c.Why
	}
	return s
}

// NotExecutableError: the interpreter that the caller named is there, but cannot be used.
type NotExecutableError struct{ Path, Why string }

func (e *NotExecutableError) Error() string { return "start python " + e.Path + ": " + e.Why }

// Find finds the interpreter, and returns the candidates that were passed over with it. Errors are
// a [*NotFoundError] or a [*NotExecutableError].
func Find(want Want) (Interpreter, []Candidate, error) {
	f := finder{want: want, cache: openCache(want.CacheDir, want.KeyFile)}
	return f.find()
}

// An Asked is a program that was started to learn which interpreter it is, or which it leads to.
type Asked struct {
	Path string
	Took time.Duration
	Shim string // of which kind of shim: "pyenv", "asdf" …; "script": of no kind that is known; empty: it is no shim
	Why  string // why the answer cannot be kept; empty: nothing is known that prevents it
}

// Again finds the interpreter once more, now with everything in the cache: so it takes as long as
// in every run. asked are the programs that were started for it.
func Again(want Want) (took time.Duration, asked []Asked) {
	began := time.Now()
	f := finder{want: want, cache: openCache(want.CacheDir, want.KeyFile)}
	ip, _, _ := f.find()
	took = time.Since(began)
	ip.Close()
	return took, f.asked
}

func (f *finder) find() (Interpreter, []Candidate, error) {
	switch w := f.want.Interpreter; {
	case w == "auto" || w == "":
		for _, c := range f.automatic() {
			if ip, err := f.ask(c); err == nil {
				return ip, f.skipped, nil
			} else {
				c.Why = err.Error()
				f.skipped = append(f.skipped, c)
			}
		}
		return Interpreter{}, f.skipped, &NotFoundError{Want: "auto", Skipped: f.skipped}
	case isVersion(w):
		return f.version(w)
	default:
		return f.named(w)
	}
}

type finder struct {
	want    Want
	cache   *cache
	skipped []Candidate
	asked   []Asked
	answers []answer // of shims, that are not in the cache yet
}

func (f *finder) env(name string) string { return envvar.Lookup(f.want.Environ, name) }

// searchPath returns the directories of PATH. Without that variable they are those in which execvp(3)
// looks.
func searchPath(environ []string) []string {
	if !slices.ContainsFunc(environ, func(e string) bool { return strings.HasPrefix(e, "PATH=") }) {
		return []string{"/usr/bin", "/bin"}
	}
	return filepath.SplitList(envvar.Lookup(environ, "PATH"))
}

// automatic lists the candidates that exist, in the order in which they are asked.
func (f *finder) automatic() (found []Candidate) {
	add := func(from string, path string) {
		switch err := executable(path); {
		case err == nil:
			found = append(found, Candidate{Path: path, From: from})
		case err == ErrItself && from != "PATH":
			found = append(found, Candidate{Path: path, From: from})
		}
	}
	if venv := f.env("VIRTUAL_ENV"); venv != "" {
		add("VIRTUAL_ENV", filepath.Join(venv, "bin", "python"))
	}
	for dir := f.want.Dir; dir != ""; dir = filepath.Dir(dir) {
		if path := filepath.Join(dir, ".venv", "bin", "python"); executable(path) == nil || executable(path) == ErrItself {
			if stranger := someoneElses(filepath.Join(dir, ".venv"), path); stranger == "" {
				add(".venv", path)
			} else { // anybody can make one in /tmp, and others work in directories below it
				f.skipped = append(f.skipped, Candidate{path, ".venv", stranger + " belongs to another user, or others may write there"})
			}
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	for _, name := range []string{"python3", "python"} {
		for _, dir := range searchPath(f.want.Environ) {
			if filepath.IsAbs(dir) {
				add("PATH", filepath.Join(dir, name))
			}
		}
	}
	return found
}

// someoneElses is a part of a virtual environment that somebody else than this user and root has
// made or can change; empty: there is none.
func someoneElses(venv, python string) string {
	real, err := filepath.EvalSymlinks(python)
	if err != nil {
		return python
	}
	for _, path := range []string{venv, filepath.Dir(python), filepath.Dir(real), real} {
		var st syscall.Stat_t
		if syscall.Stat(path, &st) != nil || others(&st) {
			return path
		}
	}
	return ""
}

// version looks for one minor version (or a full one) by its command name, among pyenv's versions
// and among the usual candidates.
func (f *finder) version(want string) (Interpreter, []Candidate, error) {
	minor := want
	if parts := strings.Split(want, "."); len(parts) > 2 {
		minor = parts[0] + "." + parts[1]
	}
	var list []Candidate
	for _, dir := range searchPath(f.want.Environ) {
		if filepath.IsAbs(dir) {
			list = append(list, Candidate{Path: filepath.Join(dir, "python"+minor), From: "PATH"})
		}
	}
	root := f.env("PYENV_ROOT")
	if home := f.env("HOME"); root == "" && home != "" {
		root = filepath.Join(home, ".pyenv")
	}
	if root != "" {
		matches, _ := filepath.Glob(filepath.Join(root, "versions", want+"*", "bin", "python"))
		slices.SortFunc(matches, func(a, b string) int { return slices.Compare(numbers(b), numbers(a)) }) // 3.12.10 before 3.12.9
		for _, m := range matches {
			list = append(list, Candidate{Path: m, From: "pyenv"})
		}
	}
	for _, c := range append(list, f.automatic()...) {
		if executable(c.Path) != nil {
			continue
		}
		ip, err := f.ask(c)
		switch {
		case err != nil:
			c.Why = err.Error()
		case ip.Version == want || strings.HasPrefix(ip.Version, want+"."):
			return ip, f.skipped, nil
		default:
			c.Why = "is Python " + ip.Version
		}
		f.skipped = append(f.skipped, c)
	}
	return Interpreter{}, f.skipped, &NotFoundError{Want: want, Skipped: f.skipped}
}

// numbers are the numbers in a text, in order.
func numbers(text string) (list []int) {
	for _, digits := range strings.FieldsFunc(text, func(r rune) bool { return r < '0' || r > '9' }) {
		n, _ := strconv.Atoi(digits)
		list = append(list, n)
	}
	return list
}

// named takes exactly the interpreter that the caller named, or none.
func (f *finder) named(want string) (Interpreter, []Candidate, error) {
	path := want
	if !strings.Contains(want, "/") {
		path = ""
		for _, dir := range searchPath(f.want.Environ) {
			if p := filepath.Join(dir, want); filepath.IsAbs(dir) && executable(p) == nil {
				path = p
				break
			}
		}
		if path == "" {
			return Interpreter{}, nil, &NotFoundError{Want: want}
		}
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(f.want.Dir, path)
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "bin", "python")
	}
	if err := executable(path); errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return Interpreter{}, nil, &NotFoundError{Want: want, Skipped: []Candidate{{Path: path, Why: "no such file"}}}
	} else if err != nil && err != ErrItself {
		return Interpreter{}, nil, &NotExecutableError{path, err.Error()}
	}
	ip, err := f.ask(Candidate{Path: path, From: "python.interpreter"})
	if err != nil {
		return Interpreter{}, f.skipped, &NotExecutableError{path, err.Error()}
	}
	return ip, f.skipped, nil
}

// executable tells why a path cannot be executed. Errors are of package syscall, without the path.
func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		var p *fs.PathError
		errors.As(err, &p)
		return p.Err
	}
	if info.IsDir() {
		return syscall.EISDIR
	}
	if itself() != nil && os.SameFile(info, itself()) {
		return ErrItself
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 { // execve(2) answers so for pipes and devices
		return syscall.EACCES
	}
	return nil
}

func isVersion(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) < 2 || len(parts) > 3 {
		return false
	}
	for _, p := range parts {
		if _, err := strconv.ParseUint(p, 10, 16); err != nil {
			return false
		}
	}
	return true
}

// ask learns what a candidate is: from the cache, if neither the candidate nor its pyvenv.cfg has
// changed since, else by starting it. A shim leads to another program, which is the one that runs: a
// shim of a known kind by what is kept of it (shim.go), any other by being started each time.
func (f *finder) ask(c Candidate) (Interpreter, error) {
	if IsItself(c.Path) {
		return f.behind(c)
	}
	path, through := c.Path, []string(nil)
	for range 3 { // a shim may lead to another
		head, next := headOf(path), ""
		var err error
		if s := identify(path, head); s != nil {
			next, err = f.lead(s)
		} else {
			var ip Interpreter
			if ip, next, err = f.examine(path, isScript(head)); err == nil && next == "" {
				ip.Through, ip.answers, f.answers = through, f.answers, nil
				return ip, nil
			}
		}
		if err != nil {
			return Interpreter{}, err
		}
		through, path = append(through, path), next
	}
	return Interpreter{}, errors.New("a script that leads to scripts only")
}

// behind is the interpreter of a virtual environment that a link to py3run has made.
func (f *finder) behind(c Candidate) (Interpreter, error) {
	link := Link{Name: filepath.Base(c.Path), Path: c.Path, Last: lastOf(c.Path)}
	if _, inside := environmentAround(link.Path); !inside {
		return Interpreter{}, ErrItself
	}
	path, _, err := PathFor(Want{Interpreter: "auto", Environ: f.want.Environ}, link)
	if err != nil {
		return Interpreter{}, err
	}
	ip, err := f.ask(Candidate{Path: path, From: c.From})
	if err != nil {
		return ip, err
	}
	ip.Behind, ip.Path, ip.Link, ip.Venv = ip.Path, c.Path, link.Last, venvOf(c.Path)
	return ip, nil
}

// examine learns which interpreter a program is that is no known shim. If it turns out to lead to
// another one, that is next.
func (f *finder) examine(path string, script bool) (ip Interpreter, next string, err error) {
	key, err := keyOf(path)
	if err != nil {
		return ip, "", err
	}
	if !script {
		if ip, ok := f.cache.get(key); ok {
			ip.Identity = key
			ip.code.again = func() ([]byte, error) {
				ip, _, err := start(path, f.want.Environ, "/", f.want.Run)
				return ip.code.bytes, err
			}
			return ip, "", nil
		}
	}
	began := time.Now()
	ip, _, err = start(path, f.want.Environ, "/", f.want.Run)
	asked := Asked{Path: path, Took: time.Since(began)}
	if err == nil && (script || leads(path, ip.Path)) {
		asked.Shim, next = "script", ip.Path
		if !filepath.IsAbs(next) {
			err = errNoAnswer
		}
	}
	f.asked = append(f.asked, asked)
	if err != nil || next != "" {
		return Interpreter{}, next, err
	}
	ip.Path, ip.Venv, ip.Identity = path, venvOf(path), key
	ip.code.cache = f.cache
	return ip, "", nil
}

// leads tells whether a program that names another file as the interpreter is a shim, such as a link
// to a version manager. That it names a file that is gone by now, as one in a file that unpacks
// itself, does not count.
func leads(path, interpreter string) bool {
	a, err := os.Stat(path)
	b, gone := os.Stat(interpreter)
	return err == nil && gone == nil && !os.SameFile(a, b)
}

// Identify is the Identity of the interpreter at a path, as it is now.
func Identify(path string) (string, error) {
	return keyOf(path)
}

// venvOf is the directory of the virtual environment that an interpreter belongs to (PEP 405).
func venvOf(path string) string {
	for _, dir := range []string{filepath.Dir(path), filepath.Dir(filepath.Dir(path))} {
		if _, err := os.Stat(filepath.Join(dir, "pyvenv.cfg")); err == nil {
			return dir
		}
	}
	return ""
}

// plainly is the usual Runner.
func plainly(path string, args, environ []string, dir, stdin string, within time.Duration) (string, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.Dir = environ, dir
	cmd.Stdin = strings.NewReader(stdin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	var p *fs.PathError
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case errors.As(err, &exit):
		err = nil
	case errors.As(err, &p):
		err = p.Err
	}
	return string(out), stderr.String(), err
}

// start asks a candidate: it runs probe.py. It returns also what the candidate has printed on its
// standard error.
func start(path string, environ []string, dir string, run Runner) (ip Interpreter, stderr string, err error) {
	if run == nil {
		run = plainly
	}
	sources, stdin := probeInput()
	out, stderr, err := run(path, append([]string{"-I", "-S", "-X", "utf8", "-c", probeSource}, sources...), environ, dir, stdin, askLimit)
	if errors.Is(err, context.DeadlineExceeded) {
		return Interpreter{}, stderr, fmt.Errorf("did not answer within %v", askLimit)
	}
	_, said, found := strings.Cut(out, "py3run-probe\n")
	lines := strings.Split(said, "\n")
	if !found || len(lines) < 7 {
		if err != nil {
			return Interpreter{}, stderr, err
		}
		why := "does not answer as Python 3 does"
		if text := strings.TrimSpace(stderr); text != "" {
			last := text[strings.LastIndexByte(text, '\n')+1:]
			why += ": " + strings.ToValidUTF8(last[:min(len(last), 200)], "?")
		}
		return Interpreter{}, stderr, errors.New(why)
	}
	ip = Interpreter{Version: lines[1], Path: lines[2], Platform: lines[3], Banner: lines[4], Prefixes: strings.Split(lines[5], prefixSeparator)}
	if lines[0] != "cpython" {
		return Interpreter{}, stderr, errors.New("is " + lines[0] + ", not CPython")
	}
	var major, minor int
	if fmt.Sscanf(ip.Version, "%d.%d", &major, &minor); major != 3 || minor < Oldest {
		return Interpreter{}, stderr, fmt.Errorf("is Python %s, older than 3.%d", ip.Version, Oldest)
	}
	if ip.code.bytes, err = base64.StdEncoding.DecodeString(lines[6]); err != nil || len(ip.code.bytes) == 0 {
		return Interpreter{}, stderr, errors.New("could not compile the bootstrap")
	}
	return ip, stderr, nil
}
