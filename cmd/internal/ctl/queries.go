package ctl

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/spelling"
	"py3run/cmd/internal/tomledit"
	"py3run/internal/filelock"
)

// A savedQuery is a filter that a user has given a name. Its keys in the file are the names of the flags.
type savedQuery struct {
	Name    string   `json:"name" toml:"-"`
	User    string   `json:"user,omitempty" toml:"user,omitempty"`
	Holder  string   `json:"holder,omitempty" toml:"holder,omitempty"`
	KeyID   string   `json:"key-id,omitempty" toml:"key-id,omitempty"`
	Client  string   `json:"client,omitempty" toml:"client,omitempty"`
	Script  string   `json:"script,omitempty" toml:"script,omitempty"`
	Code    string   `json:"code,omitempty" toml:"code,omitempty"`
	Labels  []string `json:"label,omitempty" toml:"label,omitempty"`
	Status  string   `json:"status,omitempty" toml:"status,omitempty"`
	Failed  bool     `json:"failed,omitempty" toml:"failed,omitempty"`
	Actions []string `json:"action,omitempty" toml:"action,omitempty"`
	Since   string   `json:"since,omitempty" toml:"since,omitempty"` // as it was given: 7d is seven days before each call
	Until   string   `json:"until,omitempty" toml:"until,omitempty"`
}

func savedOf(name string, f filter) savedQuery {
	return savedQuery{name, f.user, f.holder, f.key, f.client, f.script, f.code, f.labels, f.status, f.failed, f.actions, f.since, f.until}
}

func (q savedQuery) filter() filter {
	return filter{user: q.User, holder: q.Holder, key: q.KeyID, client: q.Client, script: q.Script, code: q.Code, labels: q.Labels,
		status: q.Status, failed: q.Failed, actions: q.Actions, since: q.Since, until: q.Until}
}

// flags are the flags of a query and their values.
func (q savedQuery) flags() (list [][2]string) {
	add := func(name string, values ...string) {
		for _, value := range values {
			if value != "" {
				list = append(list, [2]string{name, value})
			}
		}
	}
	add("user", q.User)
	add("holder", q.Holder)
	add("key-id", q.KeyID)
	add("client", q.Client)
	add("script", q.Script)
	add("code", q.Code)
	add("label", q.Labels...)
	add("status", q.Status)
	if q.Failed {
		add("failed", "true")
	}
	add("action", q.Actions...)
	add("since", q.Since)
	add("until", q.Until)
	return list
}

// String is a query as it stands on a command line.
func (q savedQuery) String() string {
	var words []string
	for _, f := range q.flags() {
		value := f[1]
		if strings.ContainsAny(value, " '\"\\$`*?[]{};&|<>()#~!\n\t") {
			value = "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
		}
		if f[0] == "failed" {
			words = append(words, "--failed")
			continue
		}
		words = append(words, "--"+f[0], value)
	}
	return strings.Join(words, " ")
}

const (
	queriesName = "queries.toml"
	queriesSize = 1 << 20
	queriesMost = 200
	queriesHead = "# Queries of py3runctl history --save NAME. The keys are the names of its flags.\n\n"
)

var queryName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// queryFile is the form of the file.
type queryFile struct {
	Version int                   `toml:"version"`
	Query   map[string]savedQuery `toml:"query"`
}

// queriesPath is where a user's queries are.
func queriesPath(environ []string) (string, error) {
	dir := config.UserDir(environ)
	if dir == "" {
		return "", errors.New("saved queries: no place for them: HOME and XDG_CONFIG_HOME are not set")
	}
	return filepath.Join(dir, queriesName), nil
}

// savedQueries are the queries of this user, by name.
func (d logContext) savedQueries() ([]savedQuery, error) {
	path, err := queriesPath(d.environ)
	if err != nil {
		return nil, err
	}
	return readQueries(path)
}

