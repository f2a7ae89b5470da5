package access

import (
	"fmt"
	"reflect"
	"testing"
	"time"
)

// What is held of a key opens what the key opens, and no more: also after it was revoked, has expired, has
// another secret, or its user was disabled.
func TestHeldKey(t *testing.T) {
	t.Parallel()
	id, text := NewKey()
	_, other := NewKey()
	at := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	policy := func(user, key string) *Policy {
		p, findings := Parse("policy.toml", fmt.Sprintf("version = 1\n[user.alice]\nroles = [\"auditor\"]\n%s\n[key.%s]\nuser = \"alice\"\nsha256 = %q\ncreated = 2026-01-01T00:00:00Z\n%s\n", user, id, HashKey(text), key))
		if len(findings) > 0 {
			t.Fatal(findings)
		}
		return p
	}
	for name, p := range map[string]*Policy{
		"good": policy("", ""), "revoked": policy("", "revoked = 2026-02-01T00:00:00Z"), "expired": policy("", "expires = 2026-02-01T00:00:00Z"),
		"disabled": policy("disabled = true", ""), "capped": policy("", "roles = []"), "no policy": nil,
	} {
		for _, shown := range []string{text, other} {
			keyID, _, _ := ParseKey(shown)
			grant, denied := p.Identify(Claim{Key: shown, At: at, OSUser: "root"})
			held := Claim{Held: Held{keyID, HashKey(shown)}, At: at, OSUser: "root"}
			again, deniedAgain := p.Identify(held)
			if !reflect.DeepEqual(grant, again) || !reflect.DeepEqual(denied, deniedAgain) {
				t.Errorf("%s: %+v, %+v, and by its hash %+v, %+v", name, grant, denied, again, deniedAgain)
			}
			if _, ok := p.Operates(held); ok {
				t.Errorf("%s: who holds a key operates the host", name)
			}
		}
	}
	for _, held := range []Held{{ID: id}, {Hash: HashKey(text)}, {id, HashKey("")}, {id, HashKey(other)}} {
		if g, denied := policy("", "").Identify(Claim{Held: held, OSUser: "alice", At: at}); denied == nil {
			t.Errorf("%+v is %+v", held, g)
		}
	}
}
