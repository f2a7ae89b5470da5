package python

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// With -S the standard library works as well, and the first package of the environment brings site.
func TestLazySiteIsLazy(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, ip Interpreter) {
		venv := plantEnvironment(t, t.TempDir(), ip, map[string]string{"planted.py": "value = 1\n"})
		job := code("import sys, copy, pickle, pathlib, subprocess, json, re, csv, datetime, logging\nbefore = 'site' in sys.modules\nimport planted\nresult = [before, 'site' in sys.modules]")
		job.LazySite = true
		if got := try(t, venv, job).value(t); got != "[false,true]" {
			t.Errorf("site before and after: %s", got)
		}
	})
}

// While site is loaded in one thread, others import: neither waits for the other for ever.
func TestLazySiteAmongThreads(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, ip Interpreter) {
		env := plantEnvironment(t, t.TempDir(), ip, map[string]string{
			"sitecustomize.py": "import asyncio, threading\nt = threading.Thread(target=lambda: __import__('colorsys'))\nt.start()\nt.join()\n",
			"planted.py":       "value = 1\n",
		})
		job := code("import sys, threading, time\nt = threading.Thread(target=lambda: __import__('asyncio'))\nt.start()\nsys.path.append(None)\ntime.sleep(0.01)\nimport planted\nt.join()\nresult = planted.value")
		job.LazySite = true
		if got := try(t, env, job).value(t); got != "1" {
			t.Error(got)
		}
	})
}

// plantEnvironment makes a virtual environment with these files among its packages.
func plantEnvironment(t *testing.T, dir string, ip Interpreter, files map[string]string) Interpreter {
	t.Helper()
	real, err := filepath.EvalSymlinks(ip.Path)
	if err != nil {
		t.Fatal(err)
	}
	version := strings.Join(strings.SplitN(ip.Version, ".", 3)[:2], ".")
	writeFiles(t, dir, map[string]string{"pyvenv.cfg": "home = " + filepath.Dir(real) + "\n"})
	writeFiles(t, filepath.Join(dir, "lib", "python"+version, "site-packages"), files)
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "bin"), 0o700), os.Symlink(real, filepath.Join(dir, "bin", "python"))); err != nil {
		t.Fatal(err)
	}
	venv, _, err := Find(Want{Interpreter: dir, Environ: os.Environ(), Dir: "/"})
	if err != nil {
		t.Fatal(err)
	}
	return venv
}
