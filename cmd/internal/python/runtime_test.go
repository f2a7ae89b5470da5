package python

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"py3run/cmd/internal/wire"
)

// No traceback shows a frame of the runtime, whichever of its modules the exception passes through.
func TestTracebackWithoutRuntime(t *testing.T) {
	t.Parallel()
	variables := code("1/0")
	variables.Variables = &wire.Object{Names: []string{"a"}, Values: []any{"b"}}
	last := code("def f():\n    raise KeyError(1)\ntry:\n    f()\nexcept KeyError as e:\n    raise ValueError from e")
	last.ResultFrom = "last_expression"
	tests := []struct {
		name string
		job  Job
		want string
	}{
		{"a statement", code("1/0"), "ZeroDivisionError"},
		{"with variables", variables, "ZeroDivisionError"},
		{"syntax", code("x = ("), "SyntaxError"},
		{"an import", code("import nowhere"), "ModuleNotFoundError"},
		{"a chain, for the last expression", last, "ValueError"},
	}
	inEach(t, func(t *testing.T, ip Interpreter) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				r := try(t, ip, tt.job).reply
				if r.Type != tt.want || strings.Contains(r.Traceback, "<py3run") || !strings.Contains(r.Traceback, tt.want) {
					t.Errorf("%s\n%s\nwant %s, and nothing of <py3run", r.Type, r.Traceback, tt.want)
				}
			})
		}
	})
}

// atTop are the modules of the standard library that the runtime's may import when they are loaded, by the moment.
var atTop = map[string][]string{
	atStart:    strings.Fields("_codecs _imp _json _warnings _weakref faulthandler fcntl gc itertools marshal mmap posix sys time"),
	later:      strings.Fields("_imp _thread marshal posix sys time"),
	inTemplate: strings.Fields("_signal _socket ctypes gc marshal posix sys time"),
}

// What a module of the runtime imports from another is there, and the table of modules has all of
// them.
func TestModules(t *testing.T) {
	from := regexp.MustCompile(`(?s)\bfrom \.(\w+) import (\(.*?\)|[^\n]*)`)
	sources := map[string]string{}
	var listed []string
	reporting := map[string]int{}
	for _, m := range modules() {
		sources[m.name] = m.source
		listed = append(listed, "runtime/"+m.name+".py")
		for function := range reports {
			reporting[function] += strings.Count(m.source, "def "+function+"(")
		}
	}
	for function, n := range reporting {
		if n != 1 {
			t.Errorf("%d functions are named %s: a dump could not tell which is meant", n, function)
		}
	}
	head, _, _ := strings.Cut(initSource, "\nimport ")
	plain := regexp.MustCompile(`(?m)^(?:import ([\w, ]+)|from (\w+) import)`)
	for _, m := range modules() {
		if !regexp.MustCompile(`\b` + m.name + `\b`).MatchString(head) {
			t.Errorf("the table in __init__.py has no module %s", m.name)
		}
		for _, found := range plain.FindAllStringSubmatch(m.source, -1) {
			for _, name := range strings.Split(found[1]+found[2], ",") {
				if name = strings.TrimSpace(name); !slices.Contains(atTop[m.moment], name) {
					t.Errorf("%s imports %s at its top, which is not for this moment", m.name, name)
				}
			}
		}
	}
	for name, source := range sources {
		for _, found := range from.FindAllStringSubmatch(source, -1) {
			other, known := sources[found[1]]
			if !known {
				t.Errorf("%s: no module %s", name, found[1])
				continue
			}
			for _, wanted := range strings.Split(strings.Trim(found[2], "()"), ",") {
				wanted, _, _ = strings.Cut(strings.TrimSpace(wanted), " as ")
				if defined := regexp.MustCompile(`(?m)^(?:(?:def|class) ` + wanted + `\b|(?:[\w, ]+, *)?` + wanted + `(?:, *[\w, ]+)? = |.*\bimport (?:.*[ ,])?` + wanted + `\b)`); !defined.MatchString(other) {
					t.Errorf("%s: module %s has no %s", name, found[1], wanted)
				}
			}
		}
	}
	files, _ := filepath.Glob("runtime/*.py")
	files = slices.DeleteFunc(files, func(path string) bool { return path == "runtime/probe.py" })
	slices.Sort(listed)
	if !slices.Equal(files, listed) {
		t.Errorf("the table has %q, the directory %q", listed, files)
	}
}

// Many sessions at once in one process do not know of each other: each has its own values, events and environment.
func TestSessionsAtOnce(t *testing.T) {
	t.Parallel()
	ip := needPython(t)[0]
	for n := range 40 {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			job := code(fmt.Sprintf("print(n)\nopen('f%d', 'w').close()\nresult = [n, {n}]", n))
			job.Variables = &wire.Object{Names: []string{"n"}, Values: []any{wire.Number(strconv.Itoa(n))}}
			job.LazySite = n%2 == 0
			tr := try(t, ip, job)
			if got, want := tr.value(t), fmt.Sprintf("[%d,[%d]]", n, n); got != want || tr.stdout != fmt.Sprintln(n) {
				t.Errorf("%s, printed %q, want %s", got, tr.stdout, want)
			}
			if got, want := tr.events.FilesWritten, []string{filepath.Join(tr.dir, fmt.Sprint("f", n))}; !slices.Equal(got, want) {
				t.Errorf("files written: %q, want %q", got, want)
			}
		})
	}
}

// A cache of jedi that another process is still writing, or left half written, costs no answer.
func TestCompletionsWithBrokenCache(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, ip Interpreter) {
		cache := t.TempDir()
		complete := func() trial {
			job := code("import os.path\nos.path.joi")
			job.Command, job.Line, job.Column = wire.CommandGetCompletions, 2, 11
			return tryWith(t, ip, job, func(p process) (syscall.WaitStatus, error) {
				cmd := exec.Command(ip.Path, p.args...)
				cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, p.stdout, p.stderr
				cmd.Env = append(environ(), "HOME="+p.dir, "TMPDIR="+p.dir, "XDG_CACHE_HOME="+cache)
				cmd.ExtraFiles = append(make([]*os.File, firstInTests-3), p.files...)
				err := cmd.Run()
				return cmd.ProcessState.Sys().(syscall.WaitStatus), err
			})
		}
		whole := complete().reply
		kept := 0
		filepath.WalkDir(cache, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				kept++
				return os.Truncate(path, 0)
			}
			return err
		})
		if kept == 0 {
			t.Skip("this interpreter has no jedi")
		}
		if r := complete().reply; r.Kind != "value" || string(r.Value) != string(whole.Value) || !strings.Contains(string(r.Value), `"join"`) {
			t.Errorf("%s %s %s, want %s", r.Kind, r.Error, r.Value, whole.Value)
		}
	})
}
