package cgroup

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// read, write and open are what package os has, without what it does for files that can be waited
// for: there are many of these small ones in each run.
func read(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	text := make([]byte, 0, 1024)
	for {
		n, err := unix.Read(fd, text[len(text):cap(text)])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return text, nil
		default:
			text = slices.Grow(text[:len(text)+n], 1)
		}
	}
}

func write(path, value string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(value)); err != nil {
		return &fs.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}

func open(path string, flags int) (*os.File, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func words(path string) []string { return (*kept)(nil).words(path) }

func (k *kept) words(path string) []string {
	text, _ := k.read(path)
	return strings.Fields(string(text))
}

func (k *kept) number(path string) int64 {
	text, _ := k.read(path)
	n, _ := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	return n
}

// field is the number behind a name in a flat keyed file.
func (k *kept) field(path, name string) int64 { return named(k.words(path), name) }

func named(list []string, name string) int64 {
	for i := 0; i+1 < len(list); i += 2 {
		if list[i] == name {
			n, _ := strconv.ParseInt(list[i+1], 10, 64)
			return n
		}
	}
	return 0
}

// plain is the errno of a wrapped path error.
func plain(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return err.Error()
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
