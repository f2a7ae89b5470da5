package seccomp

import (
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

const nonce = 0x0123456789abcdef

// Every number that can be a call's, on every machine: what the table names is told of, everything
// else allowed.
func TestWatch(t *testing.T) {
	t.Parallel()
	plain := []uint64{5, 6, 7, 8, 9, 10}
	with := func(i int, value uint64) []uint64 {
		args := slices.Clone(plain)
		args[i] = value
		return args
	}
	for machine, arches := range entries {
		program := watch(arches, nonce, Also{})
		for _, arch := range architectures {
			ours := slices.Contains(arches, arch.audit)
			found := map[Kind]uint32{}
			for n := range uint32(1024) {
				kind := Watched(arch.audit, n)
				if kind != Nothing {
					if _, twice := found[kind]; twice {
						t.Errorf("%s: two calls of kind %d", arch.name, kind)
					}
					found[kind] = n
				}
				want := uint32(allow)
				if ours && kind != Nothing && kind != SocketCall {
					want = notify
				}
				args := plain
				if !ours || kind == Nothing {
					args = nil // not looked at: the kernel then remembers that the number is allowed
				}
				if got, err := evaluate(program, arch.audit, n, args...); err != nil || got != want {
					t.Errorf("on %s: %s %d: %#x, %v; want %#x", machine, arch.name, n, got, err, want)
				}
			}
			if want := 8; len(found) < want {
				t.Errorf("%s: %d kinds, want %d", arch.name, len(found), want)
			}
			if !ours {
				continue
			}
			own := arch.audit == arches[0]
			tests := []struct {
				name string
				kind Kind
				args []uint64
				want bool
			}{
				{"send without an address", SendTo, with(4, 0), false},
				{"send to an address below 4 GB", SendTo, with(4, 1), true},
				{"send to an address above 4 GB", SendTo, with(4, 1<<32), true},
				{"nonce", SendMsg, with(5, nonce), !own},
				{"nonce", Exec, with(5, nonce), !own},
				{"nonce elsewhere", Exec, with(4, nonce), true},
				{"half a nonce", SendMsg, with(5, nonce&0xffffffff), true},
				{"the other half", SendMsg, with(5, nonce&^0xffffffff), true},
				{"nearly the nonce", Exec, with(5, nonce+1), true},
				{"nonce", Connect, with(5, nonce), true},
				{"nonce", ExecAt, with(5, nonce), true},
				{"nonce", SendMMsg, with(5, nonce), true},
				{"nonce", Ring, with(5, nonce), true},
				{"socket", SocketCall, with(0, 1), false},
				{"bind", SocketCall, with(0, 2), true},
				{"connect", SocketCall, with(0, 3), true},
				{"listen", SocketCall, with(0, 4), false},
				{"send", SocketCall, with(0, 9), false},
				{"sendto", SocketCall, with(0, 11), true},
				{"sendmsg", SocketCall, with(0, 16), true},
				{"recvmsg", SocketCall, with(0, 17), false},
				{"sendmmsg", SocketCall, with(0, 20), true},
				{"no such call", SocketCall, with(0, 200), false},
			}
			for _, tt := range tests {
				n, ok := found[tt.kind]
				if !ok {
					continue // socketcall, of i386 only
				}
				want := uint32(allow)
				if tt.want {
					want = notify
				}
				if got, err := evaluate(program, arch.audit, n, tt.args...); err != nil || got != want {
					t.Errorf("on %s: %s call %d, %s: %#x, %v; want %#x", machine, arch.name, n, tt.name, got, err, want)
				}
			}
		}
		if got, err := evaluate(program, unix.AUDIT_ARCH_S390X, 42); err != nil || got != allow {
			t.Errorf("on %s: unknown architecture: %#x, %v", machine, got, err)
		}
		if got, err := evaluate(program, unix.AUDIT_ARCH_X86_64, x32Bit|42); err != nil || got != allow {
			t.Errorf("on %s: x32: %#x, %v", machine, got, err)
		}
	}
}

// The table of watched calls agrees with x/sys, as that of the denied ones does.
func TestWatchedNumbers(t *testing.T) {
	t.Parallel()
	for _, arch := range architectures {
		known := numbers(t, arch)
		for _, w := range watched {
			got, want := w.number(arch.audit), known[w.name]
			if w.kind == SocketCall && arch.name != "i386" { // others have it in name only, or under their old ABI
				want = 0
			}
			if got != want {
				t.Errorf("%s: %s has number %d, want %d", arch.name, w.name, got, want)
			}
		}
	}
}

func TestWithin(t *testing.T) {
	t.Parallel()
	var got string
	for n := range uint64(64) {
		if k := Within(n); k != Nothing {
			got += fmt.Sprintf("%d:%d ", n, k)
		}
	}
	if want := fmt.Sprintf("2:%d 3:%d 11:%d 16:%d 20:%d ", Bind, Connect, SendTo, SendMsg, SendMMsg); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
