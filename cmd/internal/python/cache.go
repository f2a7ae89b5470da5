package python

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// A cache keeps the answers of interpreters, a file for each: a line that must match, six lines of
// facts, two MACs, the byte code. The byte code runs before every user's code. So a cache is only
// used in a directory where nobody else can write, and each file only with its MAC. Package launch
// hides the directory and the key of the MACs from runs. Without a mount namespace it cannot, and
// nothing is kept (see Interpreter.Keep).
type cache struct {
	dir     string // "": there is none
	keyFile string
	key     []byte // nil: there is none yet
}

const keySize = 32

// openCache makes the directory if it is missing. Without a cache, which is no error, each
// candidate is asked each time.
func openCache(dir, keyFile string) *cache {
	if dir == "" || keyFile == "" || os.MkdirAll(dir, 0o700) != nil {
		return &cache{}
	}
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o022 != 0 {
		return &cache{}
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
		return &cache{}
	}
	return &cache{dir, keyFile, readKey(keyFile)}
}

// readKey reads the key, if only this user can.
func readKey(path string) []byte {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
		return nil
	}
	key := make([]byte, keySize+1)
	if n, _ := io.ReadFull(f, key); n != keySize {
		return nil
	}
	return key[:keySize]
}

// makeKey makes the key, unless another process was faster.
func (c *cache) makeKey() error {
	dir := filepath.Dir(c.keyFile)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	key := make([]byte, keySize)
	rand.Read(key)
	_, err = f.Write(key)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), c.keyFile); errors.Is(err, fs.ErrExist) && readKey(c.keyFile) == nil {
		if err := os.Rename(f.Name(), c.keyFile); err != nil { // a damaged one
			return err
		}
	}
	if c.key = readKey(c.keyFile); c.key == nil {
		return fs.ErrPermission
	}
	return nil
}

// mac is that of a part of an entry.
func (c *cache) mac(part string, data []byte) string {
	h := hmac.New(sha256.New, c.key)
	h.Write([]byte(part))
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}

// cacheFormat changes with the format of an entry: different versions of py3run may share a cache.
const cacheFormat = 3

// keyOf describes a candidate: any change to it, to the file that it leads to or to its pyvenv.cfg
// gives another key.
func keyOf(path string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "py3run %d %s %q", cacheFormat, sourcesHash(), path)
	for _, p := range []string{path, filepath.Join(filepath.Dir(path), "pyvenv.cfg"), filepath.Join(filepath.Dir(filepath.Dir(path)), "pyvenv.cfg")} {
		var st syscall.Stat_t
		if err := syscall.Stat(p, &st); err != nil {
			if p == path {
				return "", err
			}
			b.WriteString(" -")
			continue
		}
		fmt.Fprintf(&b, " %d:%d:%d:%d:%d", st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano())
	}
	return b.String(), nil
}

// headOf is how a candidate begins, and of a script as much as a shim has. Empty: one can execute it,
// but not read it.
func headOf(path string) []byte {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	head := make([]byte, shimMost)
	n, _ := io.ReadFull(f, head[:2])
	if isScript(head[:n]) {
		more, _ := io.ReadFull(f, head[2:])
		n += more
	}
	return head[:n]
}

func isScript(head []byte) bool { return len(head) >= 2 && string(head[:2]) == "#!" }

func (c *cache) file(key string) string {
	path := key[:strings.LastIndexByte(key, '"')+1]
	h := sha256.Sum256([]byte(path))
	return filepath.Join(c.dir, "python-"+hex.EncodeToString(h[:8]))
}

// headLines is the number of lines before the byte code: the key, six facts, the MAC of the byte
// code, the MAC of the lines before.
const headLines = 9

func (c *cache) get(key string) (Interpreter, bool) {
	if c.key == nil {
		return Interpreter{}, false
	}
	f, err := os.OpenFile(c.file(key), os.O_RDONLY|syscall.O_NONBLOCK, 0) // it could be a pipe
	if err != nil {
		return Interpreter{}, false
	}
	// The byte code after the facts is copied later, if it is needed.
	head := make([]byte, headMost)
	n, _ := io.ReadFull(f, head)
	parts := bytes.SplitN(head[:n], []byte("\n"), headLines+1)
	info, err := f.Stat()
	if err != nil || len(parts) <= headLines || string(parts[0]) != key {
		f.Close()
		return Interpreter{}, false
	}
	facts := bytes.Join(parts[:headLines-1], []byte("\n"))
	code := byteCode{file: f, at: int64(n - len(parts[headLines])), cache: c, mac: string(parts[headLines-2])}
	code.size = info.Size() - code.at
	if code.size <= 0 || !hmac.Equal(parts[headLines-1], []byte(c.mac("facts", facts))) {
		f.Close()
		return Interpreter{}, false
	}
	return Interpreter{Path: string(parts[1]), Version: string(parts[2]), Platform: string(parts[3]),
		Banner: string(parts[4]), Venv: string(parts[5]), Prefixes: strings.Split(string(parts[6]), prefixSeparator), code: code}, true
}

const headMost = 16 << 10 // bytes of an entry before its byte code

const prefixSeparator = "\x1f" // of the probe's answer and of the cache

// Keep puts what Find has learned about a new interpreter, and the answers of shims, into the cache. Call it only when no run
// can see the cache and its key: else a run could put code there that runs before the code of all
// later runs.
func (ip Interpreter) Keep() {
	if ip.code.cache != nil && ip.code.file == nil {
		if ip.Link != "" { // what was asked is the interpreter itself
			ip.Path, ip.Venv = ip.Behind, venvOf(ip.Behind)
		}
		ip.code.cache.put(ip.Identity, ip)
	}
	for _, a := range ip.answers {
		a.keep()
	}
}

// put replaces an entry at once or not at all. After a failure the next run takes longer, and that
// is all.
func (c *cache) put(key string, ip Interpreter) {
	if c.dir == "" || c.key == nil && c.makeKey() != nil {
		return
	}
	facts := strings.Join([]string{key, ip.Path, ip.Version, ip.Platform, ip.Banner, ip.Venv, strings.Join(ip.Prefixes, prefixSeparator), c.mac("code", ip.code.bytes)}, "\n")
	head := facts + "\n" + c.mac("facts", []byte(facts)) + "\n"
	if strings.Count(head, "\n") != headLines || len(head) > headMost {
		return
	}
	c.write(c.file(key), append([]byte(head), ip.code.bytes...))
}

func (c *cache) write(path string, text []byte) {
	f, err := os.CreateTemp(c.dir, ".new-")
	if err != nil {
		return
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if e := f.Close(); err == nil && e == nil {
		os.Rename(f.Name(), path)
	}
}
