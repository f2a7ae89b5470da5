// Package atomicfile writes files that are there as a whole or not at all, also after a kill or a
// power failure:
//
//	Create ─► write ─► Put    temporary file, fsync, rename, fsync of the directory
//
// A link or a file at the place of either name is replaced, and never followed or opened.
package atomicfile

import (
	"crypto/rand"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// A File is being written. It has a temporary name until Put.
type File struct {
	*os.File
	dir  int
	name string
}

// Create makes a file with a temporary name in a directory, which is an open descriptor. With an empty
// name it makes one up. A name that is given must be under a lock of the caller's: what a killed writer
// left there is removed.
func Create(dir int, temporary string, mode uint32) (*File, error) {
	if temporary == "" {
		temporary = ".new-" + rand.Text()
	} else {
		unix.Unlinkat(dir, temporary, 0)
	}
	for {
		fd, err := unix.Openat(dir, temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		return &File{os.NewFile(uintptr(fd), temporary), dir, temporary}, nil
	}
}

// Put gives the file its name in a directory of the same file system, and waits until all that is on
// the disk. flags are those of renameat2(2). After an error there is no file but the one from before,
// unless only the last step failed: then the new file has its name, but a power failure can undo that.
func (f *File) Put(dir int, name string, flags uint) error {
	err := errors.Join(f.Sync(), f.Close())
	switch {
	case err != nil:
	case flags == 0:
		err = unix.Renameat(f.dir, f.name, dir, name)
	default:
		err = unix.Renameat2(f.dir, f.name, dir, name, flags)
	}
	if err != nil {
		f.Discard()
		return err
	}
	return unix.Fsync(dir)
}

// Discard closes and removes a file that has not got its name. After Put it does nothing.
func (f *File) Discard() {
	f.Close()
	unix.Unlinkat(f.dir, f.name, 0)
}

// Write replaces a file in a directory. temporary and mode are as in [Create].
func Write(dir int, name string, data []byte, temporary string, mode uint32) error {
	f, err := Create(dir, temporary, mode)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		f.Discard()
		return err
	}
	return f.Put(dir, name, 0)
}
