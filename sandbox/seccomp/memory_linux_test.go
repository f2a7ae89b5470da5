package seccomp

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Only large mappings are asked about that a limit on private memory counts; without the wish none
// is, and nothing else changes.
func TestWatchMemory(t *testing.T) {
	t.Parallel()
	const rw = unix.PROT_READ | unix.PROT_WRITE
	tests := []struct {
		name string
		kind Kind
		args []uint64
		want bool
	}{
		{"small", Map, []uint64{0, Least - 1, rw, unix.MAP_PRIVATE | unix.MAP_ANON, 0, 0}, false},
		{"large", Map, []uint64{0, Least, rw, unix.MAP_PRIVATE | unix.MAP_ANON, 0, 0}, true},
		{"at a place", Map, []uint64{1 << 40, Least, unix.PROT_WRITE, unix.MAP_PRIVATE | unix.MAP_FIXED, 3, 0}, true},
		{"of many gigabytes", Map, []uint64{0, 1 << 40, rw, unix.MAP_PRIVATE | unix.MAP_ANON, 0, 0}, true},
		{"read-only", Map, []uint64{0, 1 << 40, unix.PROT_READ, unix.MAP_PRIVATE, 3, 0}, false},
		{"reserved", Map, []uint64{0, 1 << 40, unix.PROT_NONE, unix.MAP_PRIVATE | unix.MAP_ANON, 0, 0}, false},
		{"shared", Map, []uint64{0, 1 << 40, rw, unix.MAP_SHARED, 3, 0}, false},
		{"grown a little", Remap, []uint64{1 << 40, 4096, Least - 1, unix.MREMAP_MAYMOVE, 0, 0}, false},
		{"grown", Remap, []uint64{1 << 40, 4096, Least, unix.MREMAP_MAYMOVE, 0, 0}, true},
		{"grown much", Remap, []uint64{1 << 40, 4096, 1 << 33, unix.MREMAP_MAYMOVE, 0, 0}, true},
	}
	for machine, arches := range entries {
		with, without := watch(arches, nonce, Also{Memory: true}), watch(arches, nonce, Also{})
		for n := range uint32(1024) {
			kind := Grows(arches[0], n)
			if kind == Nothing {
				args := []uint64{5, 6, 7, 8, 9, 10}
				got, err := evaluate(with, arches[0], n, args...)
				if want, _ := evaluate(without, arches[0], n, args...); err != nil || got != want {
					t.Errorf("on %s: call %d: %#x, %v; want %#x", machine, n, got, err, want)
				}
				continue
			}
			if Watched(arches[0], n) != Nothing {
				t.Errorf("on %s: call %d is watched, too", machine, n)
			}
			for _, tt := range tests {
				if tt.kind != kind {
					continue
				}
				want := uint32(allow)
				if tt.want {
					want = notify
				}
				if got, err := evaluate(with, arches[0], n, tt.args...); err != nil || got != want {
					t.Errorf("on %s: %s: %#x, %v; want %#x", machine, tt.name, got, err, want)
				}
				if got, err := evaluate(without, arches[0], n, tt.args...); err != nil || got != allow {
					t.Errorf("on %s: %s is asked about unasked: %#x, %v", machine, tt.name, got, err)
				}
			}
		}
	}
}

func TestGrowingNumbers(t *testing.T) {
	t.Parallel()
	for _, arch := range architectures {
		known := numbers(t, arch)
		for _, g := range growing {
			if got := g.number(arch.audit); got != 0 && got != known[g.name] {
				t.Errorf("%s: %s has number %d, want %d", arch.name, g.name, got, known[g.name])
			}
		}
	}
}
