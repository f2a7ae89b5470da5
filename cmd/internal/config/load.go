package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"py3run/internal/envvar"
)

// Load merges all sources. The error is an *Error, which says what the operator or the caller has
// to repair.
func Load(src Sources) (*Loaded, error) {
	l := &Loaded{Config: Default(), Origins: map[string]Origin{}, instead: src.Instead}
	etc, err := l.readFiles(src)
	if err != nil {
		return nil, err
	}
	if err := l.readEnviron(src.Environ); err != nil {
		return nil, err
	}
	if err := l.readFlags(src.Flags, src.Typed); err != nil {
		return nil, err
	}
	l.tighten(src.Environ)
	l.enforce(etc)
	return l, nil
}

// readFiles returns the file whose ceilings and floors hold.
func (l *Loaded) readFiles(src Sources) (file, error) {
	etcPath := src.EtcFile
	if etcPath == "" {
		etcPath = etcFile
	}
	named, by := src.File, "--config"
	if named == "" {
		named, by = envvar.Lookup(src.Environ, "PY3RUN_CONFIG"), "PY3RUN_CONFIG"
	}

	// Another file must not lift the ceilings. So this one is always read, and has to be right.
	etc, err := l.read(etcPath, etcPath)
	if err != nil && !isAbsent(err) {
		return file{}, err
	}
	if named == "" {
		l.apply(etc)
		return etc, l.readUserFile(src.Environ, etcPath)
	}
	own := etc
	if filepath.Clean(named) != filepath.Clean(etcPath) {
		own, err = l.read(named, etcPath)
	}
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok && isAbsent(err) {
			e.Hint = by + " names this file; it replaces the usual ones and must exist"
		}
		return file{}, err
	}
	l.apply(own)
	return etc, nil
}

// readUserFile reads the file below the home directory. A home that this user may not search
// belongs to somebody else; HOME stayed the same when the user changed.
func (l *Loaded) readUserFile(environ []string, etcPath string) error {
	dir := UserDir(environ)
	if dir == "" {
		return nil
	}
	path := filepath.Join(dir, "config.toml")
	own, err := l.read(path, etcPath)
	if errors.Is(err, fs.ErrPermission) {
		if _, hidden := os.Lstat(path); hidden != nil {
			if closed := closedByOwner(path); closed != "" { // a run can do that: if the file were ignored, the run could switch its configuration off
				if e, ok := errors.AsType[*Error](err); ok {
					e.Hint = closed + " is this user's own and closed to it: chmod u+rx " + closed
				}
				return err
			}
			l.Warnings = append(l.Warnings, err.Error()+" (passed over)")
			return nil
		}
	}
	if err != nil && !isAbsent(err) {
		return err
	}
	l.apply(own)
	return nil
}

// OfOthers reports whether a path cannot be looked at because it lies in a directory that another
// user has closed, as in the home of the user that sudo was called by.
func OfOthers(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrPermission) && closedByOwner(path) == ""
}

// closedByOwner is the directory on the way to a path that cannot be searched, if it belongs to
// this user; empty: it belongs to somebody else.
func closedByOwner(path string) string {
	for dir := filepath.Dir(path); dir != "/"; dir = filepath.Dir(dir) {
		info, err := os.Lstat(dir)
		if err != nil {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) == os.Geteuid() {
			return dir
		}
		return ""
	}
	return ""
}

func (l *Loaded) read(path, etcPath string) (file, error) {
	text, planned := l.instead[path]
	var err *Error
	if !planned {
		text, err = readText(path)
	}
	looked := Looked{Path: path}
	if abs, err := filepath.Abs(path); err == nil {
		looked.Path = abs
	}
	if err == nil {
		sum := sha256.Sum256([]byte(text))
		looked.SHA256 = hex.EncodeToString(sum[:])
	}
	l.Looked = append(l.Looked, looked)
	if err != nil {
		return file{}, err
	}
	f, wrong := parseFile(path, text, etcPath)
	if wrong != nil {
		return file{}, &wrong[0]
	}
	l.Files = append(l.Files, path)
	return f, nil
}

