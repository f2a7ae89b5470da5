package sandbox

import "golang.org/x/sys/unix"

// EndsInHole tells whether the last byte of a file was never written: somebody made the file as
// long as it is, without filling it (lseek(2), SEEK_DATA). It follows no link, and is false where
// the file cannot be read or its file system does not tell.
func EndsInHole(path string, size int64) bool { return endsInHole(unix.AT_FDCWD, path, size) }

func endsInHole(dir int, name string, size int64) bool {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	_, err = unix.Seek(fd, size-1, unix.SEEK_DATA)
	return err == unix.ENXIO
}
