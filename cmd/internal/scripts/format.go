package scripts

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"py3run/cmd/internal/access"
	"py3run/cmd/internal/wire"
)

// formatNow is the format of the files below DIR/names.
const formatNow = 1

// A head is what meta.json holds. Version is the current version, so that a run need not read the
// history.
type head struct {
	Format int `json:"format"`
	Meta
	HistoryBytes int64   `json:"history_bytes"`  // of versions.jsonl; what follows was never completed
	HistoryHash  string  `json:"history_sha256"` // of its last line
	Version      Version `json:"version"`        // the current one; the deletion of a deleted script
}

// A line is one of versions.jsonl.
type line struct {
	Version
	Prev string `json:"prev"` // SHA-256 of the line before; empty: the first. It stands last: see readHistory
}

func hexSHA256(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// MarshalJSON writes values exactly as they were declared.
func (v Variable) MarshalJSON() ([]byte, error) {
	o := wire.Object{}
	add := func(name string, value any, there bool) {
		if there {
			o.Names, o.Values = append(o.Names, name), append(o.Values, value)
		}
	}
	add("name", v.Name, true)
	add("type", string(v.Type), true)
	add("required", true, v.Required)
	add("default", v.Default, v.Default != nil)
	add("min", v.Min, v.Min != "")
	add("max", v.Max, v.Max != "")
	add("choices", v.Choices, len(v.Choices) > 0)
	add("pattern", v.Pattern, v.Pattern != "")
	add("doc", v.Doc, v.Doc != "")
	return wire.AppendJSON(nil, &o), nil
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}

// depthMost is how deep a file of the store nests at most: a default can be a container.
const depthMost = 64

// decodeHead reads a meta.json. It does so in its own way because encoding/json would have to
// prepare itself for these types, which takes a short-lived process longer than all reading.
func decodeHead(text []byte) (h head, err error) {
	o, err := parseObject(text)
	if err != nil {
		return h, err
	}
	r := reader{}
	if h.Format = r.integer(o, "format"); r.err == nil && h.Format != formatNow {
		return h, fmt.Errorf("has format %d, and this version of py3run reads %d", h.Format, formatNow)
	}
	h.Name, h.Description, h.Author = r.text(o, "name"), r.text(o, "description"), r.text(o, "author")
	h.Created, h.Public = r.time(o, "created"), r.boolean(o, "public")
	h.Current, h.Latest = r.integer(o, "current"), r.integer(o, "latest")
	h.HistoryBytes, h.HistoryHash = int64(r.integer(o, "history_bytes")), r.text(o, "history_sha256")
	for _, one := range r.list(o, "shared_with") {
		share := r.object(one, "shared_with")
		s := access.Share{With: r.text(share, "with")}
		for _, action := range r.list(share, "actions") {
			text, _ := action.(string)
			s.Actions = append(s.Actions, access.Action(text))
		}
		h.Shares = append(h.Shares, s)
	}
	if from, ok := o.Get("origin"); ok {
		f := r.object(from, "origin")
		h.Origin = &Origin{r.text(f, "name"), r.text(f, "folder"), r.text(f, "author"), r.text(f, "created"), r.text(f, "modified"), r.text(f, "version")}
	}
	version, _ := o.Get("version")
	h.Version = r.version(r.object(version, "version"))
	if r.err == nil && (h.Version.Number != h.Latest || h.Current != 0 && h.Current != h.Latest || (h.Current == 0) != h.Version.Deleted || h.Latest < 1) {
		r.err = errors.New("its versions contradict each other")
	}
	return h, r.err
}

// decodeLine reads a line of a history.
func decodeLine(text []byte) (Version, error) {
	o, err := parseObject(text)
	if err != nil {
		return Version{}, err
	}
	r := reader{}
	v := r.version(o)
	return v, r.err
}

func parseObject(text []byte) (*wire.Object, error) {
	v, err := wire.Parse(text, depthMost)
	if err != nil {
		return nil, err
	}
	o, ok := v.(*wire.Object)
	if !ok {
		return nil, errors.New("is not an object")
	}
	return o, nil
}

// A reader takes members out of objects, and keeps the first error.
type reader struct{ err error }

func (r *reader) wrong(name string) {
	if r.err == nil {
		r.err = fmt.Errorf("member %q has the wrong type", name)
	}
}

func (r *reader) text(o *wire.Object, name string) string {
	v, there := o.Get(name)
	text, ok := v.(string)
	if there && !ok {
		r.wrong(name)
	}
	return text
}

func (r *reader) number(o *wire.Object, name string) wire.Number {
	v, there := o.Get(name)
	n, ok := v.(wire.Number)
	if there && !ok {
		r.wrong(name)
	}
	return n
}

func (r *reader) integer(o *wire.Object, name string) int {
	text := r.number(o, name)
	n, err := strconv.Atoi(string(text))
	if text != "" && err != nil || n < 0 {
		r.wrong(name)
		return 0
	}
	return n
}

func (r *reader) boolean(o *wire.Object, name string) bool {
	v, there := o.Get(name)
	yes, ok := v.(bool)
	if there && !ok {
		r.wrong(name)
	}
	return yes
}

func (r *reader) time(o *wire.Object, name string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, r.text(o, name))
	if err != nil {
		r.wrong(name)
	}
	return t
}

func (r *reader) list(o *wire.Object, name string) []any {
	v, there := o.Get(name)
	list, ok := v.([]any)
	if there && !ok {
		r.wrong(name)
	}
	return list
}

// object is v as an object; what is none becomes an empty one, and an error.
func (r *reader) object(v any, name string) *wire.Object {
	o, ok := v.(*wire.Object)
	if !ok {
		r.wrong(name)
	}
	return o
}

func (r *reader) version(o *wire.Object) Version {
	v := Version{Number: r.integer(o, "version"), SHA256: r.text(o, "sha256"), Bytes: int64(r.integer(o, "bytes")), Author: r.text(o, "author"),
		At: r.time(o, "time"), Comment: r.text(o, "comment"), Deleted: r.boolean(o, "deleted")}
	if r.err == nil && !v.Deleted && !access.IsHash(v.SHA256) {
		r.wrong("sha256")
	}
	for _, one := range r.list(o, "variables") {
		d := r.object(one, "variables")
		variable := Variable{Name: r.text(d, "name"), Type: Type(r.text(d, "type")), Required: r.boolean(d, "required"), Min: r.number(d, "min"), Max: r.number(d, "max"),
			Choices: r.list(d, "choices"), Pattern: r.text(d, "pattern"), Doc: r.text(d, "doc")}
		variable.Default, _ = d.Get("default")
		if r.err == nil {
			r.err = variable.mistake()
		}
		v.Variables = append(v.Variables, variable)
	}
	return v
}

// mistake says what cannot be true of a variable that was saved, and on what Check depends.
func (v Variable) mistake() error {
	switch {
	case !slices.Contains(types, v.Type):
		return fmt.Errorf("variable %q has no type", v.Name)
	case v.Pattern != "" && v.Type != String:
		return fmt.Errorf("variable %q has a pattern, and is no string", v.Name)
	case v.Default != nil && !v.Type.has(v.Default):
		return fmt.Errorf("variable %q has a default of another type", v.Name)
	}
	return nil
}
