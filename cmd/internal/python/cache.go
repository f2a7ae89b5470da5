package python

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// A cache keeps what interpreters have said, a file each: a line that must match, six lines of facts, the byte code. What is
// in it runs in front of every user's code, so it is used only from a directory that nobody else can write, and it is
// hidden from the code that runs (launch puts it among the hidden paths).
type cache struct{ dir string } // "": there is none

// openCache makes the directory if need be. A cache that cannot be had is no error: candidates are asked again each time.
func openCache(dir string) *cache {
	if dir == "" || os.MkdirAll(dir, 0o700) != nil {
		return &cache{}
	}
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o022 != 0 {
		return &cache{}
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
		return &cache{}
	}
	return &cache{dir}
}

// keyOf describes a candidate so that any change to it, to the file it leads to or to its pyvenv.cfg is another key. shim is true for a script.
func keyOf(path string) (key string, shim bool, err error) {
	var b strings.Builder
	fmt.Fprintf(&b, "py3run %s %q", sourcesHash(), path)
	for _, p := range []string{path, filepath.Join(filepath.Dir(path), "pyvenv.cfg"), filepath.Join(filepath.Dir(filepath.Dir(path)), "pyvenv.cfg")} {
		var st syscall.Stat_t
		if err := syscall.Stat(p, &st); err != nil {
			if p == path {
				return "", false, err
			}
			b.WriteString(" -")
			continue
		}
		fmt.Fprintf(&b, " %d:%d:%d:%d:%d", st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano())
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return b.String(), false, nil // may be executed and not read
	}
	defer f.Close()
	var magic [2]byte
	io.ReadFull(f, magic[:])
	return b.String(), string(magic[:]) == "#!", nil
}

func (c *cache) file(key string) string {
	path := key[:strings.LastIndexByte(key, '"')+1]
	h := sha256.Sum256([]byte(path))
	return filepath.Join(c.dir, "python-"+hex.EncodeToString(h[:8]))
}

func (c *cache) get(key string) (Interpreter, bool) {
	if c.dir == "" {
		return Interpreter{}, false
	}
	f, err := os.OpenFile(c.file(key), os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe in its place has nothing to say
	if err != nil {
		return Interpreter{}, false
	}
	// The byte code behind the facts is only copied, if at all.
	head := make([]byte, headMost)
	n, _ := io.ReadFull(f, head)
	parts := bytes.SplitN(head[:n], []byte("\n"), 8)
	info, err := f.Stat()
	if err != nil || len(parts) < 8 || string(parts[0]) != key {
		f.Close()
		return Interpreter{}, false
	}
	code := byteCode{file: f, at: int64(n - len(parts[7]))}
	if code.size = info.Size() - code.at; code.size == 0 {
		f.Close()
		return Interpreter{}, false
	}
	return Interpreter{Path: string(parts[1]), Version: string(parts[2]), Platform: string(parts[3]),
		Banner: string(parts[4]), Venv: string(parts[5]), Prefixes: strings.Split(string(parts[6]), prefixSeparator), code: code}, true
}

const headMost = 16 << 10 // bytes of an entry before its byte code

const prefixSeparator = "\x1f" // of the probe's answer and of the cache

// put replaces the entry at once or not at all; a failure only costs the next run its time.
func (c *cache) put(key string, ip Interpreter) {
	head := strings.Join([]string{key, ip.Path, ip.Version, ip.Platform, ip.Banner, ip.Venv, strings.Join(ip.Prefixes, prefixSeparator)}, "\n") + "\n"
	if c.dir == "" || strings.Count(head, "\n") != 7 || len(head) > headMost {
		return
	}
	f, err := os.CreateTemp(c.dir, ".new-")
	if err != nil {
		return
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append([]byte(head), ip.code.bytes...))
	if e := f.Close(); err == nil && e == nil {
		os.Rename(f.Name(), c.file(key))
	}
}
