package python

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A lazy site is one that nobody notices: the same code says the same with and without, but for what the README lists.
func TestLazySite(t *testing.T) {
	tests := []struct{ name, code string }{
		{"nothing imported", "result = 1"},
		{"standard library", "import json, os, re; result = json.dumps([os.sep, re.escape('.')])"},
		{"package of the environment", "import planted; result = planted.value"},
		{"package inside a package", "import planted.inner; result = planted.inner.value"},
		{"part of a namespace package", "import space.far; result = space.far.value"},
		{"both parts", "import space.near, space.far; result = [space.near.value, space.far.value]"},
		{"what a .pth file does", "import planted, sys; result = getattr(sys, 'planted_by_pth', None)"},
		{"directory that a .pth file names", "import elsewhere; result = elsewhere.value"},
		{"no such module", "try:\n    import nowhere\nexcept ImportError as e:\n    result = [type(e).__name__, str(e)]"},
		{"no such module of a package", "try:\n    import json.nowhere\nexcept ImportError as e:\n    result = [type(e).__name__, str(e)]"},
		{"importlib finds", "import importlib.util; result = importlib.util.find_spec('planted') is not None"},
		{"what is installed", "import pkgutil; result = 'planted' in [m.name for m in pkgutil.iter_modules()]"},
		{"prefix, once a package is there", "import planted, sys; result = [sys.prefix, sys.exec_prefix, sys.base_prefix]"},
		{"path, once a package is there", "import planted, sys; result = sys.path"},
		{"exit", "exit(3)"},
		{"quit", "quit()"},
		{"help", "result = repr(help)"},
		{"a tuple", "result = (1, 2)"},
		{"a set of dates", "import datetime; result = {datetime.date(2026, 1, 1): {1}}"},
		{"a long integer", "result = 10 ** 5000"},
		{"an exception", "def f():\n    raise ValueError('x')\nf()"},
		{"a mistake of syntax", "x = = 1"},
		{"an exception that says nothing", "class E(Exception):\n    def __str__(self): raise RuntimeError\nraise E"},
		{"what a .pth file has started", "import agent; result = agent.started"},
		{"a module that site has brought, once", "import agent, sys; result = [agent.count, sys.modules['agent'] is agent, agent.__spec__.origin == agent.__file__]"},
		{"site itself", "import site; result = [site.ENABLE_USER_SITE, bool(site.USER_SITE), site.PREFIXES]"},
		{"a finder", "import importlib.machinery; result = importlib.machinery.PathFinder.find_spec('planted') is not None"},
		{"in threads", "import threading\nfound = []\ndef load():\n    import planted\n    found.append(planted.value)\nts = [threading.Thread(target=load) for _ in range(8)]\n[x.start() for x in ts]; [x.join() for x in ts]\nresult = found"},
		{"multiprocessing, spawned", "import multiprocessing, subprocess, sys\nfrom multiprocessing import spawn\nresult = any('site-packages' in p for p in spawn.get_preparation_data('x')['sys_path'])"},
	}
	inEach(t, func(t *testing.T, ip Interpreter) {
		root := t.TempDir()
		near, elsewhere := filepath.Join(root, "near"), filepath.Join(root, "else")
		for path, text := range map[string]string{elsewhere + "/elsewhere.py": "value = 'elsewhere'\n", near + "/space/near.py": "value = 'near'\n"} {
			os.MkdirAll(filepath.Dir(path), 0o700)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		venv := plantEnvironment(t, ip, map[string]string{
			"planted/__init__.py": "value = 'planted'\n",
			"planted/inner.py":    "value = 'inner'\n",
			"space/far.py":        "value = 'far'\n",
			"agent.py":            "import sys\nstarted = False\ncount = sys.agents = getattr(sys, 'agents', 0) + 1\ndef start():\n    global started\n    started = True\n",
			"planted.pth":         "import sys; sys.planted_by_pth = 'yes'\nimport agent; agent.start()\n" + elsewhere + "\n",
		})
		for i, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				if !turn(ip, i) {
					t.Skip("another version's turn")
				}
				t.Parallel()
				job := code(tt.code)
				job.ImportPath = []string{near}
				eager := try(t, venv, job)
				job.LazySite = true
				lazy := try(t, venv, job)
				if eager.kind() != lazy.kind() || string(eager.reply.Value) != string(lazy.reply.Value) || eager.reply.Error != lazy.reply.Error || eager.reply.Traceback != lazy.reply.Traceback || eager.exit != lazy.exit || eager.stderr != lazy.stderr {
					t.Errorf("eager: %s %s exit %d %s\nlazy: %s %s %s exit %d %s", eager.kind(), eager.reply.Value, eager.exit, eager.stderr, lazy.kind(), lazy.reply.Value, lazy.reply.Error+lazy.reply.Traceback, lazy.exit, lazy.stderr)
				}
			})
		}
		t.Run("the standard library does not miss it", func(t *testing.T) {
			job := code("import sys, copy, pickle, pathlib, subprocess, json, re, csv, datetime, logging\nresult = 'site' in sys.modules")
			job.LazySite = true
			if got := try(t, venv, job).value(t); got != "false" {
				t.Errorf("site is loaded: %s", got)
			}
		})
		t.Run("it is lazy", func(t *testing.T) {
			job := code("import sys, json\nbefore = 'site' in sys.modules\nimport planted\nresult = [before, 'site' in sys.modules]")
			job.LazySite = true
			var got []bool
			if err := json.Unmarshal([]byte(try(t, venv, job).value(t)), &got); err != nil || len(got) != 2 || got[0] || !got[1] {
				t.Errorf("site before and after: %v %v", got, err)
			}
		})
	})
}

// While site is loaded in one thread, others import: neither waits for the other for ever.
func TestLazySiteAmongThreads(t *testing.T) {
	inEach(t, func(t *testing.T, ip Interpreter) {
		env := plantEnvironment(t, ip, map[string]string{
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
func plantEnvironment(t *testing.T, ip Interpreter, files map[string]string) Interpreter {
	t.Helper()
	env := t.TempDir()
	real, err := filepath.EvalSymlinks(ip.Path)
	if err != nil {
		t.Fatal(err)
	}
	version := strings.Join(strings.SplitN(ip.Version, ".", 3)[:2], ".")
	write := func(path, text string) {
		os.MkdirAll(filepath.Dir(path), 0o700)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(env, "pyvenv.cfg"), "home = "+filepath.Dir(real)+"\n")
	for name, text := range files {
		write(filepath.Join(env, "lib", "python"+version, "site-packages", name), text)
	}
	os.MkdirAll(filepath.Join(env, "bin"), 0o700)
	if err := os.Symlink(real, filepath.Join(env, "bin", "python")); err != nil {
		t.Fatal(err)
	}
	venv, _, err := Find(Want{Interpreter: env, Environ: os.Environ(), Dir: "/"})
	if err != nil {
		t.Fatal(err)
	}
	return venv
}
