package seccomp

import "golang.org/x/sys/unix"

// The kinds of calls on files that a filter of [Watch] asks about if it is told to, with their
// arguments. They are apart from those of [Watched].
const (
	Open      Kind = 200 + iota // path, flags, mode
	OpenAt                      // directory, path, flags, mode
	OpenAt2                     // directory, path, how, its size
	Create                      // path, mode
	Truncate                    // path, length
	Remove                      // path
	RemoveAt                    // directory, path, flags
	Rename                      // old path, new path
	RenameAt                    // old directory, old path, new directory, new path
	RenameAt2                   // the same, flags
	Link                        // existing path, new path
	LinkAt                      // existing directory, existing path, new directory, new path, flags
	Symlink                     // text, new path
	SymlinkAt                   // text, directory, new path
	MakeDir                     // path, mode
	MakeDirAt                   // directory, path, mode
)

// Writes are the flags with one of which an open writes to a file or makes one. They are the same
// numbers on all architectures here. The last is O_TMPFILE without O_DIRECTORY, which is a part of
// it. O_APPEND is not among them: without the right to write it does nothing.
const Writes = unix.O_WRONLY | unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC | unix.O_TMPFILE&^unix.O_DIRECTORY

// filing are the calls that write, make, rename, link or remove files by their names. The
// architectures that are younger have only those with a directory.
var filing = [...]struct {
	call
	kind Kind
}{
	{call{"open", 2, 5, 0, 5}, Open},
	{call{"openat", 257, 295, 56, 322}, OpenAt},
	{call{"openat2", 437, 437, 437, 437}, OpenAt2},
	{call{"creat", 85, 8, 0, 8}, Create},
	{call{"truncate", 76, 92, 45, 92}, Truncate},
	{call{"truncate64", 0, 193, 0, 193}, Truncate},
	{call{"unlink", 87, 10, 0, 10}, Remove},
	{call{"rmdir", 84, 40, 0, 40}, Remove},
	{call{"unlinkat", 263, 301, 35, 328}, RemoveAt},
	{call{"rename", 82, 38, 0, 38}, Rename},
	{call{"renameat", 264, 302, 38, 329}, RenameAt},
	{call{"renameat2", 316, 353, 276, 382}, RenameAt2},
	{call{"link", 86, 9, 0, 9}, Link},
	{call{"linkat", 265, 303, 37, 330}, LinkAt},
	{call{"symlink", 88, 83, 0, 83}, Symlink},
	{call{"symlinkat", 266, 304, 36, 331}, SymlinkAt},
	{call{"mkdir", 83, 39, 0, 39}, MakeDir},
	{call{"mkdirat", 258, 296, 34, 323}, MakeDirAt},
}

// Files is the kind of a call on files about which a filter of [Watch] has asked.
func Files(arch, number uint32) Kind {
	for _, f := range filing {
		if n := f.number(arch); n != 0 && n == number {
			return f.kind
		}
	}
	return Nothing
}

// fileCalls are the branches for these calls. An open is asked about by the value of its flags; those
// of openat2 are in memory, which a filter cannot read.
func fileCalls(arch uint32, reads bool) (branches []branch) {
	for _, f := range filing {
		n := f.number(arch)
		if n == 0 {
			continue
		}
		code := []unix.SockFilter{end(notify)}
		if f.kind == Open || f.kind == OpenAt {
			flags := load(low(uint32(f.kind-Open) + 1))
			code = []unix.SockFilter{flags, compare(unix.BPF_JSET, Writes, 0, 1), end(notify), end(allow)}
			if reads {
				code = []unix.SockFilter{flags, compare(unix.BPF_JSET, unix.O_PATH, 0, 1), end(allow), end(notify)}
			}
		}
		branches = append(branches, branch{n, code})
	}
	return branches
}
