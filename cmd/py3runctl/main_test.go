package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"py3run/cmd"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/ctl"
	"py3run/cmd/internal/python"
	"py3run/internal/need"
)

// The scripts run both programs: copies of this test binary under their names.
func TestMain(m *testing.M) {
	access.SystemFile = filepath.Join(os.Getenv("WORK"), "etc", access.FileName) // never this machine's own
	testscript.Main(m, map[string]func(){
		"py3run":    func() { os.Exit(cmd.Main()) },
		"py3runctl": func() { os.Exit(ctl.Main(os.Args[1:])) },
	})
}

func TestScripts(t *testing.T) {
	ip, skipped, err := python.Find(python.Want{Interpreter: "auto", Environ: os.Environ(), Dir: "/"})
	if err != nil {
		err = fmt.Errorf("%w (passed over: %v)", err, skipped)
	}
	need.That(t, "python", err)
	testscript.Run(t, testscript.Params{
		Dir: "../../testdata/ctl",
		Setup: func(env *testscript.Env) error {
			if err := os.Mkdir(filepath.Join(env.WorkDir, "tmp"), 0o700); err != nil {
				return err
			}
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("PY3RUN_PYTHON_INTERPRETER", ip.Path)
			env.Setenv("PY3RUN_SECURITY_AUDIT_DIR", filepath.Join(env.WorkDir, "audit"))
			env.Setenv("PY3RUN_SECURITY_ISOLATION_WORKING_DIR", filepath.Join(env.WorkDir, "tmp", "p-${userId}-${executionId}"))
			shared := filepath.Join(os.TempDir(), fmt.Sprint("py3run-test-cache-", os.Geteuid()))
			env.Setenv("XDG_CACHE_HOME", shared)
			env.Setenv("XDG_STATE_HOME", filepath.Join(shared, "state"))
			env.Setenv("PY3RUN_CONFIG", "") // never this machine's own
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
			return nil
		},
	})
}
