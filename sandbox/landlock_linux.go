package sandbox

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What Landlock (landlock(7)) is used for: reading and writing only below given places, for the program and all its children, and
// keeping runs from each other's abstract sockets, which have no file and no namespace but the network's.
const (
	landlockRead  = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	landlockWrite = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	// what a rule on a file, not a directory, may name
	landlockFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE

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

// landlock makes the ruleset of a Spec: nil if there is nothing to restrict. Its rules are for init to add: they hold for inodes, and those that
// the program finds are there only when all is mounted. What this kernel cannot restrict is a gap.
func landlock(spec Spec, method Method) (ruleset *os.File, rules []landlockRule, have []string, gaps []Gap, err error) {
	version := landlockVersion()
	scope := method == Namespace && !spec.DenyNetwork // else the network namespace has abstract sockets of its own
	if scope && version < landlockScopes {
		gaps = append(gaps, Gap{Name: "abstract-sockets", Extra: true,
			Why: "the kernel's Landlock has no scopes (since Linux 6.12): abstract sockets of other runs can be connected to"})
		scope = false
	}
	read, write := spec.ReadDirs != nil, spec.WriteDirs != nil
	if (read || write) && version == 0 {
		why := "the kernel has no Landlock, or it is not in its list of security modules (boot parameter lsm=)"
		if read {
			gaps = append(gaps, Gap{Name: "read-dirs", Why: why})
		}
		if write {
			gaps = append(gaps, Gap{Name: "write-dirs", Why: why})
		}
		read, write = false, false
	}
	if write && version < landlockTruncate {
		gaps = append(gaps, Gap{Name: "write-dirs-truncation", Why: "the kernel's Landlock does not know truncation (since Linux 6.2): files elsewhere can be cut to nothing"})
	}
	if write {
		gaps = append(gaps, Gap{Name: "write-dirs-metadata", Extra: true,
			Why: "Landlock does not hold changes of mode, owner, times and extended attributes: files elsewhere that the user may change so stay open to that"})
	}
	var attr unix.LandlockRulesetAttr
	readBits, writeBits := uint64(0), uint64(0)
	if read {
		readBits = landlockRead
		have = append(have, "read-dirs")
	}
	if write {
		writeBits = landlockWrite
		if version < landlockTruncate {
			writeBits &^= unix.LANDLOCK_ACCESS_FS_TRUNCATE
		}
		have = append(have, "write-dirs")
	}
	refer := uint64(0)
	if version >= 2 && (read || write) { // moving between directories is denied wherever it is not granted, asked for or not
		refer = unix.LANDLOCK_ACCESS_FS_REFER
	}
	attr.Handled_access_fs = readBits | writeBits | refer
	size := unsafe.Sizeof(attr.Handled_access_fs)
	if scope {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
		size = unsafe.Offsetof(attr.Quiet_access_fs) // what an older kernel knows of it
		have = append(have, "abstract-sockets")
	}
	if attr.Handled_access_fs == 0 && attr.Scoped == 0 {
		return nil, nil, have, gaps, nil
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return nil, nil, nil, nil, &StepError{Step: "landlock_create_ruleset", Err: errno}
	}
	allow := func(access uint64, paths ...string) {
		for _, path := range paths {
			if access != 0 {
				rules = append(rules, landlockRule{path, access})
			}
		}
	}
	if !write {
		allow(refer, "/")
	}
	allow(readBits, spec.ReadDirs...)
	allow(readBits|writeBits|refer, spec.WriteDirs...) // what can be written can be read
	return os.NewFile(fd, "landlock"), rules, have, gaps, nil
}
