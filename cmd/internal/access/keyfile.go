package access

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/config"
)

// keyTextMost is how much is read of a file with a key, in bytes.
const keyTextMost = 1 << 10

// ReadKeyFile reads a file, or a pipe such as /dev/fd/3, that has nothing but an API key, and perhaps a
// newline. It refuses a file that others than its owner can read. For a pipe it waits no longer than
// patience for the next byte; 0: for ever. Who has used the key overwrites it. The error is a
// *config.Error.
func ReadKeyFile(path string, patience time.Duration) ([]byte, error) {
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

// ReadKeyFrom reads as [ReadKeyFile] does from a descriptor that this process was started with, and
// closes it.
func ReadKeyFrom(fd int, patience time.Duration) ([]byte, error) {
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
func readKey(fd int, patience time.Duration) ([]byte, error) {
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
	return append([]byte{}, text[:n]...), nil
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
