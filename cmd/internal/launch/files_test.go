package launch

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

func TestTooManyFiles(t *testing.T) {
	t.Parallel()
	file := func(name string, size int) wire.File {
		return wire.File{Name: name, Content: strings.Repeat("x", size)}
	}
	const mib = 1 << 20
	for _, tt := range []struct {
		name   string
		files  []wire.File
		limits wire.Limits
		want   string // the limit and what was used, "" for none
	}{
		{"none", nil, wire.Limits{DiskMB: 1e-6}, ""},
		{"no limits", []wire.File{file("a", mib)}, wire.Limits{}, ""},
		{"as much as there is room for", []wire.File{file("a", mib)}, wire.Limits{DiskMB: 1, FileMB: 1}, ""},
		{"one byte more", []wire.File{file("a", mib+1)}, wire.Limits{DiskMB: 1}, "disk_mb 1.004"},
		{"a file that is too large", []wire.File{file("a", mib+1)}, wire.Limits{FileMB: 1, DiskMB: 9}, "file_mb 1"},
		{"together", []wire.File{file("a", mib/2), file("b", mib/2), file("c", 0)}, wire.Limits{DiskMB: 1}, "disk_mb 1.004"},
		{"directories take room", []wire.File{file("d/e/a", 0), file("d/e/b", 0), file("d/c", 0)}, wire.Limits{DiskMB: 0.016}, "disk_mb 0.02"},
		{"and each once", []wire.File{file("d/e/a", 0), file("d/e/b", 0), file("d/c", 0)}, wire.Limits{DiskMB: 0.02}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := ""
			if r := tooManyFiles(tt.files, tt.limits); r != nil {
				got = fmt.Sprint(r.failure.Limit.Name, " ", r.failure.Limit.Used)
				if r.status != wire.StatusDiskLimit || r.failure.Code != "disk_limit" || r.failure.Hint == "" {
					t.Errorf("%+v, %+v", r, r.failure)
				}
			}
			if got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// A selection enters what one of its patterns needs, and knows which patterns have chosen something.
func TestSelection(t *testing.T) {
	t.Parallel()
	request, _, err := wire.Decode([]byte(`{"code": "", "collect": ["a.txt", "out/*.csv", "out/**/x", "never"]}`))
	if err != nil {
		t.Fatal(err)
	}
	s := newSelection(request.Collect)
	if s.Enter("in") != nil {
		t.Error("entered where nothing matches")
	}
	out := s.Enter("out")
	deep := out.Enter("a").Enter("b")
	got := []bool{s.Chooses("a.txt"), s.Chooses("b.txt"), s.Chooses("x"), out.Chooses("r.csv"), out.Chooses("a.txt"), deep.Chooses("x"), deep.Chooses("r.csv")}
	if want := []bool{true, false, false, true, false, true, false}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if want := []bool{true, true, true, false}; !slices.Equal(s.hit, want) {
		t.Errorf("patterns that chose: %v, want %v", s.hit, want)
	}
}

func TestHandedWarnings(t *testing.T) {
	t.Parallel()
	got := handedWarnings(Handed{Gathered: sandbox.Gathered{Left: []sandbox.LeftOut{{Path: "a\x1b[2J\xff", Why: "a socket"}, {Path: strings.Repeat("é", 400), Why: "x"}}, Count: 5}, Missed: []string{"*.pdf"}})
	want := []string{"a\uFFFD[2J\uFFFD: a socket", strings.Repeat("é", 150) + "…: x", "and 3 more files", "*.pdf: no file matches"}
	if len(got) != len(want) {
		t.Fatalf("%q", got)
	}
	for i, w := range got {
		if w.Code != "not_collected" || w.Message != want[i] {
			t.Errorf("%+v, want %q", w, want[i])
		}
	}
}

// The hash over all files is that of what sha256sum prints for them.
func TestFilesOf(t *testing.T) {
	t.Parallel()
	if filesOf(nil) != nil {
		t.Error("no files are something")
	}
	files, want := map[string]fileSum{}, ""
	for i := range filesListed + 5 {
		name, hash := fmt.Sprintf("f%02d", i), fmt.Sprintf("%064x", i)
		files[name] = fileSum{3, hash}
		want += hash + "  " + name + "\n"
	}
	got := filesOf(files)
	if got.Count != len(files) || got.Bytes != int64(3*len(files)) || got.SHA256 != fmt.Sprintf("%x", sha256.Sum256([]byte(want))) {
		t.Errorf("%+v", got)
	}
	if len(got.List) != filesListed || got.List[1].Name != "f01" || got.List[1].Bytes != 3 {
		t.Errorf("%d entries, %+v", len(got.List), got.List)
	}
}
