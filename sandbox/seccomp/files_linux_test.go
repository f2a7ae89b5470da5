package seccomp

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// Each number on each machine: the calls of the table are asked about, opens by their flags, and the
// other calls are what they are without the wish.
func TestFiles(t *testing.T) {
	t.Parallel()
	opens := []struct {
		name         string
		flags        uint64
		write, reads bool // asked about, for writes and for reads
	}{
		{"read", unix.O_RDONLY, false, true},
		{"read a directory", unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NOFOLLOW, false, true},
		{"read, append", unix.O_APPEND, false, true},
		{"read with every flag that does not write", ^uint64(Writes | unix.O_PATH), false, true},
		{"write", unix.O_WRONLY, true, true},
		{"read and write", unix.O_RDWR, true, true},
		{"create for reading", unix.O_CREAT, true, true},
		{"truncate", unix.O_TRUNC, true, true},
		{"unnamed", unix.O_TMPFILE | unix.O_RDWR, true, true},
		{"bit of an unnamed one", unix.O_TMPFILE &^ unix.O_DIRECTORY, true, true},
		{"both access bits", 3, true, true},
		{"path", unix.O_PATH, false, false},
		{"path of a directory", unix.O_PATH | unix.O_DIRECTORY, false, false},
		{"write in the upper half only", unix.O_WRONLY << 32, false, true},
		{"write and rubbish above", unix.O_WRONLY | 0xffffffff<<32, true, true},
	}
	for machine, arches := range entries {
		without, write, reads := watch(arches, nonce, Also{}), watch(arches, nonce, Also{Files: true}), watch(arches, nonce, Also{Files: true, Reads: true})
		for _, arch := range architectures {
			ours := slices.Contains(arches, arch.audit)
			found := map[Kind]int{}
			for n := range uint32(1024) {
				kind := Files(arch.audit, n)
				found[kind]++
				if kind != Nothing && Watched(arch.audit, n) != Nothing {
					t.Errorf("%s: call %d is watched, too", arch.name, n)
				}
				if !ours || kind == Nothing {
					args := []uint64{5, 6, 7, 8, 9, 10}
					if !ours || Watched(arch.audit, n) == Nothing {
						args = nil // not looked at
					}
					want, err := evaluate(without, arch.audit, n, args...)
					for _, program := range [][]unix.SockFilter{write, reads} {
						if got, failed := evaluate(program, arch.audit, n, args...); got != want || failed != nil || err != nil {
							t.Errorf("on %s: %s %d: %#x, %v; want %#x, %v", machine, arch.name, n, got, failed, want, err)
						}
					}
					continue
				}
				if kind != Open && kind != OpenAt {
					for _, program := range [][]unix.SockFilter{write, reads} { // whatever its arguments
						if got, err := evaluate(program, arch.audit, n); got != notify || err != nil {
							t.Errorf("on %s: %s %d: %#x, %v", machine, arch.name, n, got, err)
						}
					}
					continue
				}
				for _, tt := range opens {
					args := []uint64{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), 0, 0}
					args[kind-Open+1] = tt.flags
					for _, v := range []struct {
						program []unix.SockFilter
						asked   bool
					}{{without, false}, {write, tt.write}, {reads, tt.reads}} {
						want := uint32(allow)
						if v.asked {
							want = notify
						}
						if got, err := evaluate(v.program, arch.audit, n, args...); got != want || err != nil {
							t.Errorf("on %s: %s %d, %s: %#x, %v; want %#x", machine, arch.name, n, tt.name, got, err, want)
						}
					}
				}
			}
			atLeast := 17 // kinds, one of them Nothing
			if arch.name == "arm64" {
				atLeast = 10
			}
			if len(found) < atLeast {
				t.Errorf("%s: %d kinds, want %d", arch.name, len(found), atLeast)
			}
		}
	}
}

func TestFileNumbers(t *testing.T) {
	t.Parallel()
	for _, arch := range architectures {
		known := numbers(t, arch)
		for _, f := range filing {
			if got, want := f.number(arch.audit), known[f.name]; got != want {
				t.Errorf("%s: %s has number %d, want %d", arch.name, f.name, got, want)
			}
		}
	}
}

// What an ordinary call costs: instructions until its result, which the kernel's cache of numbers that
// are always allowed saves for all but opens.
func TestFilesCost(t *testing.T) {
	t.Parallel()
	for machine, arches := range entries {
		program := watch(arches, nonce, Also{Files: true})
		n := uint32(257)
		if machine == "arm64" {
			n = 56
		}
		if result, got, err := measured(program, arches[0], n, 0, 0, unix.O_RDONLY|unix.O_CLOEXEC); result != allow || err != nil || got > 15 {
			t.Errorf("on %s: %d instructions to open a file for reading, want 15 at most; %#x, %v", machine, got, result, err)
		}
	}
}
