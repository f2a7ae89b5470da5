package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// imports are the packages of this module, each with what it may import besides the standard library: packages of this
// module by their path in it, packages of others by their whole path. Data flows in one direction: sandbox and audit are
// leaves that nothing under cmd can enter.
var imports = map[string]string{
	"":                             "cmd",
	"audit":                        "internal/activity internal/atomicfile internal/bootid internal/filelock internal/json golang.org/x/sys/unix",
	"cmd":                          "cmd/internal/access cmd/internal/cli cmd/internal/config cmd/internal/launch cmd/internal/python cmd/internal/scripts cmd/internal/startup cmd/internal/warm cmd/internal/wire internal/envvar internal/passwd internal/sigaction sandbox github.com/spf13/cobra github.com/spf13/pflag golang.org/x/sys/unix",
	"cmd/help":                     "", // the pages and their test
	"cmd/internal/access":          "cmd/internal/config cmd/internal/spelling cmd/internal/tomledit internal/atomicfile internal/bootid internal/filelock github.com/BurntSushi/toml golang.org/x/sys/unix",
	"cmd/internal/cli":             "github.com/mattn/go-isatty github.com/spf13/cobra github.com/spf13/pflag golang.org/x/sys/unix",
	"cmd/internal/config":          "cmd/internal/spelling cmd/internal/tomledit internal/envvar github.com/BurntSushi/toml",
	"cmd/internal/ctl":             "audit cmd/internal/access cmd/internal/cli cmd/internal/config cmd/internal/scripts cmd/internal/spelling cmd/internal/store cmd/internal/tomledit cmd/internal/warm cmd/internal/web cmd/internal/wire internal/atomicfile internal/envvar internal/filelock internal/passwd sandbox/cgroup github.com/BurntSushi/toml github.com/rogpeppe/go-internal/diff github.com/spf13/cobra github.com/spf13/pflag golang.org/x/mod/sumdb/note golang.org/x/mod/sumdb/tlog golang.org/x/sys/unix",
	"cmd/internal/launch":          "audit cmd/internal/access cmd/internal/config cmd/internal/python cmd/internal/redact cmd/internal/scripts cmd/internal/warm cmd/internal/wire internal/activity internal/envvar internal/json internal/passwd sandbox golang.org/x/sys/unix",
	"cmd/internal/python":          "cmd/internal/redact cmd/internal/startup cmd/internal/wire internal/activity internal/envvar internal/passwd golang.org/x/sys/unix",
	"cmd/internal/redact":          "",
	"cmd/internal/scripts":         "cmd/internal/access cmd/internal/spelling cmd/internal/wire internal/atomicfile internal/filelock github.com/BurntSushi/toml golang.org/x/sys/unix",
	"cmd/internal/spelling":        "",
	"cmd/internal/startup":         "",
	"cmd/internal/store":           "audit internal/bootid modernc.org/sqlite",
	"cmd/internal/tomledit":        "internal/atomicfile internal/filelock github.com/BurntSushi/toml golang.org/x/sys/unix",
	"cmd/internal/warm":            "cmd/internal/python internal/filelock sandbox sandbox/cgroup golang.org/x/sys/unix",
	"cmd/internal/web":             "audit cmd/internal/access cmd/internal/config cmd/internal/scripts cmd/internal/store cmd/internal/wire internal/activity github.com/rogpeppe/go-internal/diff golang.org/x/text/language golang.org/x/text/message golang.org/x/text/number",
	"cmd/internal/wire":            "cmd/internal/spelling cmd/internal/startup cmd/internal/wire/strictjson internal/activity internal/json",
	"cmd/internal/wire/strictjson": "",
	"cmd/py3runctl":                "cmd/internal/ctl",
	"examples/bench/floor":         "",
	"internal/activity":            "",
	"internal/atomicfile":          "golang.org/x/sys/unix",
	"internal/bootid":              "golang.org/x/sys/unix",
	"internal/envvar":              "",
	"internal/filelock":            "golang.org/x/sys/unix",
	"internal/json":                "",
	"internal/need":                "", // of tests
	"internal/passwd":              "",
	"internal/sigaction":           "",
	"sandbox":                      "internal/passwd internal/sigaction sandbox/cgroup sandbox/seccomp golang.org/x/sys/unix",
	"sandbox/cgroup":               "golang.org/x/sys/unix",
	"sandbox/seccomp":              "golang.org/x/sys/unix",
}

func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	inModule := func(path string) (short string, inside bool) {
		if path == "py3run" {
			return "", true
		}
		return strings.CutPrefix(path, "py3run/")
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
		name, _ := inModule(p.ImportPath)
		allowed, known := imports[name]
		if !known {
			t.Errorf("package %s is not in the table", p.ImportPath)
		}
		for _, i := range p.Imports {
			short, inside := inModule(i)
			first, _, _ := strings.Cut(i, "/")
			if (inside || strings.Contains(first, ".")) && !slices.Contains(strings.Fields(allowed), short) {
				t.Errorf("%s imports %s", p.ImportPath, i)
			}
		}
	}
}
