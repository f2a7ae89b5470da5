package access

import (
	"strings"
	"testing"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	ids := map[string]bool{}
	for range 200 {
		id, text := NewKey()
		if got, formed, sum := ParseKey(text); got != id || !formed || !sum || len(text) != 63 || ids[id] {
			t.Fatalf("%q: %q, %v, %v", text, got, formed, sum)
		}
		ids[id] = true
		if !isKey(text, HashKey(text)) || isKey(text, HashKey(text+" ")) || isKey(text, "") || isKey("", HashKey(text)) {
			t.Fatalf("%q and its hash", text)
		}
		for i := range len(text) { // any one character that is mistyped is noticed
			c := byte('a')
			if text[i] == c {
				c = 'b'
			}
			if _, formed, sum := ParseKey(text[:i] + string(c) + text[i+1:]); formed && sum {
				t.Fatalf("%q with another character at %d is accepted", text, i)
			}
		}
	}
	_, good := NewKey()
	for name, text := range map[string]string{
		"empty": "", "cut": good[:62], "longer": good + "a", "blank": " " + good[1:], "line end": good[:60] + "\n" + good[61:], "upper case": strings.ToUpper(good),
		"prefix": "p3x_" + good[4:], "id": "p3r_K7qm2x9a" + good[12:], "separator": good[:12] + "-" + good[13:], "secret": good[:20] + "+" + good[21:],
		"secret with a line end": good[:20] + "\n" + good[21:], "last bits": good[:55] + "B" + good[56:], "checksum": good[:60] + "_" + good[61:],
	} {
		if id, formed, _ := ParseKey(text); formed || id != "" {
			t.Errorf("%s: %q is formed, id %q", name, text, id)
		}
	}
	// A key with its checksum, which must never change: scanners know the form.
	const fixed = "p3r_k7qm2x9a_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	if got := checksum(fixed); got != "150vLe" {
		t.Errorf("checksum %q", got)
	}
}
