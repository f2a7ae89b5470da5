package sandbox

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// alternating writes that many lines, one to standard output, the next to standard error.
const alternating = `i=0; while [ $i -lt %d ]; do echo "o $i"; echo "e $i" >&2; i=$((i+1)); done`

// Two streams with one writer keep the program's order; with two writers each has its own.
func TestOnePipe(t *testing.T) {
	t.Parallel()
	const n = 3000
	var both, out, errs strings.Builder
	for i := range n {
		o, e := fmt.Sprintln("o", i), fmt.Sprintln("e", i)
		out.WriteString(o)
		errs.WriteString(e)
		both.WriteString(o + e)
	}
	eachMethod(t, func(t *testing.T, m Method) {
		spec := shell(fmt.Sprintf(alternating, n))
		spec.Method = m
		var one bytes.Buffer
		r, err := Start(spec, IO{Stdout: &one, Stderr: &one}, OwnChild)
		if err != nil {
			t.Fatal(err)
		}
		r.Release()
		if o := r.Wait(nil, nil); o.ExitCode != 0 || o.Signal != 0 || one.String() != both.String() {
			t.Errorf("%+v: %d bytes, want %d in the program's order", o, one.Len(), both.Len())
		}
		if o, r := execute(t, spec); o.ExitCode != 0 || r.out.String() != out.String() || r.err.String() != errs.String() {
			t.Errorf("%+v: %d and %d bytes, want %d and %d", o, len(r.out.String()), len(r.err.String()), out.Len(), errs.Len())
		}
	})
}

// several are writers in one, in a form that cannot be compared.
type several []io.Writer

func (s several) Write(p []byte) (int, error) { return io.MultiWriter(s...).Write(p) }

// A writer that cannot be compared is nobody else's.
func TestSameWriter(t *testing.T) {
	t.Parallel()
	var b, c bytes.Buffer
	for _, tt := range []struct {
		name string
		a, b io.Writer
		want bool
	}{
		{"one", &b, &b, true},
		{"two", &b, &c, false},
		{"discard", io.Discard, io.Discard, true},
		{"not to be compared", several{&b}, several{&b}, false},
	} {
		if got := same(tt.a, tt.b); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

// Another user opens its streams by name, and files of its own in /proc.
func TestRunAsOpensStreams(t *testing.T) {
	t.Parallel()
	need(t, "root")
	eachMethod(t, func(t *testing.T, m Method) {
		for _, one := range []bool{false, true} {
			input, ours, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer input.Close()
			ours.WriteString("text\n")
			ours.Close()
			spec := shell(`cat /dev/stdin; echo 1 > /dev/stdout; echo 2 > /dev/stderr; echo 3 > /dev/fd/1; echo 4 > /proc/self/fd/2; cat /proc/self/comm; sh -c 'echo 5 >/dev/stdout; cat /proc/$PPID/environ | wc -c'`)
			spec.Method, spec.RunAs, spec.Env = m, &User{UID: 12345, GID: 54321}, []string{"PATH=/bin"}
			var out, errs bytes.Buffer
			stdio := IO{Stdin: input, Stdout: &out, Stderr: &errs}
			want := [2]string{"text\n1\n3\ncat\n5\n10\n", "2\n4\n"}
			if one {
				stdio.Stderr, want = &out, [2]string{"text\n1\n2\n3\n4\ncat\n5\n10\n", ""}
			}
			r, err := Start(spec, stdio, OwnChild)
			if err != nil {
				t.Fatal(err)
			}
			r.Release()
			if o := r.Wait(nil, nil); o.ExitCode != 0 || out.String() != want[0] || errs.String() != want[1] {
				t.Errorf("one pipe %t: %+v: %q, %q, want %q", one, o, out.String(), errs.String(), want)
			}
		}
	})
}

// What has a place of its own stays its owner's.
func TestHandOver(t *testing.T) {
	t.Parallel()
	need(t, "root")
	path := t.TempDir() + "/fifo"
	check(t, unix.Mkfifo(path, 0o600))
	fifo, err := os.OpenFile(path, os.O_RDWR, 0)
	check(t, err)
	defer fifo.Close()
	pipe, other, err := os.Pipe()
	check(t, err)
	defer pipe.Close()
	defer other.Close()
	for _, tt := range []struct {
		f    *os.File
		want uint32
	}{{fifo, 0}, {pipe, 7}} {
		handOver(tt.f, User{UID: 7, GID: 8})
		var st unix.Stat_t
		check(t, unix.Fstat(int(tt.f.Fd()), &st))
		if st.Uid != tt.want {
			t.Errorf("%s belongs to %d, want %d", tt.f.Name(), st.Uid, tt.want)
		}
	}
}
