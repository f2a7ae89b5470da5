package sandbox

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What Landlock (landlock(7)) is used for: reading and writing only below given places, for the
// program and all its children, and keeping runs from each other's abstract sockets, which have no
// file and no namespace but the network's.
const (
	landlockRead  = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	landlockWrite = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	// what a rule on a file, not a directory, may name
	landlockFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE

	landlockRefer    = 2 // the version that knows moves between directories
	landlockTruncate = 3 // the version that knows truncation
	landlockScopes   = 6 // the version that knows scopes
)

// landlockVersion is the kernel's, 0 when it has none or it is switched off.
func landlockVersion() int {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(v)
}

// A landlockRule allows something with what is at a path and below it.
type landlockRule struct {
	path   string
	access uint64
}

// A fitting is what of a Spec a version of Landlock can hold: the ruleset and its rules, what is in
// force by them, and what is not.
type fitting struct {
	files  uint64 // kinds of access that are denied where no rule allows them
	scopes uint64
	rules  []landlockRule
	have   []string
	gaps   []Gap
}

// fit fits a Spec to a version of Landlock; 0: the kernel has none. It makes no system call.
//
// The rules are for init to add: they hold for inodes, and those that the program finds are there
// only when all is mounted.
func fit(spec Spec, method Method, version int) (f fitting) {
	read, write := spec.ReadDirs != nil, spec.WriteDirs != nil
	scope := method == Namespace && !spec.DenyNetwork // else the network namespace has abstract sockets of its own
	if scope && version < landlockScopes {
		f.gaps = append(f.gaps, Gap{Name: "abstract-sockets", Extra: true,
			Why: "the kernel's Landlock has no scopes (since Linux 6.12): abstract sockets of other runs can be connected to"})
		scope = false
	}
	if version == 0 {
		const why = "the kernel has no Landlock, or it is not in its list of security modules (boot parameter lsm=)"
		if read {
			f.gaps = append(f.gaps, Gap{Name: "read-dirs", Why: why})
		}
		if write {
			f.gaps = append(f.gaps, Gap{Name: "write-dirs", Why: why})
		}
		return f
	}
	readBits, writeBits, refer := uint64(0), uint64(0), uint64(0)
	if read {
		readBits = landlockRead
		f.have = append(f.have, "read-dirs")
	}
	if write {
		writeBits = landlockWrite
		f.have = append(f.have, "write-dirs")
		if version < landlockTruncate {
			writeBits &^= unix.LANDLOCK_ACCESS_FS_TRUNCATE
			f.gaps = append(f.gaps, Gap{Name: "write-dirs-truncation", Why: "the kernel's Landlock does not know truncation (since Linux 6.2): files elsewhere can be cut to nothing"})
		}
		f.gaps = append(f.gaps, Gap{Name: "write-dirs-metadata", Extra: true,
			Why: "Landlock does not hold changes of mode, owner, times and extended attributes: files elsewhere that the user may change so stay open to that"})
	}
	if version >= landlockRefer && (read || write) { // moving between directories is denied wherever it is not granted, asked for or not
		refer = unix.LANDLOCK_ACCESS_FS_REFER
	}
	f.files = readBits | writeBits | refer
	if scope {
		f.scopes = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
		f.have = append(f.have, "abstract-sockets")
	}
	if !write {
		f.allow(refer, "/")
	}
	f.allow(readBits, spec.ReadDirs...)
	f.allow(readBits|writeBits|refer, spec.WriteDirs...) // what can be written can be read
	return f
}

func (f *fitting) allow(access uint64, paths ...string) {
	for _, path := range paths {
		if access != 0 {
			f.rules = append(f.rules, landlockRule{path, access})
		}
	}
}

// make makes the ruleset, without its rules; nil: there is nothing to restrict.
func (f fitting) make() (*os.File, error) {
	if f.files == 0 && f.scopes == 0 {
		return nil, nil
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: f.files, Scoped: f.scopes}
	size := unsafe.Sizeof(attr.Handled_access_fs)
	if f.scopes != 0 {
		size = unsafe.Offsetof(attr.Quiet_access_fs) // what an older kernel knows of it
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return nil, &StepError{Step: "landlock_create_ruleset", Err: errno}
	}
	return os.NewFile(fd, "landlock"), nil
}