func (l *Loaded) apply(f file) {
	if len(f.values) == 0 {
		return
	}
	for i := range settings {
		if v, ok := f.values[settings[i].key]; ok {
			l.set(&settings[i], v, Origin{Kind: FromFile, Name: f.path})
		}
	}
}

func (l *Loaded) set(s *setting, v any, from Origin) {
	s.set(&l.Config, v)
	l.Origins[s.key] = from
}

func (l *Loaded) readEnviron(environ []string) error {
	for _, entry := range environ {
		if !strings.HasPrefix(entry, variablePrefix) {
			continue
		}
		name, text, _ := strings.Cut(entry, "=")
		if text == "" {
			continue
		}
		s := settingOf(name)
		if s == nil {
			if !isOthersVariable(name) {
				l.Warnings = append(l.Warnings, unknownVariable(name))
			}
			continue
		}
		v, err := s.fromText(text)
		if err != nil {
			err.Where, err.Key = name, s.key
			return err
		}
		l.set(s, v, Origin{Kind: FromEnvironment, Name: name})
	}
	return nil
}

func isOthersVariable(name string) bool {
	for _, other := range otherVariables {
		start, open := strings.CutSuffix(other, "*")
		if name == other || open && strings.HasPrefix(name, start) {
			return true
		}
	}
	return false
}

func unknownVariable(name string) string {
	warning := fmt.Sprintf("%q: unknown variable", name)
	if near := nearestVariable(name); near != "" {
		warning += ", did you mean " + near + "?"
	}
	return warning
}

// flagName stands for every flag that sets a key: all others are short for it.
const flagName = "--set"

func (l *Loaded) readFlags(flags, typed map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(flags)) {
		s := settingAt(key)
		if s == nil {
			err := unknownKey("", key, "")
			err.Where = flagName
			return err
		}
		v, err := s.fromText(flags[key])
		if err != nil {
			err.Where, err.Key = cmp.Or(typed[key], flagName), key
			err.Hint = cmp.Or(err.Hint, s.flagHint(typed[key] != "")) // config check does not see this command line
			return err
		}
		l.set(s, v, Origin{Kind: FromFlag, Name: cmp.Or(typed[key], flagName)})
	}
	return nil
}

// tighten applies the variables that gateways set by their own convention. They come from the
// caller, as the code does. So they only lower limits, and a value that makes no sense is ignored.
func (l *Loaded) tighten(environ []string) {
	for i := range settings {
		s := &settings[i]
		if s.tightenedBy == "" {
			continue
		}
		text := envvar.Lookup(environ, s.tightenedBy)
		if text == "" {
			continue
		}
		v, err := s.fromText(text)
		if err != nil {
			err.Where = s.tightenedBy
			l.Warnings = append(l.Warnings, err.Error()+" (passed over)")
			continue
		}
		if s.exceeds(s.get(&l.Config), v) {
			l.set(s, v, Origin{Kind: FromEnvironment, Name: s.tightenedBy})
		}
	}
}

// enforce comes last: nothing is above a ceiling or below a floor. A floor counts more than a
// ceiling, because a removed record cannot come back.
func (l *Loaded) enforce(etc file) {
	if len(etc.ceilings) == 0 && len(etc.floors) == 0 {
		return
	}
	for i := range settings {
		s := &settings[i]
		from := l.Origins[s.key]
		if ceiling, ok := etc.ceilings[s.key]; ok {
			from.Ceiling = Ceiling{Value: format(ceiling), File: etc.path}
			if asked := s.get(&l.Config); s.exceeds(asked, ceiling) {
				from.Ceiling.Asked = format(asked)
				if from.Kind == FromFlag || from.Kind == FromEnvironment { // only about this call; config check reports what files say
					l.Warnings = append(l.Warnings, fmt.Sprintf("%s: %s = %s is above the ceiling in %s: %s holds", from.Name, s.key, format(asked), etc.path, format(ceiling)))
				}
				s.set(&l.Config, ceiling)
			}
			l.Origins[s.key] = from
		}
		if floor, ok := etc.floors[s.key]; ok {
			from.Floor = Floor{Value: format(floor), File: etc.path}
			if asked := s.get(&l.Config); s.below(asked, floor) {
				from.Floor.Asked = format(asked)
				s.set(&l.Config, floor)
			}
			l.Origins[s.key] = from
		}
	}
}
