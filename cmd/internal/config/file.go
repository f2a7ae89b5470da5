package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/BurntSushi/toml"
)

const etcFile = SystemDir + "/config.toml"

// A file is what a configuration file says: values of the settings' types, by key.
type file struct {
	path     string
	values   map[string]any
	ceilings map[string]any
	floors   map[string]any
}

// fileMost is how large a configuration file may be, in bytes.
const fileMost = 1 << 20

func readText(path string) (string, *Error) {
	text, err := readRegular(path)
	if err != nil {
		return "", &Error{Where: path, Problem: "read: " + err.Error(), cause: err} // the path already stands in Where
	}
	return text, nil
}

// readRegular reads a regular file, and refuses others: a pipe would have to be waited for, and a
// device may have no end. The null device counts as an empty file.
func readRegular(path string) (string, error) {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	for err == syscall.EINTR {
		fd, err = syscall.Open(path, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	}
	if err != nil {
		return "", err
	}
	defer syscall.Close(fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return "", err
	}
	const nullDevice = 1<<8 | 3
	switch kind := st.Mode & syscall.S_IFMT; {
	case kind == syscall.S_IFCHR && st.Rdev == nullDevice:
		return "", nil
	case kind == syscall.S_IFDIR:
		return "", syscall.EISDIR
	case kind != syscall.S_IFREG:
		return "", errors.New("not a regular file")
	}
	text := make([]byte, 0, min(st.Size, fileMost)+1)
	for {
		n, err := syscall.Read(fd, text[len(text):cap(text)])
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return "", err
		case n == 0:
			return string(text), nil
		case len(text)+n > fileMost:
			return "", fmt.Errorf("larger than %d MB", fileMost>>20)
		default:
			text = text[:len(text)+n]
			text = slices.Grow(text, 1) // the file may be growing
		}
	}
}

// isAbsent reports whether a file that need not exist does not. A home
// directory may be /dev/null, hence ENOTDIR.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// parseFile returns what a text says, and all mistakes in it in the order of lines.
func parseFile(path, text, etc string) (file, []Error) {
	f := file{path: path}
	var tree map[string]any
	if _, err := toml.Decode(text, &tree); err != nil {
		return f, []Error{syntaxError(path, err)}
	}
	var wrong []Error
	f.ceilings, wrong = takeBounds(tree, "ceiling", path, etc, (*setting).ceilingFromTOML, wrong)
	f.floors, wrong = takeBounds(tree, "floor", path, etc, (*setting).floorFromTOML, wrong)
	f.values, wrong = take(tree, "", (*setting).fromTOML, wrong)
	return f, locate(wrong, path, text)
}

// takeBounds takes the section of that name, ceiling or floor, out of the tree. Only the operator's
// file may have it.
func takeBounds(tree map[string]any, name, path, etc string, parse func(*setting, any) (any, *Error), wrong []Error) (map[string]any, []Error) {
	section, ok := tree[name]
	if !ok {
		return nil, wrong
	}
	delete(tree, name)
	if filepath.Clean(path) != filepath.Clean(etc) {
		wrong = append(wrong, Error{
			Key:     name,
			Problem: name + "s belong in " + etc,
			Hint:    "there they hold for every user; nothing else can set or lift them",
		})
	}
	table, ok := section.(map[string]any)
	if !ok {
		return nil, append(wrong, notSection(name, section))
	}
	return take(table, name+".", parse, wrong)
}

// take takes the values of all settings out of the tree. It appends mistakes in them, and what is
// left in the tree, to wrong.
func take(tree map[string]any, prefix string, parse func(*setting, any) (any, *Error), wrong []Error) (map[string]any, []Error) {
	values := map[string]any{}
	for i := range settings {
		s := &settings[i]
		written, ok := cut(tree, s.key)
		if !ok {
			continue
		}
		v, err := parse(s, written)
		if err != nil {
			err.Key = prefix + s.key
			wrong = append(wrong, *err)
			continue
		}
		values[s.key] = v
	}
	return values, leftOver(tree, prefix, "", wrong)
}

// cut removes the value of a key from nested tables.
func cut(tree map[string]any, key string) (any, bool) {
	name, rest, nested := strings.Cut(key, ".")
	v, ok := tree[name]
	if !nested {
		delete(tree, name)
		return v, ok
	}
	if table, ok := v.(map[string]any); ok {
		return cut(table, rest)
	}
	return nil, false
}

