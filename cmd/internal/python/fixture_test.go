package python

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"py3run/cmd/internal/wire"
	"py3run/internal/need"
)

// In these tests the real bootstrap runs in every CPython that this machine has, without the sandbox around it. The bootstrap
// gets the same descriptors at the same kind of numbers, above those that the code's own files get.
const firstInTests = 64

// interpreters are the CPythons of this machine, oldest first, one of each version. Shims are left out: the interpreters that they
// lead to are found by themselves.
var interpreters = sync.OnceValue(func() (found []Interpreter) {
	var paths []string
	root := os.Getenv("PYENV_ROOT")
	if home, err := os.UserHomeDir(); root == "" && err == nil {
		root = filepath.Join(home, ".pyenv")
	}
	for _, pattern := range []string{filepath.Join(root, "versions", "*", "bin", "python"), "/usr/bin/python3"} {
		matches, _ := filepath.Glob(pattern)
		paths = append(paths, matches...)
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		for _, name := range []string{"python3", "python3.8", "python3.9", "python3.10", "python3.11", "python3.12", "python3.13", "python3.14"} {
			if filepath.IsAbs(dir) {
				paths = append(paths, filepath.Join(dir, name))
			}
		}
	}
	asked := map[string]bool{}
	for _, path := range paths {
		real, err := filepath.EvalSymlinks(path)
		if err != nil || asked[real] {
			continue
		}
		asked[real] = true
		if isScript(headOf(path)) {
			continue
		}
		ip, _, err := Find(Want{Interpreter: path, Environ: os.Environ(), Dir: "/"})
		if err == nil && !slices.ContainsFunc(found, func(other Interpreter) bool { return other.Version == ip.Version }) {
			found = append(found, ip)
		}
	}
	slices.SortFunc(found, func(a, b Interpreter) int { return slices.Compare(numbers(a.Version), numbers(b.Version)) })
	return found
})

// needPython returns the interpreters, of which there must be one.
func needPython(t *testing.T) []Interpreter {
	t.Helper()
	list := interpreters()
	if len(list) == 0 {
		need.That(t, "python", errors.New("there is no CPython 3.8 or newer"))
	}
	return list
}

// inEach runs a test in every interpreter, each as a parallel subtest.
func inEach(t *testing.T, test func(t *testing.T, ip Interpreter)) {
	t.Helper()
	for _, ip := range needPython(t) {
		t.Run(ip.Version, func(t *testing.T) {
			t.Parallel()
			test(t, ip)
		})
	}
}

// A trial is what came of a job.
type trial struct {
	dir            string // that the code ran in
	reply          Reply
	err            error
	events         wire.Events
	began          bool
	exit           int // -1 after a signal
	signal         syscall.Signal
	stdout, stderr string
	dump           []byte
}

// whyFlagged are the modules whose imports the tests record, each with the reason that the operator gives.
var whyFlagged = map[string]string{"os": "operating system", "subprocess": "programs", "sqlite3": "databases", "colorsys": "colours"}

// A process is what somebody has to start for a trial.
type process struct {
	args           []string
	files          []*os.File // at the descriptors from firstInTests on
	dir            string
	stdout, stderr *os.File
}

// try runs a job in an interpreter that is started for it.
func try(t *testing.T, ip Interpreter, job Job) trial {
	t.Helper()
	return tryWith(t, ip, job, func(p process) (syscall.WaitStatus, error) {
		cmd := exec.Command(ip.Path, p.args...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, p.stdout, p.stderr
		cmd.Env = append(environ(), "HOME="+p.dir, "TMPDIR="+p.dir)
		cmd.ExtraFiles = append(make([]*os.File, firstInTests-3), p.files...)
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		cmd.Wait()
		return cmd.ProcessState.Sys().(syscall.WaitStatus), nil
	})
}

// environ is what the interpreters of all trials have in their environment. Jedi keeps what it has parsed in the cache: without it, each
// completion would parse its stubs of the built-in names again, for seconds.
func environ() []string {
	cache := filepath.Join(os.TempDir(), fmt.Sprint("py3run-test-cache-", os.Geteuid()), "home")
	return []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "XDG_CACHE_HOME=" + cache}
}

