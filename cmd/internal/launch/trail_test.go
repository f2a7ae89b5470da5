package launch

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"py3run/cmd/internal/wire"
	"py3run/internal/need"
)

// native is a program that makes a directory and reads a file past the audit hook, and writes a file by Python.
const native = "import ctypes, os\nlibc = ctypes.CDLL(None)\nlibc.mkdir(b'd%[1]s', 0o700); libc.close(libc.open(b'/etc/hostname', 0)); open('f%[1]s', 'w').close()\nresult = os.getcwd()"

// trail says what a result tells of files, with D for the directory that is the result.
func trail(r wire.Result) string {
	said := fmt.Sprint(r.Status, r.Events.FilesWritten, r.Events.DirsMade, slices.Contains(r.Events.FilesRead, "/etc/hostname"), r.Events.Dropped)
	if dir := strings.Trim(string(r.Result), `"`); dir != "" {
		said = strings.ReplaceAll(said, dir, "D")
	}
	return said
}

func needTrail(t *testing.T, r wire.Result) {
	t.Helper()
	for _, m := range r.Isolation.Missing {
		if m.Name == "native-files" {
			need.That(t, "listener", fmt.Errorf("native-files: %s", m.Why))
		}
	}
}

// Each request to a kept interpreter has the files that it has touched itself, whatever natively.
func TestKeeperTrail(t *testing.T) {
	t.Parallel()
	for _, reads := range []bool{false, true} {
		root := t.TempDir()
		k := NewKeeper()
		defer k.Close()
		wish := func(job *Job) { job.Config.Security.Audit.Reads = reads }
		for _, n := range []string{"1", "2", "3"} {
			r := keep(t, k, root, "ann", fmt.Sprintf(native, n), wish)
			needTrail(t, r)
			if got, want := trail(r), fmt.Sprintf("ok[D/f%s] [D/d%[1]s] %t 0", n, reads); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		r := keep(t, k, root, "ann", "for n in range(300): libc.rmdir(b'/nowhere/%d' % n)\nresult = ''", wish) // by the recorder's own thread
		if got := len(r.Events.FilesDeleted); got != 100 || r.Events.Dropped != 200 {
			t.Errorf("%d deleted, %d dropped", got, r.Events.Dropped)
		}
		if r = keep(t, k, root, "ann", "result = ''", wish); trail(r) != "ok[] [] false 0" {
			t.Error(trail(r))
		}
	}
}

// A run in a worker of a template has its own files, and waits for nobody.
func TestSeriesTrail(t *testing.T) {
	t.Parallel()
	for _, reads := range []bool{false, true} {
		root := t.TempDir()
		series, warm := NewSeries(true), 0
		for i := 0; i < 30 && warm < 2; i++ {
			job := testJob(t, root, fmt.Sprintf(native, ""))
			job.Series, job.Config.Security.Audit.Reads, job.Config.Warm.Enabled = series, reads, true
			answer := Run(job)
			if err := answer.Sweep(); err != nil {
				t.Error(err)
			}
			series.Next()
			r := answer.Result
			needTrail(t, r)
			if got, want := trail(r), fmt.Sprintf("ok[D/f] [D/d] %t 0", reads); got != want {
				t.Errorf("warm %t: %s, want %s", r.Isolation.Warm, got, want)
			}
			if r.Isolation.Warm {
				warm++
			}
		}
		if err := series.Close(); err != nil {
			t.Error(err)
		}
		if warm == 0 {
			t.Error("no run had a worker")
		}
	}
}
