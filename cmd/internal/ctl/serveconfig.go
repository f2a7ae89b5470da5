package ctl

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/tomledit"
	"py3run/cmd/internal/web"
	"py3run/internal/filelock"
)

// The configuration decides what runs may do, as the policy does, so the same ones may read and change
// it: script-admins and operators change it, auditors read it.
var theConfiguration = access.Object{Kind: access.ThePolicy}

// sources are what the commands of this invocation load, and the file that a change goes to.
func (a *app) sources() (src config.Sources, path string, system bool) {
	src = config.Sources{Environ: a.environ, File: a.configFile, Flags: map[string]string{}}
	here, _ := os.Getwd()
	if path, system = src.Own(here, os.Geteuid() == 0); src.Named(here) != "" {
		src.File = path // by its whole name, so that a text can stand in for it
	}
	return src, path, system
}

// Configured is the configuration in force here.
func (v visitor) Configured() (all web.Configured, err error) {
	if err := v.may(access.ToRead, theConfiguration); err != nil {
		return all, told(err)
	}
	src, path, _ := v.app.sources()
	loaded, err := config.Load(src)
	if err != nil {
		return all, told(err)
	}
	all = web.Configured{Keys: shownKeys(loaded), Read: loaded.Looked, File: path, Warnings: loaded.Warnings, MayChange: v.mayConfigure()}
	if text, there, err := readOwn(path); err == nil && there {
		all.SHA256 = sumOf(text)
	} else if err != nil && all.MayChange == nil {
		all.MayChange = told(err)
	}
	return all, nil
}

// shownKeys are all keys, without what can hold a secret.
func shownKeys(loaded *config.Loaded) []config.Key {
	keys := loaded.Keys()
	for i := range keys {
		switch k := &keys[i]; k.Name {
		case "alerts.command":
			if argv := loaded.Config.Alerts.Command; len(argv) > 1 {
				k.Value = fmt.Sprintf("[%q, and %s]", argv[0], counted(len(argv)-1, "argument"))
			}
		case "alerts.webhook":
			if at, err := url.Parse(loaded.Config.Alerts.Webhook); err == nil && at.Host != "" {
				k.Value = fmt.Sprintf("%q", at.Scheme+"://"+at.Host+"/…")
			}
		}
	}
	return keys
}

// withoutSecrets is the text of a configuration without the values that shownKeys shortens: they stand in
// the lines around a change, too.
func withoutSecrets(text string) string {
	for _, s := range slices.Backward(tomledit.Statements(text)) {
		path := s.Path
		if len(path) > 0 && (path[0] == "ceiling" || path[0] == "floor") {
			path = path[1:]
		}
		if s.Header || !holdsSecret(path) {
			continue
		}
		value, behind := text[s.Value[0]:s.Value[1]], text[s.Value[1]:s.End] // a comment there can have an old value
		text = text[:s.Value[0]] + `"(not shown)"` + strings.Repeat("\n", strings.Count(value+behind, "\n")) + text[s.End:]
	}
	return text
}

// holdsSecret reports whether a statement of this path has a value that can hold a secret. Who writes the
// whole table in one line has all of it hidden.
func holdsSecret(path []string) bool {
	key := strings.Join(path, ".")
	return key == "" || key == "alerts" || key == "alerts.command" || key == "alerts.webhook"
}

// mayConfigure says why the visitor may not change the configuration; nil: may. Who owns the log is asked
// as the commands that change the policy ask, too.
func (v visitor) mayConfigure() error {
	who := v.who
	if who == nil {
		actor, err := v.app.actor()
		if broken := new(access.PolicyError); errors.As(err, &broken) {
			return visible{err, http.StatusConflict, "py3run config check says what is wrong with the policy"}
		}
		if err != nil {
			return told(err)
		}
		who = &actor
	}
	return told(who.may(access.ToManage, theConfiguration))
}

// readOwn reads the file that a change goes to. Another file than a regular one is left alone: who has
// made a link of it has another place for the text.
func readOwn(path string) (text string, there bool, err error) {
	refuse := func(why string) error {
		return visible{fmt.Errorf("change %s: %s", path, why), http.StatusConflict, ""}
	}
	if path == "" {
		return "", false, visible{errors.New("there is no place for the configuration: HOME and XDG_CONFIG_HOME are not set"), http.StatusConflict, ""}
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", false, nil
	case err != nil:
		return "", false, refuse(cause(err).Error())
	case info.Mode()&fs.ModeSymlink != 0:
		return "", false, refuse("it is a link: change the file that it leads to")
	case !info.Mode().IsRegular() || info.Size() > 1<<20:
		return "", false, refuse("it is not a regular file of at most 1 MB")
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", false, refuse(cause(err).Error())
	}
	return string(content), true, nil
}

func sumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// A configEdit is a change of the configuration that was thought through.
type configEdit struct {
	web.ConfigPlan
	before, after string // texts of the file
	there, system bool
}

// sentence says what a change is, for the record.
func (e configEdit) sentence(c web.ConfigChange) string {
	was, is := e.Key.Value, e.After
	if was == is {
		is += " (in force unchanged)"
	}
	if c.Unset {
		return fmt.Sprintf("%s: taken out of the file: %s -> %s", c.Key, was, is)
	}
	return fmt.Sprintf("%s: %s -> %s", c.Key, was, is)
}

