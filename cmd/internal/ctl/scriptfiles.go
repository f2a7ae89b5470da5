package ctl

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"py3run/cmd/internal/scripts"
	"py3run/cmd/internal/wire"
)

// Scripts are exported to, and imported from, the two layouts of the gateway's module for Python 3:
//
//	DIR/scripts/FOLDER/NAME.py and NAME.meta.json     a file for each script, and what is known about it
//	DIR/scripts/index.json                            one object, with a member for each script
//
// Files are not trusted: they are bounded, no link is followed, and every text becomes a name only by
// the rules for names.

// Bounds of what is read.
const (
	metaFileMost  = 1 << 20   // bytes of a NAME.meta.json
	indexFileMost = 256 << 20 // bytes of an index.json
	filesMost     = 100_000   // files and directories below DIR
)

const (
	moduleDir  = "scripts"
	indexFile  = "index.json"
	codeSuffix = ".py"
	metaSuffix = ".meta.json"
)

// A foreignScript is a script as a layout has it. Its names are free texts.
type foreignScript struct {
	from    string // the file, and for index.json the member
	origin  scripts.Origin
	code    []byte
	about   string // its description
	problem string // why it cannot be imported; empty: it can
}

// identity is what a script is called where it comes from.
func identity(o scripts.Origin) string { return strings.TrimPrefix(o.Folder+"/"+o.Name, "/") }

// readLayout reads all scripts of a directory or of one index.json, in the order of their identities.
// notes name the files that are no part of a layout.
func readLayout(name string) (list []foreignScript, notes []string, err error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, nil, fmt.Errorf("import %s: %w", name, cause(err))
	}
	file := ""
	if !info.IsDir() {
		name, file = filepath.Split(name)
	}
	root, err := os.OpenRoot(cmp.Or(name, "."))
	if err != nil {
		return nil, nil, fmt.Errorf("import %s: %w", name, cause(err))
	}
	defer root.Close()
	l := layout{root: root}
	switch {
	case file != "":
		err = l.index(file)
	default:
		base := "."
		if inside, err := root.Lstat(moduleDir); err == nil && inside.IsDir() {
			base = moduleDir
		}
		err = l.tree(base)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("import %s: %w", path.Join(name, file), cause(err))
	}
	slices.SortStableFunc(l.list, func(a, b foreignScript) int { return strings.Compare(identity(a.origin), identity(b.origin)) })
	return withoutRepeats(l.list), l.notes, nil
}

// withoutRepeats drops scripts that a layout has twice, as an export has each in a file of its own and
// in index.json. A second text under the same name is a problem.
func withoutRepeats(list []foreignScript) (rest []foreignScript) {
	first := map[string]foreignScript{}
	for _, f := range list {
		id := identity(f.origin)
		was, twice := first[id]
		switch {
		case !twice:
			first[id] = f
		case f.problem == "" && was.problem == "" && bytes.Equal(f.code, was.code):
			continue
		default:
			f.problem = cmp.Or(f.problem, "it has the same name as "+was.from+", and another text")
		}
		rest = append(rest, f)
	}
	return rest
}

// A layout is what was read so far.
type layout struct {
	root  *os.Root
	list  []foreignScript
	notes []string
}

func (l *layout) note(name, why string) { l.notes = append(l.notes, name+": "+why) }

// tree reads a directory with a file for each script, and its index.json if there is one.
func (l *layout) tree(base string) error {
	seen, metas, index := 0, map[string]bool{}, ""
	err := fs.WalkDir(l.root.FS(), base, func(name string, d fs.DirEntry, err error) error {
		if seen++; seen > filesMost {
			return fmt.Errorf("more than %d files", filesMost)
		}
		hidden := name != base && (strings.HasPrefix(d.Name(), ".") || d.Name() == "__pycache__")
		switch {
		case err != nil:
			l.note(name, "not read: "+cause(err).Error())
			if d.IsDir() {
				return fs.SkipDir
			}
		case hidden && d.IsDir():
			return fs.SkipDir
		case d.IsDir(), hidden:
		case !d.Type().IsRegular():
			l.note(name, "not read: it is a link, or no regular file")
		case name == path.Join(base, indexFile):
			index = name
		case strings.HasSuffix(name, metaSuffix):
			metas[strings.TrimSuffix(name, metaSuffix)] = true
		case strings.HasSuffix(name, codeSuffix):
			l.file(base, name)
		default:
			l.note(name, "not read: it is no script")
		}
		return nil
	})
	for _, f := range l.list {
		delete(metas, strings.TrimSuffix(f.from, codeSuffix))
	}
	for stem := range metas {
		l.note(stem+metaSuffix, "not read: there is no "+path.Base(stem)+codeSuffix+" beside it")
	}
	slices.Sort(l.notes)
	if err == nil && index != "" { // after the files: of two with the same text, they count
		err = l.index(index)
	}
	return err
}

