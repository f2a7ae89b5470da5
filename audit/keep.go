package audit

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	codeName = "code"
	keyName  = "variables.key"
	keyBytes = 32
)

// KeepCode keeps the exact bytes that were run in the directory code beside the log, named by their
// SHA-256. It returns when they are on the disk. For code that is there already it only sets the
// modification time, to mark it as used.
func (l *Log) KeepCode(code []byte) error {
	made := unix.Mkdirat(l.dir, codeName, 0o700)
	if made != nil && made != unix.EEXIST {
		return l.failed("make", codeName, made)
	}
	dir, err := unix.Openat(l.dir, codeName, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(dir)
		err = checkDir(dir)
	}
	if err != nil {
		return l.failed("open", codeName, err)
	}
	if made == nil {
		if err := l.share(dir, codeName, sharedDir); err != nil {
			return err
		}
	}
	name := hexSHA256(code)
	path := filepath.Join(codeName, name)
	var st unix.Stat_t
	if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == int64(len(code)) {
		unix.UtimesNanoAt(dir, name, []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}, unix.AT_SYMLINK_NOFOLLOW)
		return nil
	}
	return l.place(dir, name, path, code, true)
}

// place writes a file completely or not at all. With replace it replaces an existing file.
func (l *Log) place(dir int, name, path string, data []byte, replace bool) error {
	var random [8]byte
	rand.Read(random[:])
	temp := name + "." + hex.EncodeToString(random[:])
	fd, err := unix.Openat(dir, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return l.failed("make", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	if name != keyName {
		err = l.share(fd, path, sharedFile)
	}
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil && !l.NoSync {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	flags := uint(0)
	if !replace {
		flags = unix.RENAME_NOREPLACE
	}
	if err == nil {
		err = unix.Renameat2(dir, temp, dir, name, flags)
	}
	if err != nil {
		unix.Unlinkat(dir, temp, 0)
		return l.failed("write", path, err)
	}
	if !l.NoSync {
		if err := unix.Fsync(dir); err != nil {
			return l.failed("sync", path, err)
		}
	}
	return nil
}

// Key is the secret for the keyed hashes of values in this log's records. Its first use makes it:
// the file variables.key, 64 hexadecimal digits, mode 0600.
func (l *Log) Key() ([]byte, error) {
	for {
		fd, err := l.openRegular(keyName, unix.O_RDONLY)
		if err == nil {
			return l.readKey(fd)
		}
		if err != unix.ENOENT {
			return nil, l.failed("open", keyName, err)
		}
		key := make([]byte, keyBytes)
		rand.Read(key)
		if err := l.place(l.dir, keyName, keyName, []byte(hex.EncodeToString(key)+"\n"), false); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, err
		}
	}
}

func (l *Log) readKey(fd int) ([]byte, error) {
	defer unix.Close(fd)
	var st unix.Stat_t
	text := make([]byte, 2*keyBytes)
	err := unix.Fstat(fd, &st)
	if err == nil && st.Mode&0o077 != 0 {
		err = fmt.Errorf("is open to others (mode %04o)", st.Mode&0o7777)
	}
	if err == nil {
		err = readAt(fd, text, 0)
	}
	key := make([]byte, keyBytes)
	if err == nil {
		_, err = hex.Decode(key, text)
	}
	if err != nil {
		return nil, l.failed("read", keyName, err)
	}
	return key, nil
}
