package access

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/config"
)

func TestReadKeyFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, path string
		want, err  string
		hint       string
	}{
		{"a file", file("a", "key", 0o600), "key", "", ""},
		{"a newline", file("b", "key\n", 0o400), "key", "", ""},
		{"two newlines", file("c", "key\n\n", 0o600), "key\n", "", ""},
		{"others can read it", file("d", "key", 0o604), "", "others than its owner", "chmod 0600"},
		{"the group can", file("e", "key", 0o640), "", "others than its owner", "rotated"},
		{"empty", file("f", "\n", 0o600), "", "empty", "nothing else"},
		{"large", file("g", strings.Repeat("x", 2000), 0o600), "", "more than", "nothing else"},
		{"a pipe that nobody writes to", pipe, "", "nothing came in time", "nothing else"},
		{"a directory", dir, "", "neither", "nothing else"},
		{"none", filepath.Join(dir, "none"), "", "no such file", "exists"},
	} {
		key, err := ReadKeyFile(tt.path, 10*time.Millisecond)
		if string(key) != tt.want || (err == nil) != (tt.err == "") {
			t.Errorf("%s: %q, %v", tt.name, key, err)
			continue
		}
		if e, ok := errors.AsType[*config.Error](err); err != nil && (!ok || !strings.Contains(e.Error(), tt.err) || !strings.Contains(e.Hint, tt.hint)) {
			t.Errorf("%s: %v (%v), want %q and %q", tt.name, err, e, tt.err, tt.hint)
		}
	}
}