// file reads NAME.py and NAME.meta.json.
func (l *layout) file(base, name string) {
	f := foreignScript{from: name}
	stem := strings.TrimSuffix(name, codeSuffix)
	folder, file := path.Split(strings.TrimPrefix(strings.TrimPrefix(stem, base), "/"))
	f.origin = scripts.Origin{Name: file, Folder: strings.Trim(folder, "/")}
	var err error
	if f.code, err = l.read(name, scripts.CodeMost); err != nil {
		f.problem = cause(err).Error()
	}
	text, err := l.read(stem+metaSuffix, metaFileMost)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		f.problem = path.Base(stem) + metaSuffix + ": " + cause(err).Error()
	default:
		members, err := wire.Parse(text, depthMost)
		about, ok := members.(*wire.Object)
		switch {
		case err != nil:
			f.problem = path.Base(stem) + metaSuffix + ": " + err.Error()
		case !ok:
			f.problem = path.Base(stem) + metaSuffix + ": is no object"
		default:
			f.take(about)
		}
	}
	l.list = append(l.list, f)
}

// index reads an index.json: an object with a member for each script, or a list of them.
func (l *layout) index(name string) error {
	text, err := l.read(name, indexFileMost)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, cause(err))
	}
	all, err := wire.Parse(text, depthMost)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	var ids []string
	var entries []any
	switch all := all.(type) {
	case *wire.Object:
		ids, entries = all.Names, all.Values
	case []any:
		for i := range all {
			ids = append(ids, strconv.Itoa(i))
		}
		entries = all
	default:
		return fmt.Errorf("read %s: is no object with scripts", name)
	}
	for i, one := range entries {
		f := foreignScript{from: name + ": " + ids[i]}
		about, _ := one.(*wire.Object)
		f.take(about)
		f.origin.Name = cmp.Or(f.origin.Name, ids[i])
		code, _ := about.Get("code")
		text, ok := code.(string)
		if f.code = []byte(text); !ok {
			f.problem = "it has no code"
		}
		l.list = append(l.list, f)
	}
	return nil
}

// take takes what is known about a script. Members of another type count as text, if they are a
// number, and else as absent.
func (f *foreignScript) take(members *wire.Object) {
	text := func(name string) string {
		switch v, _ := members.Get(name); v := v.(type) {
		case string:
			return v
		case wire.Number:
			return string(v)
		}
		return ""
	}
	o := &f.origin
	o.Name, o.Folder = cmp.Or(text("name"), o.Name), cmp.Or(strings.Trim(text("folderPath"), "/"), o.Folder)
	o.Author, o.Created, o.Modified, o.Version = text("author"), text("createdDate"), text("lastModified"), text("version")
	f.about = text("description")
	for _, one := range []*string{&o.Name, &o.Folder, &o.Author, &o.Created, &o.Modified, &o.Version} {
		if len(*one) > originMost {
			f.problem = fmt.Sprintf("a name, date or author of more than %d bytes", originMost)
			*one = strings.ToValidUTF8((*one)[:originMost], "")
		}
	}
}

const (
	originMost = 1000 // bytes of a text about where a script comes from
	depthMost  = 8    // how deep these files nest
)

// read reads a regular file of at most so many bytes. No link is followed, and no pipe waited for.
func (l *layout) read(name string, most int64) ([]byte, error) {
	info, err := l.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is a link, or no regular file")
	}
	f, err := l.root.OpenFile(name, os.O_RDONLY|openNoWait, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if now, err := f.Stat(); err != nil || !os.SameFile(info, now) {
		return nil, errors.New("it was replaced while it was read")
	}
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("has more than %d bytes", most)
	}
	return text, err
}

// A target is the name under which a script is stored.
type target struct {
	foreignScript
	name   string
	mapped bool // the name is not the one that it has where it comes from
}

// targets finds a name for each script. taken has the identities of the scripts in the store, by name:
// a script that was imported before keeps its name. Of several that would have one name, the one that
// has it literally gets it, then the first; the others get a name with a hash of their identity.
func targets(list []foreignScript, taken map[string]string) []target {
	byIdentity, used := map[string]string{}, map[string]string{}
	for name, id := range taken {
		byIdentity[id], used[name] = name, id
	}
	all := make([]target, len(list))
	choose := func(i int, name string) {
		id := identity(list[i].origin)
		used[name], byIdentity[id] = id, name
		all[i] = target{list[i], name, name != id}
	}
	for _, literal := range []bool{true, false} {
		for i, f := range list {
			id := identity(f.origin)
			switch known := byIdentity[id]; {
			case all[i].name != "":
			case known != "":
				choose(i, known)
			case literal && (scripts.BadName(id) != nil || used[id] != ""):
			case literal:
				choose(i, id)
			default:
				name := nearestName(f.origin)
				if used[name] != "" {
					name = hashedName(name, id)
				}
				choose(i, name)
			}
		}
	}
	return all
}

// nearestName is a name for any text. Folders beyond the third become one part with the script.
func nearestName(o scripts.Origin) string {
	var parts []string
	for part := range strings.SplitSeq(identity(o), "/") {
		if part = scripts.Normal(part); part != "" {
			parts = append(parts, part)
		}
	}
	const most = 4
	if len(parts) > most {
		parts = append(parts[:most-1:most-1], scripts.Normal(strings.Join(parts[most-1:], "_")))
	}
	if name := strings.Join(parts, "/"); scripts.BadName(name) == nil {
		return name
	}
	return hashedName("imported", identity(o))
}

// hashedName makes a name that only this identity has.
func hashedName(name, id string) string {
	suffix := "-" + shortHash(id)
	folder, part := path.Split(name)
	if room := 64 - len(suffix); len(part) > room {
		part = part[:room]
	}
	if name = folder + part + suffix; scripts.BadName(name) != nil {
		name = "imported" + suffix
	}
	return name
}
