package envvar

import "testing"

func TestLookup(t *testing.T) {
	t.Parallel()
	environ := []string{"HOMES=/a", "HOME", "HOME=/b=c", "HOME=/d", "EMPTY=", "=odd"}
	for name, want := range map[string]string{"HOME": "/b=c", "HOMES": "/a", "HOM": "", "EMPTY": "", "MISSING": "", "": "odd"} {
		if got := Lookup(environ, name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
