package cli

import "testing"

func TestLoginUID(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want int // -1: nobody
	}{{"1000\n", 1000}, {"1000", 1000}, {"0", 0}, {"4294967295", -1}, {"x", -1}, {"", -1}} {
		got := -1
		if uid := parseLoginUID(tt.text); uid != nil {
			got = *uid
		}
		if got != tt.want {
			t.Errorf("%q: %d, want %d", tt.text, got, tt.want)
		}
	}
}