// planEdit thinks a change through on the file as it is now.
func (v visitor) planEdit(c web.ConfigChange) (e configEdit, err error) {
	src, path, system := v.app.sources()
	e.File, e.system = path, system
	if e.before, e.there, err = readOwn(path); err != nil {
		return e, err
	}
	if e.there {
		e.SHA256 = sumOf(e.before)
	}
	if e.SHA256 != c.SHA256 {
		return e, visible{fmt.Errorf("%s was changed meanwhile", path), http.StatusConflict, "look at the configuration again, and make the change anew"}
	}
	if e.after, err = c.Rewrite(path, e.before); err != nil {
		var wrong *config.Error
		if errors.As(err, &wrong) {
			err = visible{err, http.StatusUnprocessableEntity, wrong.Hint}
		}
		return e, err
	}
	now, err := config.Load(src)
	if err != nil {
		return e, told(err)
	}
	src.Instead = map[string]string{path: e.after}
	then, err := config.Load(src)
	if err != nil {
		return e, told(err)
	}
	keys, planned := shownKeys(now), shownKeys(then)
	at := slices.IndexFunc(keys, func(k config.Key) bool { return k.Name == c.Key })
	e.Key, e.After = keys[at], planned[at].Value
	from := planned[at].Origin
	switch {
	case c.Unset && e.After == e.Key.Value && e.before != e.after:
		e.Notes = append(e.Notes, "The value in force stays: it is also that of "+from.String()+".")
	case !c.Unset && (from.Kind != config.FromFile || from.Name != path):
		e.Notes = append(e.Notes, "This does not take effect here: the value in force is that of "+from.String()+".")
	case from.Ceiling.Asked != "" || from.Floor.Asked != "":
		e.Notes = append(e.Notes, "Not all of it takes effect: "+from.String()+".")
	}
	known := config.CheckText(path, e.before)
	for _, f := range config.CheckText(path, e.after) {
		if !slices.ContainsFunc(known, func(k config.Finding) bool { return k.Key == f.Key && k.Problem == f.Problem }) {
			e.Findings = append(e.Findings, f.Key+": "+f.Problem)
		}
	}
	if e.before != e.after {
		e.Diff = string(diff.Diff(path, []byte(withoutSecrets(e.before)), path+" (then)", []byte(withoutSecrets(e.after))))
		e.Diff = strings.TrimPrefix(e.Diff, "diff "+path+" "+path+" (then)\n")
	}
	return e, nil
}

// PlanChange says what a change would do.
func (v visitor) PlanChange(c web.ConfigChange) (web.ConfigPlan, error) {
	if err := v.mayConfigure(); err != nil {
		return web.ConfigPlan{}, err
	}
	e, err := v.planEdit(c)
	return e.ConfigPlan, err
}

// MakeChange makes a change: with the lock of the directory it is thought through again, recorded, written,
// and recorded as done or as failed.
func (v visitor) MakeChange(c web.ConfigChange) (seq uint64, err error) {
	if err := v.mayConfigure(); err != nil {
		return 0, err
	}
	e, err := v.planEdit(c)
	if err != nil {
		return 0, err
	}
	log, err := audit.Open(v.dir)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	dir, mode, fileMode := filepath.Dir(e.File), os.FileMode(0o700), uint32(0o600)
	if e.system {
		mode, fileMode = 0o755, 0o644
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return 0, cannotWrite(err)
	}
	lock, err := tomledit.Lock(dir)
	if err != nil {
		return 0, cannotWrite(err)
	}
	defer filelock.Release(lock)
	if e, err = v.planEdit(c); err != nil {
		return 0, err
	}
	if e.before == e.after {
		return 0, visible{errors.New("the file says this already"), http.StatusConflict, ""}
	}
	return v.writeConfig(log, lock, fileMode, c, e)
}

// writeConfig records a change, writes the file, and records how that went.
func (v visitor) writeConfig(log *audit.Log, lock int, mode uint32, c web.ConfigChange, e configEdit) (seq uint64, err error) {
	rec := v.author()
	rec.Event = audit.Event{Action: audit.ConfigChanged, Outcome: audit.Unknown, Reason: "before"}
	change := audit.PolicyChange{Path: e.File, OldSHA256: e.SHA256, NewSHA256: e.SHA256, Changes: []string{e.sentence(c)}}
	rec.Policy = &change
	if _, err := log.Append(rec); err != nil { // what cannot be recorded is not done
		return 0, err
	}
	after := change
	rec.Policy = &after
	if wrong := tomledit.Write(lock, e.File, e.after, mode, -1); wrong != nil {
		rec.Event.Outcome, rec.Event.Reason = audit.Failure, "write"
		if text, there, err := readOwn(e.File); err == nil && there { // it can be there, and not yet certain to stay
			after.NewSHA256 = sumOf(text)
		}
		if _, err := log.Append(rec); err != nil {
			return 0, errors.Join(wrong, err)
		}
		return 0, cannotWrite(wrong)
	}
	rec.Event.Outcome, rec.Event.Reason = audit.Success, "after"
	after.NewSHA256 = sumOf(e.after)
	receipt, err := log.Append(rec)
	if err != nil {
		return 0, fmt.Errorf("record that %s is changed: %w; the change is made, and the record before it tells it", e.File, err)
	}
	return receipt.Seq, nil
}

// cannotWrite is what a visitor learns of a file that cannot be written.
func cannotWrite(err error) error {
	return visible{fmt.Errorf("change the configuration: %w", err), http.StatusConflict, "the change is not made; the user that serves the pages must be able to write the file"}
}
