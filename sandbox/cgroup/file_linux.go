package cgroup

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

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

func words(path string) []string {
	text, _ := read(path)
	return strings.Fields(string(text))
}

// A reader gives the text of a file. It is valid until the next one is read.
type reader func(path string) ([]byte, error)

func (from reader) number(path string) int64 {
	text, _ := from(path)
	n, _ := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	return n
}

// field is the number behind a name in a flat keyed file.
func (from reader) field(path, name string) int64 {
	text, _ := from(path)
	n, _ := fieldOf(text, name)
	return n
}

// fieldOf is the number behind a name in the text of a flat keyed file: "name number" in each line.
func fieldOf(text []byte, name string) (n int64, has bool) {
	for rest := text; len(rest) > len(name); {
		if string(rest[:len(name)]) == name && rest[len(name)] == ' ' {
			value, _, _ := bytes.Cut(rest[len(name)+1:], []byte("\n"))
			n, _ = strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
			return n, true
		}
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			break
		}
		rest = rest[end+1:]
	}
	return 0, false
}

// files are files that stay open, for a group that is looked at again and again.
type files struct {
	mu     sync.Mutex     // CloseFiles can come while somebody looks
	open   map[string]int // nil: they are closed
	buffer []byte
}

// KeepOpen has the files that tell of the group stay open from the first look on, until CloseFiles.
// Only one goroutine may look at the group at a time.
func (g *Group) KeepOpen() {
	if g.files == nil {
		g.files = &files{open: map[string]int{}, buffer: make([]byte, 4<<10)}
	}
}

// CloseFiles closes these files. Later looks open them each time.
func (g *Group) CloseFiles() {
	if g.files == nil {
		return
	}
	g.files.mu.Lock()
	defer g.files.mu.Unlock()
	for _, fd := range g.files.open {
		unix.Close(fd)
	}
	g.files.open = nil
}

// read reads a file of the group.
func (g *Group) read(path string) ([]byte, error) {
	f := g.files
	if f == nil {
		return read(path)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	fd, isOpen := f.open[path]
	if f.open == nil {
		return read(path)
	}
	if !isOpen {
		var err error
		if fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		f.open[path] = fd
	}
	n, err := unix.Pread(fd, f.buffer, 0) // a text that is smaller than a page comes at once
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	if n == len(f.buffer) {
		return read(path)
	}
	return f.buffer[:n], nil
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