// leftOver reports what belongs to no setting. above is empty or ends in a dot.
func leftOver(tree map[string]any, prefix, above string, wrong []Error) []Error {
	for name, v := range tree {
		key := above + toml.Key{name}.String()
		table, isTable := v.(map[string]any)
		switch {
		case isSection(key) && isTable:
			wrong = leftOver(table, prefix, key+".", wrong)
		case isSection(key):
			wrong = append(wrong, notSection(prefix+key, v))
		default:
			wrong = append(wrong, *unknownKey(prefix, key, prefix+above))
		}
	}
	return wrong
}

func notSection(key string, got any) Error {
	return Error{Key: key, Problem: "must be a section, not " + describe(got), Hint: "write [" + key + "]"}
}

func (s *setting) ceilingFromTOML(v any) (any, *Error) {
	if !s.hasCeiling() {
		return nil, &Error{Problem: "cannot have a ceiling", Hint: "numbers can, and " + strictKeys()}
	}
	value, err := s.fromTOML(v)
	if err == nil && (value == 0 || value == 0.0) {
		return nil, &Error{Problem: "0 is no limit, so this ceiling would bound nothing", Hint: "leave it out"}
	}
	return value, err
}

func (s *setting) floorFromTOML(v any) (any, *Error) {
	if !s.floor {
		problem := "cannot have a floor: less of it harms nobody but who asks for it"
		if s.hasCeiling() {
			problem = "cannot have a floor: what is stricter is always allowed"
		}
		return nil, &Error{Problem: problem, Hint: "only " + floorKeys() + " can"}
	}
	return s.fromTOML(v)
}

// floorKeys lists the keys that can have a floor.
func floorKeys() string {
	var keys []string
	for i := range settings {
		if settings[i].floor {
			keys = append(keys, settings[i].key)
		}
	}
	return strings.Join(keys, ", ")
}

// strictKeys lists the keys that can have a ceiling although they are not numbers.
func strictKeys() string {
	var keys []string
	for i := range settings {
		if settings[i].strict != nil {
			keys = append(keys, settings[i].key)
		}
	}
	return strings.Join(keys, ", ")
}

func syntaxError(path string, err error) Error {
	if pe, ok := errors.AsType[toml.ParseError](err); ok {
		return Error{Where: fmt.Sprintf("%s:%d", path, pe.Position.Line), Problem: pe.Message, cause: err}
	}
	return Error{Where: path, Problem: err.Error(), cause: err}
}

// locate fills in Where and sorts by it. The decoder does not say where a key stands, and that is
// only needed for mistakes.
func locate(wrong []Error, path, text string) []Error {
	if len(wrong) == 0 {
		return nil
	}
	lines := linesOf(text)
	line := func(key string) int {
		for ; key != ""; key = section(key) {
			if n, ok := lines[key]; ok {
				return n
			}
		}
		return 0
	}
	slices.SortFunc(wrong, func(a, b Error) int {
		return cmp.Or(cmp.Compare(line(a.Key), line(b.Key)), cmp.Compare(a.Key, b.Key))
	})
	for i := range wrong {
		wrong[i].Where = path
		if n := line(wrong[i].Key); n > 0 {
			wrong[i].Where = fmt.Sprintf("%s:%d", path, n)
		}
	}
	return wrong
}

// linesOf returns the line of each key in a valid text. It gives the decoder one statement at a
// time, and collects lines until they can be decoded alone.
func linesOf(text string) map[string]int {
	lines := map[string]int{}
	var header toml.Key
	var statement string
	first := 1
	for i, line := range strings.Split(text, "\n") {
		statement += line + "\n"
		var ignored map[string]any
		meta, err := toml.Decode(statement, &ignored)
		if err != nil {
			continue
		}
		keys, within := meta.Keys(), header
		if strings.HasPrefix(strings.TrimSpace(statement), "[") {
			within, header = nil, keys[len(keys)-1]
		}
		for _, key := range keys {
			key = slices.Concat(within, key)
			for n := range key { // its sections, too: they need no header of their own
				name := key[:n+1].String()
				if _, seen := lines[name]; !seen {
					lines[name] = first
				}
			}
		}
		statement, first = "", i+2
	}
	return lines
}
