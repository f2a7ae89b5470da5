// Package python knows CPython: how to find an interpreter, how to hand it the user's code, and how to read what it says back.
//
// What runs in front of the user's code is bootstrap.py, with report.py for what is needed only now and then, and template.py for
// interpreters that wait. They are compiled by the interpreter itself when it is first met (probe.py) and kept in a cache.
package python

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
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

// A byteCode is the marshalled bootstrap for one interpreter: in a file of the cache, or new.
type byteCode struct {
	file     *os.File // with what it was checked by; kept open
	at, size int64    // in the file
	bytes    []byte   // instead of a file
}

// open gives a file that a child can have, and where in it the byte code is.
func (c byteCode) open() (f *os.File, at, size int64, err error) {
	if c.file != nil {
		fd, err := unix.FcntlInt(c.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, 0, 0, fmt.Errorf("dup bootstrap: %w", err)
		}
		return os.NewFile(uintptr(fd), c.file.Name()), c.at, c.size, nil
	}
	if f, err = memfd("py3run-bootstrap", int64(len(c.bytes))); err != nil {
		return nil, 0, 0, err
	}
	if _, err = f.WriteAt(c.bytes, 0); err != nil {
		f.Close()
		return nil, 0, 0, fmt.Errorf("write bootstrap: %w", err)
	}
	return f, 0, int64(len(c.bytes)), nil
}

// sourcesHash names the bootstrap that a cached blob was made from.
func sourcesHash() string {
	h := sha256.New()
	for _, source := range []string{bootstrapSource, "\x00", reportSource, "\x00", templateSource, "\x00", probeSource} {
		h.Write(unsafe.Slice(unsafe.StringData(source), len(source))) // not copied: that takes longer than the rest
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
