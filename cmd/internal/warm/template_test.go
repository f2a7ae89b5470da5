package warm

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"py3run/cmd/internal/python"
	"py3run/sandbox"
)

// start starts a template that ends with the test.
func start(t *testing.T, importPath []string, preload ...string) *python.Template {
	t.Helper()
	runtime.LockOSThread() // it ends with this thread
	t.Cleanup(runtime.UnlockOSThread)
	ip, _, err := python.Find(python.Want{Interpreter: "auto", Environ: os.Environ(), Dir: "/"})
	if err != nil {
		t.Skip(err)
	}
	base := sandbox.PoolKey{FirstFile: 1024}
	setup, _ := base.Setup()
	template, err := python.StartTemplate(ip, python.TemplateJob{Setup: setup, Practice: sandbox.Practice(), First: base.FirstFile, Environ: os.Environ(),
		ImportPath: importPath, Preload: preload}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(template.Close)
	return template
}

// A template that does not learn which pages a run touches works, and is slow: nothing else would tell.
func TestTemplateLearns(t *testing.T) {
	if _, err := os.Stat("/proc/self/pagemap"); err != nil {
		t.Skip(err)
	}
	for _, preload := range [][]string{nil, {"json", "threading"}} {
		if template := start(t, nil, preload...); template.Pages[0] == 0 || template.Pages[1] == 0 {
			t.Errorf("with %v: pages of init and of the program: %v", preload, template.Pages)
		}
	}
}

// Whatever a preloaded module does to a process, its template starts, and nothing of the practice
// is left.
func TestTemplateOfOddModules(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, "left")
	modules := map[string]string{
		"reaps":     "import os, signal\ndef reap(*a):\n    try:\n        while os.waitpid(-1, os.WNOHANG)[0]: pass\n    except ChildProcessError: pass\nsignal.signal(signal.SIGCHLD, reap)\n",
		"ignores":   "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n",
		"kills":     "import atexit, os\natexit.register(lambda: os.killpg(0, 9))\n",
		"writes":    "import atexit\natexit.register(lambda: open(" + strconv.Quote(left) + ", 'w').close())\n",
		"no_alarms": "import atexit, signal, time\nsignal.signal(signal.SIGALRM, lambda *a: None)\natexit.register(lambda: time.sleep(1000))\n",
		"prints":    "import sys\nprint('x' * 300000)\nsys.stdout.flush()\n",
		"threads":   "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n",
		"closes":    "import os\nos.closerange(0, 3)\n",
	}
	for name, text := range modules {
		if err := os.WriteFile(filepath.Join(dir, "odd_"+name+".py"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			start(t, []string{dir}, "odd_"+name)
			if _, err := os.Stat(left); err == nil {
				t.Error("a function for the end has run")
			}
		})
	}
	practising := func() (left []string) {
		paths, _ := filepath.Glob("/proc/[0-9]*/fd/*")
		for _, path := range paths {
			if to, _ := os.Readlink(path); strings.HasPrefix(to, "/memfd:py3run-practice") {
				left = append(left, path)
			}
		}
		return left
	}
	for end := time.Now().Add(30 * time.Second); len(practising()) > 0; time.Sleep(10 * time.Millisecond) { // other tests have templates as well
		if time.Now().After(end) {
			t.Fatalf("left: %v", practising())
		}
	}
}

// A template that is ended does what its modules have registered for that, whatever that is; one
// that is killed does not.
func TestTemplateEnds(t *testing.T) {
	dir := t.TempDir()
	const module = `import atexit, os, tempfile, time, weakref
def left(what):
    open(os.path.join(os.path.dirname(__file__), what), "w").close()
class Thing: pass
thing = Thing()
directory = tempfile.TemporaryDirectory(dir=os.path.dirname(__file__), prefix="temporary-")
file = tempfile.NamedTemporaryFile(dir=os.path.dirname(__file__), prefix="temporary-")
weakref.finalize(thing, left, "finalize")
atexit.register(left, "atexit")
`
	for name, text := range map[string]string{"ends": module, "stays": module + "atexit.register(time.sleep, 1000)\natexit.register(left, 'began')\n"} {
		if err := os.WriteFile(filepath.Join(dir, name+".py"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list := func() (names []string) {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), ".py") && e.Name() != "__pycache__" {
				names = append(names, e.Name())
				os.RemoveAll(filepath.Join(dir, e.Name()))
			}
		}
		return names
	}
	start(t, []string{dir}, "ends").End(time.Minute)
	if got := list(); !slices.Equal(got, []string{"atexit", "finalize"}) {
		t.Errorf("an end leaves %q, want atexit and finalize, and no temporary files", got)
	}
	start(t, []string{dir}, "stays").End(time.Second)
	if got := list(); len(got) != 3 || got[0] != "began" {
		t.Errorf("an end that takes too long leaves %q, want began and the temporary ones", got)
	}
	start(t, []string{dir}, "ends").Close()
	if got := list(); len(got) != 2 {
		t.Errorf("a kill leaves %q, want the temporary ones", got)
	}
}
