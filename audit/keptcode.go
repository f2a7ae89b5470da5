package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// KeptCodeMost is how long kept code may be, in bytes.
const KeptCodeMost = 64 << 20

// KeptCode is the code with a SHA-256, in lower-case hexadecimal, as [Log.KeepCode] has kept it. The
// error wraps ENOENT where it was not kept, or was removed by [Log.PruneCode].
func (r *Reader) KeptCode(sum string) ([]byte, error) {
	path := filepath.Join(codeName, sum)
	failed := func(err error) ([]byte, error) { return nil, r.failed("read", path, err) }
	if _, err := parseHash(sum); err != nil {
		return failed(err)
	}
	dir, err := unix.Openat(r.dir, codeName, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return failed(err)
	}
	defer unix.Close(dir)
	fd, err := unix.Openat(dir, sum, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return failed(err)
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return failed(err)
	case !info.Mode().IsRegular():
		return failed(errors.New("not a regular file"))
	case info.Size() > KeptCodeMost:
		return failed(fmt.Errorf("longer than %d MB", KeptCodeMost>>20))
	}
	code, err := io.ReadAll(io.LimitReader(file, KeptCodeMost))
	if err != nil {
		return failed(err)
	}
	if got := hexSHA256(code); got != sum {
		return failed(fmt.Errorf("it is not the code that was run: its SHA-256 is %s", got))
	}
	return code, nil
}

// code compares each file of kept code with its name, which is the hash of the code.
func (v *verifier) code() {
	v.seg, v.line = segment{}, 0
	fd, err := unix.Openat(v.reader.dir, codeName, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return
	}
	var names []string
	if err == nil {
		dir := os.NewFile(uintptr(fd), codeName)
		defer dir.Close()
		names, err = dir.Readdirnames(-1)
	}
	if err != nil {
		severity := Unreadable
		if err == unix.EACCES { // who may only read the log may have no access to it
			severity = Note
		}
		v.add(severity, NotReadable, 0, "kept code was not looked at: %v", v.reader.failed("read", codeName, err))
	}
	slices.Sort(names)
	for _, name := range names {
		if len(name) != hex.EncodedLen(sha256.Size) {
			continue // a writer is making it
		}
		path := filepath.Join(codeName, name)
		sum := sha256.New()
		at, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT { // retention has removed it meanwhile
			continue
		}
		if err == nil {
			file := os.NewFile(uintptr(at), path)
			_, err = io.Copy(sum, file)
			file.Close()
		}
		if err != nil {
			v.add(Unreadable, NotReadable, 0, "%v", v.reader.failed("read", path, err))
			continue
		}
		v.report.Code++
		if hex.EncodeToString(sum.Sum(nil)) != name {
			v.add(Broken, CodeDiffers, 0, "%s is not the code that was run: its SHA-256 is %x", path, sum.Sum(nil))
		}
	}
}
