package python

import (
	"crypto/hmac"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

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
