package python

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A shim stands in the place of an interpreter: a version manager, such as pyenv, decides each time
// which interpreter it executes. To ask it takes hundreds of milliseconds (pyenv/pyenv#2802). So its
// answer is kept in the cache, under a key of everything that the answer depends on: variables, the
// version files of the directory and of those above it, what is installed, the version manager
// itself (shimkinds.go). Another key, and the shim is asked again. Where it cannot be known what the
// answer depends on, because of a hook for example, it is asked each time.
//
// A shim is asked in the directory of the caller, whose version files it is meant to follow. If
// somebody else has made such a file, or can change it, the shim is asked in the root directory
// instead: anybody can put one into /tmp.
type shim struct {
	kind    *shimKind
	path    string
	root    string // where the version manager keeps what it has installed, if the shim says so
	manager string // the program of the version manager
}

// A shimKind is a version manager.
type shimKind struct {
	name   string
	depend func(*inputs, *shim) // gathers what the answer depends on
	refuse string               // how its message begins that it has no such interpreter; empty: not known
}

// shimMost is how long a script may be that is recognized as a shim, in bytes.
const shimMost = 4 << 10

// identify recognizes a shim. head is how the file begins. nil: it is none of a known kind.
func identify(path string, head []byte) *shim {
	dir, name := filepath.Split(path)
	if to, err := os.Readlink(path); err == nil && filepath.Base(to) == "mise" && name != "mise" {
		return &shim{&mise, path, "", path}
	}
	if filepath.Base(dir) == "shims" && name != "rye" {
		if a, err := os.Stat(path); err == nil {
			if b, err := os.Stat(dir + "rye"); err == nil && os.SameFile(a, b) {
				return &shim{&rye, path, "", path}
			}
		}
	}
	if !isScript(head) || len(head) == shimMost {
		return nil
	}
	if root, manager, ok := pyenvShim(string(head)); ok {
		return &shim{&pyenv, path, root, manager}
	}
	if manager, ok := asdfShim(string(head), name); ok {
		return &shim{&asdf, path, "", manager}
	}
	return nil
}

var errNoAnswer = errors.New("does not say which interpreter it leads to")

// lead returns the program that a shim leads to.
func (f *finder) lead(s *shim) (string, error) {
	in := f.inputs(s)
	if in.stranger != "" {
		return "", errors.New("follows " + in.stranger + ", which " + strangers)
	}
	place, key := in.entry()
	if in.unsure == "" {
		if to, why, ok := f.cache.answer(place, key); ok && (to == "" || executable(to) == nil) {
			if why != "" {
				return "", errors.New(why)
			}
			return to, nil
		}
	}
	began := time.Now()
	ip, stderr, err := start(s.path, in.environ, in.dir, f.want.Run)
	f.asked = append(f.asked, Asked{s.path, time.Since(began), s.kind.name, in.unsure})
	if err == nil && !filepath.IsAbs(ip.Path) {
		err = errNoAnswer
	}
	// What is kept must be the answer to the question that the key asks. So nothing has changed
	// meanwhile, and the shim complains of nothing: a shell that cannot fork goes on with less.
	if _, after := f.inputs(s).entry(); in.unsure != "" || after != key {
		return ip.Path, err
	}
	switch {
	case err == nil && stderr == "":
		f.answers = append(f.answers, answer{f.cache, place, key, ip.Path, ""})
	case err != nil && s.kind.refuse != "" && strings.HasPrefix(stderr, s.kind.refuse) && !strings.Contains(stderr, ": line "): // as bash says where a script has failed
		f.answers = append(f.answers, answer{f.cache, place, key, "", err.Error()})
	}
	return ip.Path, err
}

// inputs gathers what the answer of a shim depends on, in the directory in which it is to be asked.
func (f *finder) inputs(s *shim) *inputs {
	in := inputsIn(s, f.want.Environ, workable(f.want.Dir))
	if in.stranger == "" {
		return in
	}
	passed := Candidate{in.stranger, s.kind.name, strangers}
	if !slices.Contains(f.skipped, passed) {
		f.skipped = append(f.skipped, passed)
	}
	own := slices.DeleteFunc(slices.Clone(f.want.Environ), func(e string) bool { return strings.HasPrefix(e, "PYENV_DIR=") })
	return inputsIn(s, own, "/")
}

func inputsIn(s *shim, environ []string, dir string) *inputs {
	in := newInputs(environ, dir)
	in.write("%s %d %q %q\n", s.kind.name, os.Geteuid(), s.path, in.get("HOME"))
	in.stat(s.path)
	in.path(filepath.Base(s.path))
	s.kind.depend(in, s)
	return in
}

// workable is a directory as a shell knows it; the root directory if this user cannot work there.
func workable(dir string) string {
	if dir != filepath.Clean(dir) {
		dir, _ = filepath.EvalSymlinks(dir)
	}
	var st syscall.Stat_t
	if !filepath.IsAbs(dir) || syscall.Stat(dir+"/.", &st) != nil {
		return "/"
	}
	return dir
}

// An answer is what a shim has said, with the place and the key under which it is to be kept.
type answer struct {
	cache      *cache
	place, key string
	to, why    string // the program that it leads to, or why there is none
}

const (
	answersMost = 64      // answers in a cache
	answerMost  = 8 << 10 // bytes of one
)

func (c *cache) answerFile(place string) string { return filepath.Join(c.dir, "shim-"+place) }

// answer returns what is kept under a key. ok is false if nothing is.
func (c *cache) answer(place, key string) (to, why string, ok bool) {
	if c.key == nil {
		return "", "", false
	}
	f, err := os.OpenFile(c.answerFile(place), os.O_RDONLY|syscall.O_NONBLOCK, 0) // it could be a pipe
	if err != nil {
		return "", "", false
	}
	defer f.Close()
	text := make([]byte, answerMost)
	n, _ := f.Read(text)
	parts := bytes.Split(text[:n], []byte("\n"))
	if len(parts) != 4 || string(parts[0]) != key || !hmac.Equal(parts[3], []byte(c.mac("shim", bytes.Join(parts[:3], []byte("\n"))))) {
		return "", "", false
	}
	return string(parts[1]), string(parts[2]), true
}

// keep puts an answer into the cache.
func (a answer) keep() {
	c := a.cache
	if c.dir == "" || c.key == nil && c.makeKey() != nil {
		return
	}
	text := a.key + "\n" + a.to + "\n" + a.why
	if strings.Count(text, "\n") != 2 || len(text)+1+2*sha256.Size > answerMost {
		return
	}
	c.write(c.answerFile(a.place), []byte(text+"\n"+c.mac("shim", []byte(text))))
	c.thin()
}

// thin removes the oldest answers, if there are too many: each directory with a version file has one.
func (c *cache) thin() {
	list, _ := filepath.Glob(c.answerFile("*"))
	if len(list) <= answersMost {
		return
	}
	age := func(path string) (when int64) {
		var st syscall.Stat_t
		if syscall.Stat(path, &st) == nil {
			when = st.Mtim.Nano()
		}
		return when
	}
	slices.SortFunc(list, func(a, b string) int {
		switch x, y := age(a), age(b); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	for _, path := range list[:len(list)-answersMost] {
		os.Remove(path)
	}
}

// entry returns where the answer is kept, and under which key.
func (in *inputs) entry() (place, key string) {
	return hex.EncodeToString(in.place.Sum(nil)[:8]), hex.EncodeToString(in.sum.Sum(nil))
}
