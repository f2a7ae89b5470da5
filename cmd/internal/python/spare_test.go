package python

import (
	"os"
	"strings"
	"testing"

	"py3run/cmd/internal/wire"
)

// A session takes what was made ahead if it is large enough, and frees it otherwise.
func TestSpare(t *testing.T) {
	open := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	before := open()
	for i, tt := range []struct {
		spare int64 // OutputMost that it was made for
		most  int64
		code  string
		used  bool
	}{
		{1 << 20, 1 << 20, "pass", true},
		{1 << 20, 2 << 20, "pass", false},
		{2 << 20, 1 << 20, "pass", false},
		{0, 0, "pass", true},
		{1 << 20, 1 << 20, strings.Repeat("#", spareRoom), false},
	} {
		spare, err := NewSpare(tt.spare)
		if err != nil {
			t.Fatal(err)
		}
		memory := &spare.memory[0]
		s, err := OpenWorker(Job{Command: wire.CommandExecute, Code: []byte(tt.code), OutputMost: tt.most}, spare)
		if err != nil {
			t.Fatal(err)
		}
		if used := &s.memory[0] == memory; used != tt.used {
			t.Errorf("%d: used %t", i, used)
		}
		if n := int(s.word(wordRequest)); n < len(tt.code) || !strings.Contains(string(s.memory[eventsSize:eventsSize+n]), tt.code) {
			t.Errorf("%d: the request is not there", i)
		}
		if len(s.Files()) != 3 || s.Files()[0] != nil {
			t.Errorf("%d: files %v", i, s.Files())
		}
		s.Close()
		if now := open(); now != before {
			t.Errorf("%d: %d descriptors are open, %d before", i, now, before)
		}
	}
	spare, err := NewSpare(1)
	if err != nil {
		t.Fatal(err)
	}
	spare.Close()
	if now := open(); now != before {
		t.Errorf("%d descriptors are open, %d before", now, before)
	}
}