// tryWith does for a job what launch does: it puts the code in a file of its own, which tracebacks call main.py, beside the directory
// that the code runs in, and lays out the session. Then run starts the interpreter and waits for its end.
func tryWith(t *testing.T, ip Interpreter, job Job, run func(process) (syscall.WaitStatus, error)) trial {
	t.Helper()
	base := t.TempDir()
	tr := trial{dir: filepath.Join(base, "work")}
	if err := os.Mkdir(tr.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if job.Command == "" {
		job.Command = wire.CommandExecute
	}
	if job.ResultFrom == "" {
		job.ResultFrom = "auto"
	}
	if job.ResultFormat == "" {
		job.ResultFormat = "plain"
	}
	if job.Path == "" {
		job.Path = filepath.Join(base, "code.py")
		if err := os.WriteFile(job.Path, job.Code, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	job.Shown, job.Flagged = "main.py", whyFlagged
	job.Argv = append([]string{job.Path}, job.Argv...)
	if job.OutputMost == 0 {
		job.OutputMost = 10 << 20
	}
	s, err := Open(ip, job, firstInTests)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()

	// What the process writes is read while it runs: a full pipe would stop it.
	var reading sync.WaitGroup
	output := func(into *[]byte) *os.File {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		reading.Go(func() {
			*into, _ = io.ReadAll(r)
			r.Close()
		})
		return w
	}
	var stdout, stderr []byte
	p := process{args: s.Args(), dir: tr.dir, stdout: output(&stdout), stderr: output(&stderr)}
	dump := output(&tr.dump)
	gate, open, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	open.Write([]byte{1})
	open.Close()
	p.files = append(slices.Clone(s.Files()), gate, dump)
	status, err := run(p)
	s.Started()
	for _, f := range []*os.File{gate, dump, p.stdout, p.stderr} {
		f.Close()
	}
	reading.Wait()
	if err != nil {
		t.Fatal(err)
	}
	tr.exit = status.ExitStatus()
	if status.Signaled() {
		tr.exit, tr.signal = -1, status.Signal()
	}
	tr.stdout, tr.stderr = string(stdout), string(stderr)
	_, tr.began = s.CodeStarted()
	tr.reply, tr.err = s.Reply()
	tr.events = s.Events(whyFlagged, wire.Events{})
	return tr
}

func code(text string) Job { return Job{Code: []byte(text), Text: true} }

// kind is how the run ended, in one word, for comparison.
func (tr trial) kind() string {
	switch {
	case errors.Is(tr.err, ErrNoReply):
		return "none"
	case tr.err != nil:
		return tr.err.Error()
	}
	return tr.reply.Kind
}

func (tr trial) warnings() (list []string) {
	for _, w := range tr.reply.Warnings {
		list = append(list, w.Code+" "+w.Message)
	}
	return list
}

// value is the JSON of the result; where there is none, the test fails.
func (tr trial) value(t *testing.T) string {
	t.Helper()
	if tr.err != nil || tr.reply.Kind != "value" {
		t.Fatalf("%s %s: %s\n%s", tr.kind(), tr.reply.Error, tr.reply.Traceback, tr.stderr)
	}
	return string(tr.reply.Value)
}

// matches compares; "*" in want stands for any text.
func matches(got, want string) bool {
	parts := strings.Split(want, "*")
	if len(parts) == 1 {
		return got == want
	}
	if !strings.HasPrefix(got, parts[0]) {
		return false
	}
	got = got[len(parts[0]):]
	for _, p := range parts[1 : len(parts)-1] {
		at := strings.Index(got, p)
		if at < 0 {
			return false
		}
		got = got[at+len(p):]
	}
	return strings.HasSuffix(got, parts[len(parts)-1])
}

// lines is for messages: a text with each line indented.
func lines(text string) string {
	return string(bytes.ReplaceAll([]byte("\n"+text), []byte("\n"), []byte("\n    ")))
}

// writeFiles writes files below a directory.
func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}
