package cmd

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"py3run/sandbox"
)

func TestReadReady(t *testing.T) {
	t.Parallel()
	const most = 1 << 20
	file := func(size int) func(t *testing.T) *os.File {
		return func(t *testing.T) *os.File {
			path := filepath.Join(t.TempDir(), "in")
			if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
	}
	pipe := func(size int, close bool) func(t *testing.T) *os.File {
		return func(t *testing.T) *os.File {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			w.Write(make([]byte, size))
			if close {
				w.Close()
			} else {
				t.Cleanup(func() { w.Close() })
			}
			return r
		}
	}
	tests := []struct {
		name  string
		in    func(t *testing.T) *os.File
		size  int
		whole bool
	}{
		{"file", file(1000), 1000, true},
		{"empty file", file(0), 0, true},
		{"file of the most", file(most), most, true},
		{"pipe that is closed", pipe(1000, true), 1000, true},
		{"empty pipe that is closed", pipe(0, true), 0, true},
		{"pipe that stays open", pipe(1000, false), 1000, false},
		{"empty pipe that stays open", pipe(0, false), 0, false},
		{"nothing", func(*testing.T) *os.File { f, _ := os.Open(os.DevNull); return f }, 0, true},
		{"directory", func(t *testing.T) *os.File { f, _ := os.Open(t.TempDir()); return f }, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := tt.in(t)
			defer in.Close()
			got, whole := readReady(in, most)
			if len(got) != tt.size || whole != tt.whole || len(bytes.Trim(got, "\x00")) > 0 {
				t.Errorf("%d bytes, whole %v; want %d, %v", len(got), whole, tt.size, tt.whole)
			}
		})
	}
	t.Run("file of more than the most", func(t *testing.T) {
		in := file(most + 100)(t)
		defer in.Close()
		if got, whole := readReady(in, most); whole || len(got) <= most {
			t.Errorf("%d bytes, whole %v", len(got), whole)
		}
	})
}

// When the run is over, a signal that ends a run ends the launcher, which still removes what others have
// left. What else it hears of, as py3run does in the place of an interpreter, does not.
func TestSweepUntil(t *testing.T) {
	t.Parallel()
	others := []os.Signal{syscall.SIGWINCH, syscall.SIGCONT, syscall.SIGTSTP, syscall.SIGPIPE, sandbox.CallerGone, syscall.SIGUSR1}
	for _, s := range ending {
		app := &app{signals: make(chan os.Signal)} // who sends the next one knows that the last one has been dealt with
		ends, left := 0, errors.New("left")
		err := app.sweepUntil(func() error {
			for _, heard := range append(append(others, s), others...) {
				app.signals <- heard
			}
			close(app.signals)
			return left
		}, func() { ends++ })
		if err != left || ends != 1 {
			t.Errorf("%v: ended %d times, %v", s, ends, err)
		}
	}
}
