package sandbox

import "testing"

// What RLIMIT_DATA refuses in one large piece is known, though it leaves no trace; what it does not
// refuse, or is not asked for, is not told.
func TestRefusedMemory(t *testing.T) {
	t.Parallel()
	need(t, "listener")
	tests := []struct {
		name       string
		activity   Requirement
		limit      int64
		least, top int64
	}{
		{"more than the limit", BestEffort, 64 << 20, 100 << 20, 110 << 20},
		{"within it", BestEffort, 1 << 30, 0, 0},
		{"no limit", BestEffort, 0, 0, 0},
		{"nobody listens", NotRequested, 64 << 20, 0, 0},
	}
	eachMethod(t, func(t *testing.T, m Method) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				spec := shell("dd if=/dev/zero of=/dev/null bs=100M count=1")
				spec.Method, spec.Activity, spec.Limits.Memory, spec.NoNewPrivileges = m, tt.activity, tt.limit, true
				out, _ := execute(t, spec)
				if got := out.Activity.RefusedMemory; got < tt.least || got > tt.top {
					t.Errorf("refused %d, want %d to %d; %+v", got, tt.least, tt.top, out)
				}
			})
		}
	})
}

func TestWeigh(t *testing.T) {
	t.Parallel()
	mmap := func(size uint64) notice { return notice{arch: 0xc000003e, number: 9, arg: [6]uint64{0, size, 3, 0x22}} }
	mremap := func(from, to uint64) notice {
		return notice{arch: 0xc000003e, number: 25, arg: [6]uint64{1 << 40, from, to}}
	}
	tests := []struct {
		name  string
		n     notice
		limit int64
		want  int64
	}{
		{"over", mmap(200), 100, 200},
		{"all of it", mmap(100), 100, 0},
		{"no limit", mmap(200), 0, 0},
		{"grown over", mremap(50, 200), 100, 150},
		{"grown within", mremap(150, 200), 100, 0},
		{"made smaller", mremap(1000, 200), 100, 0},
		{"beyond any memory", mmap(1 << 63), 100, 0},
		{"another call", notice{arch: 0xc000003e, number: 42, arg: [6]uint64{0, 200, 200}}, 100, 0},
	}
	for _, tt := range tests {
		r := refusals{limit: tt.limit} // of a thread that is gone: it has nothing
		if got := r.weigh(&tt.n); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}
