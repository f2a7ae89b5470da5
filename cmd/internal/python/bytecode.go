package python

import (
	"crypto/hmac"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// A byteCode is the runtime for one interpreter, as probe.py makes it. It is in a file of the
// cache, or in memory when it is new.
type byteCode struct {
	file     *os.File               // open until Interpreter.Close; nil: it is in bytes
	at, size int64                  // in the file
	mac      string                 // of the byte code in the file
	again    func() ([]byte, error) // compiles it again
	bytes    []byte
	cache    *cache // where it comes from, or where it can be kept; nil: nowhere
}

// Close closes the cache's file. After it the interpreter cannot be started by [Open] or [StartTemplate] any more.
func (ip Interpreter) Close() {
	if ip.code.file != nil {
		ip.code.file.Close()
	}
}

func (c byteCode) length() int64 { return c.size + int64(len(c.bytes)) }

// open makes a copy of the byte code for a child. Code that runs in the child before the runtime
// (.pth files) could write to the cache's own file.
func (c byteCode) open() (f *os.File, err error) {
	if f, err = memfd("py3run-runtime", 0); err != nil {
		return nil, err
	}
	if c.file != nil && c.copy(f) != nil { // somebody has changed the file
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
		return nil, fmt.Errorf("write the runtime: %w", err)
	}
	return f, nil
}

// copy copies the byte code from the file. It fails if the copy is not what was once put there.
func (c byteCode) copy(to *os.File) error {
	for at := c.at; at < c.at+c.size; { // the kernel copies
		if n, err := unix.Sendfile(int(to.Fd()), int(c.file.Fd()), &at, int(c.at+c.size-at)); n <= 0 {
			return errors.Join(err, io.ErrUnexpectedEOF)
		}
	}
	// The MAC is that of the copy, which nobody else can change.
	copied, err := unix.Mmap(int(to.Fd()), 0, int(c.size), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return err
	}
	defer unix.Munmap(copied)
	if !hmac.Equal([]byte(c.mac), []byte(c.cache.mac("code", copied))) {
		return errors.New("the cached byte code was changed")
	}
	return nil
}
