package sandbox

import (
	"os"
	"strings"
	"testing"
)

// A run ends in the same way, whether or not it was brief enough: that depends on the machine.
func TestWaitBriefly(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, script string
		code         int
		printed      string
		left         int
	}{
		{"ends", "exit 3", 3, "", 0},
		{"prints", "echo hi; exit 4", 4, "hi\n", 0},
		{"prints more than a pipe holds", "head -c 300000 /dev/zero | tr '\\0' x", 0, strings.Repeat("x", 300000), 0},
		{"takes longer", "sleep 0.1; echo late; exit 5", 5, "late\n", 0},
		{"leaves a process", "sleep 60 >&- 2>&- & exit 6", 6, "", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			eachMethod(t, func(t *testing.T, m Method) {
				spec := shell(tt.script)
				spec.Method = m
				r := beginAlone(t, spec)
				r.Release()
				out, ok := r.WaitBriefly(nil)
				if !ok {
					out = r.Wait(nil, nil)
				}
				if out.Reason != Finished || out.ExitCode != tt.code || out.Left.Count != tt.left || r.out.String() != tt.printed {
					t.Errorf("brief %t: %+v, printed %d bytes", ok, out, len(r.out.String()))
				}
			})
		})
	}
}

func TestWaitBrieflyGivesUp(t *testing.T) {
	t.Parallel()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer write.Close()
	for name, others := range map[string][]*os.File{"in time": nil, "for another file": {read}} {
		write.Write([]byte{1})
		t.Run(name, func(t *testing.T) {
			r := beginAlone(t, shell("exec sleep 60"))
			r.Release()
			if out, ok := r.WaitBriefly(nil, others...); ok {
				t.Errorf("%+v", out)
			}
			r.Kill()
			r.Wait(nil, nil)
		})
	}
}

// beginAlone is begin in a process that has nothing else to do, as far as the run can know.
func beginAlone(t *testing.T, spec Spec) *trial {
	t.Helper()
	r := &trial{}
	running, err := Start(spec, IO{Stdout: &r.out, Stderr: &r.err, Alone: true}, OwnChild)
	if err != nil {
		t.Fatal(err)
	}
	r.Running = running
	return r
}
