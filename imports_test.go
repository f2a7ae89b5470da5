package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestImports holds the one direction of the data: what is not in the table is not imported.
func TestImports(t *testing.T) {
	allowed := map[string][]string{
		"py3run":                     {"py3run/cmd"},
		"py3run/cmd":                 {"py3run/cmd/internal/cli", "py3run/cmd/internal/config", "py3run/cmd/internal/launch", "py3run/cmd/internal/startup", "py3run/cmd/internal/warm", "py3run/cmd/internal/wire", "py3run/sandbox"},
		"py3run/cmd/internal/launch": {"py3run/audit", "py3run/cmd/internal/config", "py3run/cmd/internal/startup", "py3run/cmd/internal/python", "py3run/cmd/internal/redact", "py3run/cmd/internal/warm", "py3run/cmd/internal/wire", "py3run/internal/json", "py3run/sandbox"},
		"py3run/cmd/internal/warm":   {"py3run/cmd/internal/python", "py3run/sandbox", "py3run/sandbox/cgroup"},
		"py3run/cmd/internal/redact": nil,
		"py3run/cmd/internal/python": {"py3run/cmd/internal/redact", "py3run/cmd/internal/startup", "py3run/cmd/internal/wire"},
		"py3run/cmd/internal/cli":    nil, "py3run/cmd/internal/config": nil, "py3run/cmd/internal/startup": nil, "py3run/cmd/internal/wire": {"py3run/cmd/internal/startup", "py3run/internal/json"},
		"py3run/audit": {"py3run/internal/json"}, "py3run/internal/json": nil, "py3run/internal/need": nil,
		"py3run/cmd/py3runctl":      {"py3run/cmd/internal/ctl"},
		"py3run/cmd/internal/ctl":   {"py3run/audit", "py3run/cmd/internal/cli", "py3run/cmd/internal/config", "py3run/cmd/internal/store", "py3run/cmd/internal/warm", "py3run/cmd/internal/wire"},
		"py3run/cmd/internal/store": {"py3run/audit"},
		"py3run/sandbox":            {"py3run/sandbox/cgroup", "py3run/sandbox/seccomp"}, "py3run/sandbox/cgroup": nil, "py3run/sandbox/seccomp": nil,
	}
	outside := map[string][]string{ // modules that a package may use beside the standard library
		"py3run/cmd":                 {"github.com/spf13/cobra", "github.com/spf13/pflag", "github.com/mattn/go-isatty", "golang.org/x/sys/unix"},
		"py3run/cmd/internal/cli":    {"github.com/spf13/cobra", "github.com/spf13/pflag"},
		"py3run/cmd/internal/config": {"github.com/BurntSushi/toml"},
		"py3run/cmd/internal/store":  {"modernc.org/sqlite"},
		"py3run/cmd/internal/ctl":    {"github.com/spf13/cobra", "github.com/mattn/go-isatty", "golang.org/x/sys/unix", "golang.org/x/mod/sumdb/note", "golang.org/x/mod/sumdb/tlog"},
		"py3run/cmd/internal/launch": {"golang.org/x/sys/unix"}, "py3run/cmd/internal/python": {"golang.org/x/sys/unix"}, "py3run/cmd/internal/warm": {"golang.org/x/sys/unix"},
		"py3run/sandbox": {"golang.org/x/sys/unix"}, "py3run/sandbox/cgroup": {"golang.org/x/sys/unix"}, "py3run/sandbox/seccomp": {"golang.org/x/sys/unix"}, "py3run/audit": {"golang.org/x/sys/unix"},
	}
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := json.NewDecoder(bytes.NewReader(out))
	for packages.More() {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := packages.Decode(&p); err != nil {
			t.Fatal(err)
		}
		ours, known := allowed[p.ImportPath]
		if !known {
			t.Errorf("package %s is not in the table", p.ImportPath)
		}
		for _, i := range p.Imports {
			first, _, _ := strings.Cut(i, "/")
			inside := first == "py3run"
			if inside && !slices.Contains(ours, i) || !inside && strings.Contains(first, ".") && !slices.Contains(outside[p.ImportPath], i) {
				t.Errorf("%s imports %s", p.ImportPath, i)
			}
		}
	}
}
