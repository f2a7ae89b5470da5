package python

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"py3run/cmd/internal/wire"
)

// A file that both the hook and the kernel have noted is there once, and what only one of them has
// noted is there, too.
func TestFilesOfBoth(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		told string // lines of events
		seen wire.Events
		want wire.Events
	}{
		{"nothing", "", wire.Events{}, wire.Events{}},
		{"both the same", "W/a\nD/b\nM/c\nR/d\n", wire.Events{FilesWritten: []string{"/a"}, FilesDeleted: []string{"/b"}, DirsMade: []string{"/c"}, FilesRead: []string{"/d"}},
			wire.Events{FilesWritten: []string{"/a"}, FilesDeleted: []string{"/b"}, DirsMade: []string{"/c"}, FilesRead: []string{"/d"}}},
		{"each its own", "W/a\nD/b\nM/c\nR/d\n", wire.Events{FilesWritten: []string{"/1", "/a"}, FilesDeleted: []string{"/2"}, DirsMade: []string{"/3"}, FilesRead: []string{"/4"}},
			wire.Events{FilesWritten: []string{"/a", "/1"}, FilesDeleted: []string{"/b", "/2"}, DirsMade: []string{"/c", "/3"}, FilesRead: []string{"/d", "/4"}}},
		{"untidy in the hook", "W/w//a/./b\nA/w/./c/\n", wire.Events{FilesWritten: []string{"/w/a/b", "/w/c"}}, wire.Events{FilesWritten: []string{"/w//a/./b", "/w/./c/"}}},
		{"twice in the hook", "W/a\nW/./a\nA/a\n", wire.Events{FilesWritten: []string{"/a"}}, wire.Events{FilesWritten: []string{"/a"}}},
		{"the directory above", "W/w/d/../a\n", wire.Events{FilesWritten: []string{"/w/d/../a", "/w/a"}}, wire.Events{FilesWritten: []string{"/w/d/../a", "/w/a"}}},
		{"written and deleted", "W/a\n", wire.Events{FilesWritten: []string{"/a"}, FilesDeleted: []string{"/a"}}, wire.Events{FilesWritten: []string{"/a"}, FilesDeleted: []string{"/a"}}},
		{"a directory that the hook does not know", "W?/a\nW?/b\n", wire.Events{FilesWritten: []string{"/w/xa", "/w/d/a", "/v/a"}}, wire.Events{FilesWritten: []string{"/w/d/a", "?/b", "/w/xa", "/v/a"}}},
		{"a name that the hook has cut", "W/long…\nW/own…\n", wire.Events{FilesWritten: []string{"/other", "/longer than that", "/own…"}}, wire.Events{FilesWritten: []string{"/longer than that", "/own…", "/other"}}},
		{"bytes that are not UTF-8", `W/\udcff\u00e4` + "\n", wire.Events{FilesWritten: []string{"/\xffä", "/\xff\xff"}}, wire.Events{FilesWritten: []string{"/\uFFFDä", "/\uFFFD\uFFFD"}}},
		{"a newline", `W/a\nb` + "\n", wire.Events{FilesWritten: []string{"/a\nb"}}, wire.Events{FilesWritten: []string{"/a\nb"}}},
		{"could not be read", "W/a\n", wire.Events{FilesWritten: []string{"?"}}, wire.Events{FilesWritten: []string{"/a", "?"}}},
		{"connections without room", "", wire.Events{Dropped: 3}, wire.Events{Dropped: 3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &Session{memory: make([]byte, eventsSize), childEvents: []byte(tt.told)}
			if got, want := inFiles(s.Events(nil, tt.seen)), inFiles(tt.want); got != want {
				t.Errorf("\n%swant\n%s", got, want)
			}
			if tt.told != "" {
				return
			}
			if got, want := inFiles(KernelEvents(tt.seen)), inFiles(tt.want); got != want {
				t.Errorf("without a hook:\n%swant\n%s", got, want)
			}
		})
	}
}

// Of many files each counts once, however many of them the hook and the kernel had room for.
func TestManyFilesOfBoth(t *testing.T) {
	t.Parallel()
	const kernelRoom = 4000
	tests := []struct {
		name              string
		own, others       int  // written by Python, and by a child program
		othersFirst, hook bool // the hook is there
	}{
		{"few of both", 30, 30, false, true},
		{"more than are named", 150, 200, false, true},
		{"of Python alone", 9000, 0, false, true},
		{"of a child alone", 0, 9000, false, true},
		{"of Python, then of a child", 5000, 5000, false, true},
		{"of a child, then of Python", 5000, 5000, true, true},
		{"without a hook", 5000, 3000, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			names := func(who string, n int) (list []string) {
				for i := range n {
					list = append(list, fmt.Sprintf("/%s%d", who, i))
				}
				return list
			}
			own, others := names("own", tt.own), names("other", tt.others)
			all := slices.Concat(own, others)
			if tt.othersFirst {
				all = slices.Concat(others, own)
			}
			kept := min(len(all), kernelRoom)
			seen := wire.Events{FilesWritten: all[:kept], FilesDropped: len(all) - kept}
			e := KernelEvents(seen)
			if tt.hook {
				told := own[:min(len(own), distinct)]
				s := &Session{memory: make([]byte, eventsSize)}
				copy(s.memory[textOffset:], "W"+strings.Join(told, "\nW")+"\n")
				if len(told) == 0 {
					s.memory[textOffset] = 0
				}
				noRoom := len(own) - len(told)
				s.memory[0], s.memory[1] = byte(noRoom), byte(noRoom>>8)
				e = s.Events(nil, seen)
			}
			if n := len(e.FilesWritten); n != min(len(all), mostFiles) || n+e.Dropped != len(all) {
				t.Errorf("%d named, %d dropped, of %d", n, e.Dropped, len(all))
			}
		})
	}
}

// inFiles writes what is about files.
func inFiles(e wire.Events) string {
	return fmt.Sprintf("written %q\ndeleted %q\nmade %q\nread %q\ndropped %d\n", e.FilesWritten, e.FilesDeleted, e.DirsMade, e.FilesRead, e.Dropped)
}

// With the wish the hook notes what is read, but for what the import system reads.
func TestReads(t *testing.T) {
	t.Parallel()
	const program = `import colorsys, os
open("in", "w").close()
open("in").close(); os.close(os.open("in", os.O_RDONLY)); os.close(os.open(".", os.O_RDONLY | os.O_DIRECTORY))
try: open("none")
except OSError: pass
`
	inEach(t, func(t *testing.T, ip Interpreter) {
		for _, wanted := range []bool{true, false} {
			job := code(program)
			job.Reads = wanted
			tr := try(t, ip, job)
			want := []string{tr.dir + "/in", tr.dir + "/none"}
			if !wanted {
				want = nil
			}
			if got := tr.events.FilesRead; !slices.Equal(got, want) {
				t.Errorf("wanted %t: %q, want %q", wanted, got, want)
			}
		}
	})
}
