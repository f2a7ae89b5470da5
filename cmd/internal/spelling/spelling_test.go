package spelling

import (
	"strings"
	"testing"
)

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"abc", "", 3}, {"", "abc", 3}, {"abc", "abc", 0},
		{"abc", "abd", 1}, {"abc", "ac", 1}, {"abc", "xabc", 1}, {"memory", "memory", 0},
		{"memroy", "memory", 2}, {"timout", "timeout", 1}, {"labels", "label", 1}, {"user", "usr", 1}, {"kitten", "sitting", 3}, {"abc", "xyz", 3},
	} {
		if got, back := Distance(tt.a, tt.b), Distance(tt.b, tt.a); got != tt.want || back != tt.want {
			t.Errorf("%q and %q: %d and %d, want %d", tt.a, tt.b, got, back, tt.want)
		}
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"memory_mb", "cpu_seconds", "Alice", "bob", "a"}
	for _, tt := range []struct {
		name, word, want string
	}{
		{"one letter less", "memory_m", "memory_mb"},
		{"another case", "ALICE", "Alice"},
		{"one letter less, in another case", "alce", "Alice"},
		{"the beginning", "cpu", "cpu_seconds"},
		{"more around it", "max_memory_mb", "memory_mb"},
		{"a third of a long word", "mempry-mp", "memory_mb"},
		{"nothing like it", "colour", ""},
		{"too short to tell", "bx", ""},
		{"a short one inside", "xayz", ""},
		{"empty", "", ""},
		{"too long to look", strings.Repeat("memory_mb", 9), ""},
	} {
		if got := Nearest(tt.word, known); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