// readQueries reads a file of queries. It refuses whatever it does not know: a condition that is left
// out would select more than was meant.
func readQueries(path string) (list []savedQuery, err error) {
	failed := func(err error) ([]savedQuery, error) {
		return nil, fmt.Errorf("read %s: %w", path, cause(err))
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return failed(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > queriesSize {
		return failed(errors.New("not a file of queries"))
	}
	text, err := io.ReadAll(io.LimitReader(f, queriesSize))
	if err != nil {
		return failed(err)
	}
	var file queryFile
	meta, err := toml.Decode(string(text), &file)
	if err != nil {
		return failed(err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return failed(fmt.Errorf("unknown key %s", unknown[0]))
	}
	if file.Version != 1 {
		return failed(errors.New("version: must be 1"))
	}
	for name, q := range file.Query {
		q.Name = name
		if err := q.check(time.Now()); err != nil {
			return failed(err)
		}
		list = append(list, q)
	}
	slices.SortFunc(list, func(a, b savedQuery) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// check refuses a name or a filter that no command would take.
func (q savedQuery) check(now time.Time) error {
	if !queryName.MatchString(q.Name) {
		return cli.Usagef("invalid name %q of a query: want up to 64 of a-z, 0-9, '.', '_' and '-', the first a letter or digit", q.Name)
	}
	if _, err := q.filter().selection(now); err != nil && q.Status != "running" {
		return fmt.Errorf("query %s: %w", q.Name, err)
	}
	_, err := q.filter().query(now)
	return err
}

// changeQueries changes the file of queries as a whole, while no other process does.
func (d logContext) changeQueries(do func([]savedQuery) ([]savedQuery, error)) error {
	path, err := queriesPath(d.environ)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	lock, err := tomledit.Lock(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer filelock.Release(lock)
	list, err := readQueries(path)
	if err == nil {
		list, err = do(list)
	}
	if err != nil {
		return err
	}
	file := queryFile{Version: 1, Query: map[string]savedQuery{}}
	for _, q := range list {
		file.Query[q.Name] = q
	}
	text := bytes.NewBufferString(queriesHead)
	e := toml.NewEncoder(text)
	e.Indent = ""
	if err := e.Encode(file); err != nil {
		return err
	}
	return tomledit.Write(lock, path, text.String(), 0o600, -1)
}

func (d logContext) saveQuery(q savedQuery) error {
	if err := q.check(time.Now()); err != nil {
		return err
	}
	return d.changeQueries(func(list []savedQuery) ([]savedQuery, error) {
		list = slices.DeleteFunc(list, func(old savedQuery) bool { return old.Name == q.Name })
		if len(list) >= queriesMost {
			return nil, fmt.Errorf("save query %s: there are %d already", q.Name, len(list))
		}
		return append(list, q), nil
	})
}

func (d logContext) forgetQuery(name string) error {
	return d.changeQueries(func(list []savedQuery) ([]savedQuery, error) {
		if _, err := oneQuery(list, name); err != nil {
			return nil, err
		}
		return slices.DeleteFunc(list, func(q savedQuery) bool { return q.Name == name }), nil
	})
}

// oneQuery is the query of a name.
func oneQuery(list []savedQuery, name string) (savedQuery, error) {
	var names []string
	for _, q := range list {
		if q.Name == name {
			return q, nil
		}
		names = append(names, q.Name)
	}
	hint := "py3runctl history --list-saved shows the queries"
	if near := spelling.Nearest(name, names); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	return savedQuery{}, refusedWith(fmt.Errorf("find query %q: none is saved by that name", name), hint)
}

func (d logContext) listQueries(format string) error {
	list, err := d.savedQueries()
	if err != nil {
		return err
	}
	if d.formatOf(format) == "text" && len(list) == 0 {
		d.say("no query is saved")
		return nil
	}
	if d.formatOf(format) == "csv" {
		columns := []string{"name", "user", "holder", "key-id", "client", "script", "code", "label", "status", "failed", "action", "since", "until"}
		return printList(d, format, list, columns, func(q savedQuery) []string {
			return []string{q.Name, q.User, q.Holder, q.KeyID, q.Client, q.Script, q.Code, strings.Join(q.Labels, " "), q.Status, strconv.FormatBool(q.Failed), strings.Join(q.Actions, " "), q.Since, q.Until}
		})
	}
	return printList(d, format, list, []string{"name", "query"}, func(q savedQuery) []string { return []string{q.Name, q.String()} })
}

// A savedFlags are the flags about saved queries of one command.
type savedFlags struct {
	saved, save, forget string
	list                bool
}

// withSaved adds --saved to a command with the flags of f, and with keeps also the flags that change
// what is saved. It has to be called when the command has all of its flags.
func (a *app) withSaved(c *cobra.Command, f *filter, keeps bool) {
	var s savedFlags
	c.Flags().StringVar(&s.saved, "saved", "", "the saved query of this `name`; flags given beside it override those that it has")
	completeBy(c, "saved", a.completeQueries)
	if keeps {
		c.Flags().StringVar(&s.save, "save", "", "also save the filters that are given here, as the query of this `name`")
		c.Flags().BoolVar(&s.list, "list-saved", false, "only list the saved queries")
		c.Flags().StringVar(&s.forget, "forget", "", "only remove the saved query of this `name`")
		completeBy(c, "save", a.completeQueries)
		completeBy(c, "forget", a.completeQueries)
		c.MarkFlagsMutuallyExclusive("list-saved", "forget", "save")
		c.MarkFlagsMutuallyExclusive("list-saved", "forget", "saved")
	}
	run := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if !c.Flags().Changed("saved") && !c.Flags().Changed("save") && !c.Flags().Changed("forget") && !s.list {
			return run(c, args)
		}
		d := logContext{environ: a.environ, zone: time.Local, out: a.out, err: a.err, outIsTerminal: a.outIsTerminal, width: cli.Width(a.environ, a.out)}
		switch {
		case s.list:
			format, err := c.Flags().GetString("format")
			if err == nil {
				err = oneOf("format", format, "text", "json", "csv")
			}
			if err != nil {
				return err
			}
			return d.listQueries(format)
		case c.Flags().Changed("forget"):
			if err := d.forgetQuery(s.forget); err != nil {
				return err
			}
			d.say("the query %s is forgotten", s.forget)
			return nil
		}
		if c.Flags().Changed("saved") {
			if err := d.apply(s.saved, c.Flags()); err != nil {
				return err
			}
		}
		if c.Flags().Changed("save") {
			if err := d.saveQuery(savedOf(s.save, *f)); err != nil {
				return err
			}
			d.say("saved as %s: %s", s.save, savedOf(s.save, *f))
		}
		return run(c, args)
	}
}

// apply sets the flags of a saved query, but for those that are given. What a run has come to is one
// condition in two flags.
func (d logContext) apply(name string, flags *pflag.FlagSet) error {
	list, err := d.savedQueries()
	if err != nil {
		return err
	}
	q, err := oneQuery(list, name)
	if err != nil {
		return err
	}
	given := map[string]bool{}
	flags.Visit(func(f *pflag.Flag) { given[f.Name] = true })
	if given["status"] || given["failed"] {
		given["status"], given["failed"] = true, true
	}
	for _, f := range q.flags() {
		if given[f[0]] {
			continue
		}
		if flags.Lookup(f[0]) == nil {
			return fmt.Errorf("query %s: it has --%s, which is no flag here", name, f[0])
		}
		if err := flags.Set(f[0], f[1]); err != nil {
			return fmt.Errorf("query %s: %w", name, err)
		}
	}
	return nil
}

func (a *app) completeQueries(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	list, _ := (logContext{environ: a.environ}).savedQueries()
	var names []string
	for _, q := range list {
		names = append(names, cobra.CompletionWithDesc(q.Name, q.String()))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
