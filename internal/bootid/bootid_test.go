package bootid

import (
	"os"
	"strings"
	"testing"
)

func TestGet(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Skip(err)
	}
	if id := Get(); id == "" || id != strings.TrimSpace(string(text)) || id != Get() {
		t.Errorf("%q, want %q", id, text)
	}
}
