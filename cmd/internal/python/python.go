// Package python knows CPython: how to find an interpreter, how to hand it the user's code, and how to read what it says back.
//
// What runs in front of the user's code is bootstrap.py, with report.py for what is needed only now and then, and template.py for
// interpreters that wait. They are compiled by the interpreter itself when it is first met (probe.py) and kept in a cache.
package python

import (
	"crypto/hmac"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

//go:embed bootstrap.py
var bootstrapSource string

//go:embed report.py
var reportSource string

//go:embed template.py
var templateSource string

//go:embed probe.py
var probeSource string

// An Interpreter is a CPython that can run the bootstrap.
type Interpreter struct {
	Path     string   // what to execute: of a virtual environment the link inside it
	Version  string   // "3.11.2"
	Banner   string   // sys.version on one line
	Platform string   // sys.platform
	Venv     string   // directory of the virtual environment, or empty
	Prefixes []string // directories that it is installed in
	Identity string   // changes whenever the interpreter may have, or what runs in front of the user's code
	code     byteCode // of what runs in front of the user's code
}

// A byteCode is the bootstrap for one interpreter, as probe.py makes it: the lengths of the first two of its three parts, in 8 digits each, and the parts,
// marshalled. It is in a file of the cache, or new.
type byteCode struct {
	file     *os.File               // kept open; nil: it is in bytes
	at, size int64                  // in the file
	mac      string                 // of what is in the file
	again    func() ([]byte, error) // makes it anew
	bytes    []byte
	cache    *cache // that it is from, or can be kept in; nil: none
}

func (c byteCode) length() int64 { return c.size + int64(len(c.bytes)) }

// open gives a copy of the byte code that a child can have: what runs in it before the bootstrap (.pth files) could write to the cache's own.
func (c byteCode) open() (f *os.File, err error) {
	if f, err = memfd("py3run-bootstrap", 0); err != nil {
		return nil, err
	}
	if c.file != nil && c.copy(f) != nil { // somebody has changed it
		os.Remove(c.file.Name())
		if c.bytes, err = c.again(); err == nil {
			err = f.Truncate(0)
		}
	}
	if err == nil {
		_, err = f.WriteAt(c.bytes, 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write bootstrap: %w", err)
	}
	return f, nil
}

// copy copies the byte code from the file, and says whether it is what was once put there.
func (c byteCode) copy(to *os.File) error {
	for at := c.at; at < c.at+c.size; { // the kernel copies
		if n, err := unix.Sendfile(int(to.Fd()), int(c.file.Fd()), &at, int(c.at+c.size-at)); n <= 0 {
			return errors.Join(err, io.ErrUnexpectedEOF)
		}
	}
	// The copy is looked at, which nobody else can change.
	copied, err := unix.Mmap(int(to.Fd()), 0, int(c.size), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return err
	}
	defer unix.Munmap(copied)
	if !hmac.Equal([]byte(c.mac), []byte(c.cache.mac("code", copied))) {
		return errors.New("not what was put there")
	}
	return nil
}

// sourcesHash names the bootstrap that a cached blob was made from.
func sourcesHash() string {
	h := sha256.New()
	for _, source := range []string{bootstrapSource, "\x00", reportSource, "\x00", templateSource, "\x00", probeSource} {
		h.Write(unsafe.Slice(unsafe.StringData(source), len(source))) // not copied: that takes longer than the rest
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
