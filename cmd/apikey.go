package cmd

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

// An API key comes with the request, in a file, or through a descriptor. It never stands in an
// argument or in the environment, where other processes could read it.
//
//	api_key in the request  >  --api-key-fd, --api-key-file  >  PY3RUN_API_KEY_FILE
//
// What was read of it is overwritten once it was used. That does not reach copies that the kernel has,
// in a pipe or in its cache of files, nor those that Go made when a buffer for a request grew. The
// memory of a launcher is undumpable from the moment on in which it has a key: no other process of
// its user can read it, and it leaves no core dump.

// keyFileVariable names the file with the API key, for callers that cannot give an option.
const keyFileVariable = "PY3RUN_API_KEY_FILE"

// keySource is where the API key comes from, apart from a request.
type keySource struct {
	file string
	fd   int         // -1: none
	held wire.Secret // what was read from fd: it can be read only once
}

// keyFlags adds the options for an API key.
func (app *app) keyFlags(c *cobra.Command) {
	app.key.fd = -1
	c.Flags().StringVar(&app.key.file, "api-key-file", "", "read the API key from this `file`, which only its owner can read")
	c.Flags().IntVar(&app.key.fd, "api-key-fd", -1, "read the API key from this `descriptor`, from 3 on")
	before := c.PreRunE
	c.PreRunE = func(c *cobra.Command, args []string) error {
		if before != nil {
			if err := before(c, args); err != nil {
				return err
			}
		}
		file, fd := c.Flags().Changed("api-key-file"), c.Flags().Changed("api-key-fd")
		switch {
		case file && fd:
			return usagef("--api-key-file and --api-key-fd exclude each other")
		case file && app.key.file == "": // a variable that is not set
			return usagef("--api-key-file: want the name of a file")
		case fd && app.key.fd < 3:
			return usagef("--api-key-fd %d: want a descriptor from 3 on", app.key.fd)
		}
		return nil
	}
}

// keyFile is the file with the API key, absolute; empty: there is none.
func (app *app) keyFile() string {
	name := app.key.file
	if name == "" && app.key.fd < 3 {
		name = lookup(app.environ, keyFileVariable)
	}
	if name == "" {
		return ""
	}
	path, err := filepath.Abs(name)
	if err != nil {
		return name
	}
	return path
}

// keyPlace is the file with the API key that no run may see; empty: there is none. What stands for a
// descriptor is no such file.
func (app *app) keyPlace() string {
	file := app.keyFile()
	if strings.HasPrefix(file, "/dev/") || strings.HasPrefix(file, "/proc/") {
		return ""
	}
	return file
}

// withKey gives a request the API key of this process, unless it has one of its own. The error is a
// *config.Error.
func (app *app) withKey(request *wire.Request, patience time.Duration) error {
	if len(request.Key) > 0 {
		sandbox.Conceal()
		return nil
	}
	var err error
	switch file := app.keyFile(); {
	case app.key.fd >= 3:
		sandbox.Conceal()
		if app.key.held == nil {
			app.key.held, err = readKeyFrom(app.key.fd, patience)
		}
		request.Key = append(wire.Secret{}, app.key.held...)
	case file != "":
		sandbox.Conceal()
		if request.Key, err = readKeyFile(file, patience); err != nil {
			err = app.fromKeyFile(err)
		}
	}
	return err
}

// fromKeyFile says who has named the file with the key: whoever has not may not know of it.
func (app *app) fromKeyFile(err error) error {
	from := "--api-key-file"
	if app.key.file == "" {
		from = keyFileVariable
	}
	if e, ok := errors.AsType[*config.Error](err); ok {
		e.Where = from + ": " + e.Where
	}
	return err
}

// keyTextMost is how much is read of a file with a key, in bytes.
const keyTextMost = 1 << 10

// readKeyFile reads a file that has nothing but a key, and perhaps a newline.
func readKeyFile(path string, patience time.Duration) (wire.Secret, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	for err == unix.EINTR {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, badKeyFile(path, err)
	}
	defer unix.Close(fd)
	key, err := readKey(fd, patience)
	if err != nil {
		return nil, badKeyFile(path, err)
	}
	return key, nil
}

// readKeyFrom reads a key from a descriptor that the caller has opened, and closes it.
func readKeyFrom(fd int, patience time.Duration) (wire.Secret, error) {
	name := fmt.Sprintf("descriptor %d", fd)
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 { // Go's own are not inherited
		return nil, badKeyFile(name, unix.EBADF)
	}
	defer unix.Close(fd)
	key, err := readKey(fd, patience)
	if err != nil {
		return nil, badKeyFile(name, err)
	}
	return key, nil
}

var (
	errKeyKind    = errors.New("neither a regular file nor a pipe")
	errKeyOpen    = errors.New("others than its owner can read it")
	errKeyEmpty   = errors.New("empty")
	errKeyLarge   = fmt.Errorf("more than %d bytes, which no API key has", keyTextMost)
	errKeyMissing = errors.New("nothing came in time")
)

// readKey reads to the end of a file or a pipe, and cuts one newline.
func readKey(fd int, patience time.Duration) (wire.Secret, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	kind := st.Mode & unix.S_IFMT
	switch {
	case kind != unix.S_IFREG && kind != unix.S_IFIFO:
		return nil, errKeyKind
	case st.Mode&0o077 != 0:
		return nil, errKeyOpen
	}
	var text [keyTextMost + 1]byte
	defer clear(text[:])
	n, err := readAllOf(fd, kind == unix.S_IFIFO, text[:], patience)
	switch {
	case err != nil:
		return nil, err
	case n > keyTextMost:
		return nil, errKeyLarge
	case n > 0 && text[n-1] == '\n':
		n--
	}
	if n == 0 {
		return nil, errKeyEmpty
	}
	return append(wire.Secret{}, text[:n]...), nil
}

// readAllOf reads until the end or until the buffer is full. It waits for a pipe, also for one that
// nobody has opened for writing yet, but no longer than patience for the next byte; 0: for ever.
func readAllOf(fd int, pipe bool, text []byte, patience time.Duration) (n int, err error) {
	wait := -1
	if patience > 0 {
		wait = int(patience.Milliseconds())
	}
	for n < len(text) {
		if pipe {
			ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, wait)
			switch {
			case err == unix.EINTR:
				continue
			case err != nil:
				return n, err
			case ready == 0:
				return n, errKeyMissing
			}
		}
		got, err := unix.Read(fd, text[n:])
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
		case err != nil:
			return n, err
		case got == 0:
			return n, nil
		default:
			n += got
		}
	}
	return n, nil
}

// badKeyFile says why there is no key, although the operator or the caller has named one. Without it,
// the run would be somebody else's.
func badKeyFile(name string, err error) error {
	e := &config.Error{Where: name, Problem: "read the API key: " + err.Error(), Hint: "name a file that has the key and nothing else, or leave it out"}
	switch err {
	case errKeyOpen:
		e.Hint = "chmod 0600 " + name + "; if others could read it for long, have the key rotated: py3runctl key rotate"
	case unix.ENOENT:
		e.Hint = "name a file that exists"
	case unix.EACCES:
		e.Hint = "name a file that this user can read"
	case unix.EBADF:
		e.Hint = "open it for py3run, as the shell does with 3<FILE"
	}
	return e
}

// lookup returns the value of a variable, empty if it is not set.
func lookup(environ []string, name string) string {
	for _, e := range environ {
		if len(e) > len(name) && e[len(name)] == '=' && e[:len(name)] == name {
			return e[len(name)+1:]
		}
	}
	return ""
}
