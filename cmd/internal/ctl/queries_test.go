package ctl

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestSavedQueries(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.run("alice", "ok", nil)
	h.run("alice", "timeout", nil)
	h.run("bob", "error", nil)
	path := filepath.Join(h.home, "config", "py3run", queriesName)
	users := func(args ...string) string {
		t.Helper()
		out, _ := h.mustCall(append(args, "--format", "csv")...)
		var found []string
		for line := range strings.Lines(out) {
			for _, name := range []string{"alice", "bob"} {
				if strings.Contains(line, name) {
					found = append(found, name)
				}
			}
		}
		return strings.Join(found, " ")
	}
	if out, errs := h.mustCall("history", "--list-saved", "--format", "text"); out != "" || !strings.Contains(errs, "no query is saved") {
		t.Errorf("%s%s", out, errs)
	}
	out, errs := h.mustCall("history", "--save", "failed-jobs", "--failed", "--user", "alice", "--since", "7d", "--format", "csv")
	if !strings.Contains(errs, "saved as failed-jobs: --user alice --failed --since 7d") || strings.Count(out, "\n") != 2 {
		t.Errorf("%s%s", out, errs)
	}
	for _, c := range []struct{ args, want string }{
		{"history --saved failed-jobs", "alice"},
		{"history --saved failed-jobs --user bob", "bob"},
		{"history --saved failed-jobs --status ok", "alice"},
		{"history --saved failed-jobs --failed=false", "alice alice"},
		{"stats --saved failed-jobs", "alice"},
		{"audit export --saved failed-jobs", "alice"}, // only an end says that it has failed
	} {
		if got := users(strings.Fields(c.args)...); got != c.want {
			t.Errorf("%s: %q, want %q", c.args, got, c.want)
		}
	}
	h.mustCall("history", "--saved", "failed-jobs", "--save", "of-bob", "--user", "bob")
	h.mustCall("history", "--save", "hostile", "--user", evil, "--label", "a=it's b", "--label", "c=d", "--format", "csv")
	out, _ = h.mustCall("history", "--list-saved", "--format", "text")
	if strings.Count(out, "\n") != 4 || strings.Contains(out, "\x1b") || !strings.Contains(out, "of-bob       --user bob --failed --since 7d") {
		t.Errorf("%q", out)
	}
	if got := users("history", "--saved", "hostile"); got != "" {
		t.Errorf("%q", got)
	}
	if out, _ := h.mustCall("history", "--list-saved", "--format", "csv"); !strings.Contains(out, "of-bob,bob,,,,,,,,true,,7d,\n") {
		t.Errorf("%s", out)
	}
	list, err := (logContext{environ: h.app.environ}).savedQueries()
	if err != nil || len(list) != 3 || list[1].Name != "hostile" || list[1].User != evil || len(list[1].Labels) != 2 || list[2].Name != "of-bob" || !list[2].Failed {
		t.Errorf("%+v, %v", list, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	h.mustCall("history", "--forget", "hostile")
	h.mustCall("history", "--forget", "of-bob")
	for args, want := range map[string]string{
		"history --forget of-bob":                         "none is saved by that name",
		"history --saved failed-job":                      `did you mean "failed-jobs"?`,
		"history --save Failed":                           "invalid name",
		"history --save x --since nonsense":               "--since",
		"history --save x --status nonsense":              "--status",
		"history --list-saved --forget x":                 "none of the others can be",
		"stats --save x":                                  "unknown flag: --save",
		"history --saved failed-jobs --since nonsense":    "--since",
		"history --saved " + strings.Repeat("x", 70) + "": "none is saved by that name",
	} {
		code, _, errs := h.call(strings.Fields(args)...)
		if code == 0 || !strings.Contains(errs, want) {
			t.Errorf("%s: %d %s, want %s", args, code, errs, want)
		}
	}
	if out, _ := h.mustCall("__complete", "stats", "--saved", ""); !strings.Contains(out, "failed-jobs") {
		t.Errorf("completed: %s", out)
	}
}

// What is not understood of the file is refused, and the file stays.
func TestQueriesAreStrict(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	path := filepath.Join(h.home, "config", "py3run", queriesName)
	for text, want := range map[string]string{
		"":                                             "version: must be 1",
		"version = 2\n":                                "version: must be 1",
		"version = 1\nx = 1\n":                         "unknown key x",
		"version = 1\n[query.a]\nusr = \"x\"\n":        "unknown key query.a.usr",
		"version = 1\n[query.a]\nuser = 1\n":           "user",
		"version = 1\n[query.A]\n":                     "invalid name",
		"version = 1\n[query.a]\nstatus = \"x\"\n":     "--status",
		"version = 1\n[query.a]\nsince = \"x\"\n":      "--since",
		"version = 1\n[query.a]\naction = [\"x\"]\n":   "--action",
		"version = 1\n[query.a]\n[query.a]\n":          "already",
		"version = 1\n[query.a]\nclient = \"no ip\"\n": "--client",
	} {
		h.must(os.WriteFile(path, []byte(text), 0o600))
		for _, args := range []string{"history --saved a", "history --list-saved", "history --save b --user x", "history --forget a"} {
			if code, _, errs := h.call(strings.Fields(args)...); code == 0 || !strings.Contains(errs, want) {
				t.Errorf("%q: %s: %d %s, want %s", text, args, code, errs, want)
			}
		}
		if got, _ := os.ReadFile(path); string(got) != text {
			t.Errorf("%q became %q", text, got)
		}
	}
	h.must(os.WriteFile(path, []byte("version = 1\n[query.a]\naction = [\"alert\"]\n"), 0o600))
	if code, _, errs := h.call("history", "--saved", "a"); code == 0 || !strings.Contains(errs, "it has --action, which is no flag here") {
		t.Errorf("%d %s", code, errs)
	}
	h.mustCall("audit", "export", "--saved", "a")
}

// Several processes save at once, and none loses what another one has saved.
func TestQueriesOfManyWriters(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	d := logContext{environ: h.app.environ}
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			if err := d.saveQuery(savedQuery{Name: fmt.Sprint("q", i), User: "alice"}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if list, err := d.savedQueries(); len(list) != 20 || err != nil {
		t.Errorf("%d, %v", len(list), err)
	}
}

// A query has a key for every flag of a filter, and each makes the round.
func TestQueryHasEveryFilter(t *testing.T) {
	t.Parallel()
	var f filter
	c := &cobra.Command{}
	a := &app{}
	f.identity(c, a)
	f.outcome(c)
	f.kinds(c)
	f.times(c)
	c.Flags().VisitAll(func(flag *pflag.Flag) {
		value := "x"
		if flag.Name == "failed" {
			value = "true"
		}
		if err := c.Flags().Set(flag.Name, value); err != nil {
			t.Error(err)
		}
		if q := savedOf("q", f); !reflect.DeepEqual(q.filter(), f) || !strings.Contains(q.String(), "--"+flag.Name) {
			t.Errorf("%s: %+v, %s", flag.Name, q, q)
		}
	})
}
