package web

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"py3run/cmd/internal/config"
)

// Configuration is what a visitor can do with the configuration.
type Configuration interface {
	// Configured is the configuration in force here, and which file a change goes to.
	Configured() (Configured, error)
	// PlanChange says what a change would do, and changes nothing.
	PlanChange(ConfigChange) (ConfigPlan, error)
	// MakeChange makes a change that was planned, and returns the number of its record.
	MakeChange(ConfigChange) (seq uint64, err error)
}

// Configured is the configuration in force.
type Configured struct {
	Keys      []config.Key
	Read      []config.Looked // files that were looked for
	File      string          // where changes go to; empty: there is no place for them
	SHA256    string          // of that file; empty: there is none yet
	Warnings  []string
	MayChange error // why the visitor may not change it; nil: may
}

// A ConfigChange is a change of one key, made on the file that has a hash.
type ConfigChange struct {
	config.Edit
	SHA256 string // of the file that the visitor has seen; empty: there was none
}

// A ConfigPlan is what a change would do.
type ConfigPlan struct {
	Key      config.Key // as it is
	After    string     // what would be in force
	File     string
	SHA256   string // of the file as it is
	Diff     string // unified, of the text of the file; empty: nothing is to change
	Notes    []string
	Findings []string // that the file would have
}

var configPages = []page{
	{"GET /configuration", "Configuration", policing, (*view).configuration},
	{"GET /configuration/change", "", anybody, (*view).configForm},
	{"POST /configuration/plan", "", anybody, (*view).planConfig},
	{"POST /configuration/apply", "", anybody, (*view).applyConfig},
}

// A configSection is one section of the file.
type configSection struct {
	Name string
	Keys []config.Key
}

func (v *view) configuration() error {
	all, err := v.who.Configured()
	if err != nil {
		return err
	}
	saved := v.params.Get("saved")
	if _, err := strconv.ParseUint(saved, 10, 64); err != nil {
		saved = ""
	}
	find, changed := strings.TrimSpace(v.params.Get("find")), v.params.Get("changed") != ""
	var sections []configSection
	shown := 0
	for _, k := range all.Keys {
		if changed && !k.Changed() && k.Origin.Kind == config.FromDefault || !hasWords(k, find) {
			continue
		}
		if shown++; len(sections) == 0 || sections[len(sections)-1].Name != k.Section {
			sections = append(sections, configSection{Name: k.Section})
		}
		last := &sections[len(sections)-1]
		last.Keys = append(last.Keys, k)
	}
	return v.show("configuration", struct {
		look
		Configured
		Sections []configSection
		Shown    int
		Find     string
		Changed  bool
		Saved    string
	}{v.look, all, sections, shown, find, changed, saved})
}

// hasWords reports whether a key has all the words.
func hasWords(k config.Key, words string) bool {
	text := strings.ToLower(strings.Join([]string{k.Name, k.Meaning, k.Value, k.Origin.String(), k.Cost}, " "))
	for word := range strings.FieldsSeq(strings.ToLower(words)) {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

// keyOf finds a key that the visitor may change.
func (v *view) keyOf(name string) (all Configured, k config.Key, err error) {
	if all, err = v.who.Configured(); err != nil {
		return all, k, err
	}
	if all.MayChange != nil {
		return all, k, all.MayChange
	}
	at := slices.IndexFunc(all.Keys, func(k config.Key) bool { return k.Name == name })
	if at < 0 {
		return all, k, refused(http.StatusNotFound, "there is no such key", "")
	}
	if k = all.Keys[at]; k.ByHand != "" {
		return all, k, refused(http.StatusForbidden, k.Name+" is changed in the file itself: "+k.ByHand, "")
	}
	return all, k, nil
}

func (v *view) configForm() error {
	all, k, err := v.keyOf(v.params.Get("key"))
	if err != nil {
		return err
	}
	value := k.Value
	if text, err := strconv.Unquote(value); err == nil { // a text is asked for without quotes
		value = text
	}
	return v.show("configchange", struct {
		look
		Configured
		Key   config.Key
		Value string
	}{v.look, all, k, value})
}

// changeOf is the change that a form asks for.
func (v *view) changeOf() ConfigChange {
	get := v.r.PostFormValue
	return ConfigChange{Edit: config.Edit{Key: get("key"), Value: strings.TrimSpace(get("value")), Unset: get("unset") != ""}, SHA256: get("sha256")}
}

func (v *view) planConfig() error {
	c := v.changeOf()
	if _, _, err := v.keyOf(c.Key); err != nil {
		return err
	}
	plan, err := v.who.PlanChange(c)
	if err != nil {
		return err
	}
	return v.show("configplan", struct {
		look
		ConfigPlan
		Change ConfigChange
		Lines  []changeLine
	}{v.look, plan, c, diffLines(plan.Diff)})
}

func (v *view) applyConfig() error {
	c := v.changeOf()
	if _, _, err := v.keyOf(c.Key); err != nil {
		return err
	}
	seq, err := v.who.MakeChange(c)
	if err != nil {
		return err
	}
	return v.redirect("/configuration?saved=" + strconv.FormatUint(seq, 10) + "#" + c.Key)
}

// A changeLine is a line of a unified diff.
type changeLine struct{ Class, Text string }

func diffLines(diff string) (list []changeLine) {
	for text := range strings.Lines(diff) {
		class := ""
		switch {
		case strings.HasPrefix(text, "+++ "), strings.HasPrefix(text, "--- "), strings.HasPrefix(text, "diff "), strings.HasPrefix(text, "@@"):
			class = "soft"
		case strings.HasPrefix(text, "+"):
			class = "ins"
		case strings.HasPrefix(text, "-"):
			class = "del"
		}
		list = append(list, changeLine{class, strings.TrimSuffix(text, "\n")})
	}
	return list
}
