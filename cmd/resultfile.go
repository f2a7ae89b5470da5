package cmd

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/wire"
)

// A resultFile is where --result-file puts the result line. A reader finds the whole line or what was
// there before: the line is written to another file of the directory, which then takes the name.
type resultFile struct {
	path string // as it was given
	dir  int    // the directory, open from before the run on: the code may rename it
	name string
}

var errNotRegular = errors.New("it is not a regular file, and would be replaced")

// openResultFile finds out, before anything runs, whether the file can be written.
func openResultFile(path string) (*resultFile, error) {
	f := &resultFile{path: path, name: filepath.Base(path)}
	var err error
	if f.dir, err = unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("open %s: %w", filepath.Dir(path), err)
	}
	var st unix.Stat_t
	switch err := unix.Fstatat(f.dir, f.name, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case strings.HasSuffix(path, "/") || err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR:
		err = unix.EISDIR
		fallthrough
	case err != nil && err != unix.ENOENT:
		return nil, fmt.Errorf("write %s: %w", path, err)
	case err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG: // a link, or a device such as /dev/stdout: the new file would replace it
		return nil, fmt.Errorf("write %s: %w", path, errNotRegular)
	}
	fd, name, err := f.create()
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	unix.Close(fd)
	unix.Unlinkat(f.dir, name, 0)
	return f, nil
}

// create makes a new file in the directory, which nobody else can read.
func (f *resultFile) create() (fd int, name string, err error) {
	var random [8]byte
	rand.Read(random[:])
	name = ".py3run-result-" + hex.EncodeToString(random[:])
	fd, err = unix.Openat(f.dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	return fd, name, err
}

func (f *resultFile) write(line []byte) error {
	fd, name, err := f.create()
	if err != nil {
		return err
	}
	for n := 0; len(line) > 0 && err == nil; line = line[max(n, 0):] {
		if n, err = unix.Write(fd, line); err == unix.EINTR {
			err = nil
		}
	}
	if e := unix.Close(fd); err == nil {
		err = e // of a network file system, for example
	}
	if err == nil {
		err = unix.Renameat(f.dir, name, f.dir, f.name)
	}
	if err != nil {
		unix.Unlinkat(f.dir, name, 0)
	}
	return err
}

// openResult opens the file of --result-file, if it was given.
func (app *app) openResult() (err error) {
	if app.resultPath != "" {
		app.result, err = openResultFile(app.resultPath)
	}
	return err
}

// keep writes a result to the file of --result-file, if there is one. false: it could not, and has
// said so.
func (app *app) keep(result wire.Result) bool {
	if app.result == nil {
		return true
	}
	line, err := result.Encode()
	if err != nil { // a bug of py3run
		app.errorf("write result: %v", err)
		return false
	}
	return app.keepLine(line, result.Status)
}

// keepLine is keep for a result that is a line already.
func (app *app) keepLine(line []byte, status wire.Status) bool {
	if app.result == nil {
		return true
	}
	err := app.result.write(line)
	if err != nil {
		app.errorf("write %s: %v", app.result.path, err)
		app.hintf("the run itself ended with status %q; the audit log has it", status)
	}
	return err == nil
}

// badResultFile is the mistake of the caller that names a file for the result that cannot be written.
func badResultFile(err error) *wire.BadRequest {
	hint := "name a file in a directory that exists and that you may write to"
	switch {
	case errors.Is(err, unix.EISDIR):
		hint = "name a file, not a directory"
	case errors.Is(err, errNotRegular):
		hint = "name a new or a regular file"
	}
	return &wire.BadRequest{Message: "--result-file: " + err.Error(), Hint: hint}
}
