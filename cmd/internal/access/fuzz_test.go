package access

import (
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"py3run/cmd/internal/config"
)

// Each property is one function. The fuzzing engine of Go calls it (go test -fuzz FuzzParse), and
// TestManyCases calls it with cases that a seed makes.

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)

func nameHolds(t *testing.T, name string) {
	if want := nameForm.MatchString(name) && !strings.HasSuffix(name, "\n"); ValidName(name) != want {
		t.Fatalf("name %q: %v, want %v", name, !want, want)
	}
}

var (
	keyForm     = regexp.MustCompile(`^p3r_([a-km-np-z2-9]{8})_[A-Za-z0-9_-]{43}_[0-9A-Za-z]{6}$`)
	goodID      = "k7qm2x9a"
	goodKey     = withChecksum(KeyPrefix + goodID + "_" + strings.Repeat("A", secretLength))
	keyedPolicy = strings.Replace(sample, strings.Repeat("0", 64), HashKey(goodKey), 1)
)

func withChecksum(text string) string { return text + "_" + checksum(text) }

// keyHolds says that only the one key opens anything, and that nothing else leads to another user.
func keyHolds(t *testing.T, p *Policy, key, user string) {
	id, formed, sum := ParseKey(key)
	if m := keyForm.FindStringSubmatch(key); formed && (m == nil || m[1] != id) || !formed && (id != "" || sum) {
		t.Fatalf("key %q: %q, %v, %v", key, id, formed, sum)
	}
	g, d := p.Identify(Claim{Key: key, User: user, OSUser: "alice", At: matrixNow})
	switch {
	case key == "" && d == nil && user != "":
		if g.Known || g.Roles != nil || g.Operator || g.Method != ByClaim {
			t.Fatalf("asserted %q: %+v", user, g)
		}
	case key == "" && d == nil:
		if g.User != "alice" || g.Method != ByOSUser {
			t.Fatalf("%+v", g)
		}
	case d == nil && key != goodKey:
		t.Fatalf("key %q is accepted: %+v", key, g)
	case d == nil && (!g.Known || g.KeyID != goodID || g.Holder == "" && g.User != "gateway-a" || slices.Contains(g.Roles, ScriptAdmin) || slices.Contains(g.Roles, Auditor)):
		t.Fatalf("key %q, user %q: %+v", key, user, g)
	case d != nil && (g.Known || g.User != "" || d.Code == ""):
		t.Fatalf("key %q, user %q: %+v, %+v", key, user, g, d)
	case d != nil && key == goodKey && (user == "" || user == "gateway-a" || user == "alice"):
		t.Fatalf("the key is refused: %+v", d)
	}
}

// policyHolds says that a text is refused with findings, or is a policy that keeps the rules: nobody
// has a role that the text does not spell, and the smallest change leaves everything else alone.
func policyHolds(t *testing.T, text string) (accepted bool) {
	p, findings := Parse("p", text)
	if (p == nil) == (len(findings) == 0) {
		t.Fatalf("%v, %v for\n%s", p, findings, text)
	}
	if p == nil {
		for _, f := range findings {
			if f.Problem == "" || !strings.HasPrefix(f.Where, "p") {
				t.Fatalf("finding %+v for\n%s", f, text)
			}
		}
		return false
	}
	for name, u := range p.Users {
		if !ValidName(name) || u.Name != name {
			t.Fatalf("user %q for\n%s", name, text)
		}
		g, d := p.Identify(Claim{OSUser: u.OSUser, At: matrixNow})
		switch {
		case u.OSUser == "":
		case (d != nil) != u.Disabled:
			t.Fatalf("user %q: %v for\n%s", name, d, text)
		case d == nil && g.User != name:
			t.Fatalf("user %q is %+v for\n%s", name, g, text)
		}
		for _, r := range p.RolesOf(name) {
			own := slices.Contains(u.Roles, r) || slices.ContainsFunc(u.Groups, func(g string) bool { return slices.Contains(p.Groups[g].Roles, r) })
			if !own || u.Disabled {
				t.Fatalf("user %q has the role %s for\n%s", name, r, text)
			}
		}
		if _, d := p.Identify(Claim{User: name, OSUser: "nobody-of-this-name", At: matrixNow}); (d != nil) != u.Disabled {
			t.Fatalf("asserted %q: %v for\n%s", name, d, text)
		}
		config.Tighten(config.Default(), nil, p.LimitsFor(p.GrantOf(name), "RESTRICTED"))
	}
	if same, err := rewrite(p, p); err != nil || same != text {
		t.Fatalf("%v\n%s\nfor\n%s", err, same, text)
	}
	for _, change := range []func(*Policy){
		func(q *Policy) { q.Users["new-user"] = User{Name: "new-user", Roles: []Role{Executor}} },
		func(q *Policy) {
			for _, name := range slices.Sorted(maps.Keys(q.Users)) {
				u := q.Users[name]
				u.Disabled = !u.Disabled
				q.Users[name] = u
				return
			}
		},
	} {
		want := p.clone()
		change(want)
		changed, err := rewrite(p, want)
		if refused := new(EditError); errors.As(err, &refused) {
			continue
		}
		if err != nil {
			t.Fatalf("%v for\n%s", err, text)
		}
		if q, findings := Parse("p", changed); findings != nil || !q.means(want) {
			t.Fatalf("%v\n%s\nfor\n%s", findings, changed, text)
		}
	}
	return true
}

// quickHolds says that the quick reading of a text is what the slow one makes of it, if it is one.
func quickHolds(t *testing.T, text string) (taken bool) {
	got, ok := quick(text)
	if !ok || !utf8.ValidString(text) {
		return ok
	}
	want, findings := parse("p", text)
	if findings != nil {
		t.Fatalf("taken, and the decoder says %v for\n%s", findings, text)
	}
	got.Path, got.SHA256, got.Text = want.Path, want.SHA256, want.Text
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, want %+v for\n%s", got, want, text)
	}
	return true
}

func FuzzQuick(f *testing.F) {
	f.Add(sample)
	f.Fuzz(func(t *testing.T, text string) { quickHolds(t, text) })
}

func FuzzName(f *testing.F) {
	for _, name := range []string{"", "a", "..", "a/b", "а", "a\n", "-a", strings.Repeat("a", 65)} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) { nameHolds(t, name) })
}

func FuzzKey(f *testing.F) {
	for _, key := range []string{"", goodKey, goodKey + "\n", " " + goodKey, "p3r_"} {
		f.Add(key, "alice")
	}
	p := mustParse(f, keyedPolicy)
	f.Fuzz(func(t *testing.T, key, user string) { keyHolds(t, p, key, user) })
}

func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Add("version = 1\nuser.a = { roles = ['auditor'] }\n")
	f.Fuzz(func(t *testing.T, text string) { policyHolds(t, text) })
}

// words are what a policy is made of, and what it must not be made of.
var words = []string{"version = 1\n", "[user.alice]\n", "[user.Alice]\n", "[user.\"a.b\"]\n", "[user.\"a.b\".limits]\n", "[user.\"bob\"]\n", "disabled = false\n", "version = 1 # x\n", "created = 2026-12-01T10:00:00Z\n", "[group.operators]\n", "[key.k7qm2x9a]\n", "[user.bob.limits]\n", "[profile.X]\n",
	"roles = [\"script-admin\"]\n", "roles = []\n", "roles = ['auditor', \"python3-executor\"] # x\n", "groups = [\"operators\"]\n", "disabled = true\n", "os-user = \"alice\"\n", "limits = {}\n",
	"security.max-memory-mb = 1\n", "security = { max-memory-mb = 1 }\n", "may-assert = [\n\"*\", # all\n]\n", "user.eve.roles = ['script-admin']\n", "[user]\n", "alice.roles = ['auditor']\n",
	"\"", "'", "'''", `"""`, "[", "]", "[[", "{", "}", "#", "=", ".", ",", "\n", "\r\n", "\t", "\\", "\\u0041", "\x00", "\u202e", "é", "а", "0", "-1", "1e999", "nan", "2026-01-01", "true"}

// mutated is a text with some changes.
func mutated(r *rand.Rand, text string) string {
	for range 1 + r.IntN(3)*r.IntN(2) {
		at := r.IntN(len(text) + 1)
		end := min(len(text), at+r.IntN(12))
		switch r.IntN(6) {
		case 0:
			text = text[:at] + words[r.IntN(len(words))] + text[at:]
		case 1:
			text = text[:at] + text[end:]
		case 2:
			text = text[:at] + string(rune(r.IntN(256))) + text[end:]
		case 3: // a line twice, or elsewhere
			lines := strings.SplitAfter(text, "\n")
			i, j := r.IntN(len(lines)), r.IntN(len(lines))
			lines = slices.Insert(lines, i, lines[j])
			text = strings.Join(lines, "")
		case 4: // a line less
			lines := strings.SplitAfter(text, "\n")
			i := r.IntN(len(lines))
			text = strings.Join(slices.Delete(lines, i, i+1), "")
		default: // words at the start of a line
			lines := strings.SplitAfter(text, "\n")
			text = strings.Join(slices.Insert(lines, r.IntN(len(lines)+1), words[r.IntN(len(words))]), "")
		}
	}
	return text
}

func TestManyCases(t *testing.T) {
	t.Parallel()
	cases := 20_000
	if os.Getenv("PY3RUN_TEST_LONG") != "" {
		cases = 1_000_000
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	p := mustParse(t, keyedPolicy)
	accepted, taken := 0, 0
	for i := range cases {
		switch i % 4 {
		case 0:
			nameHolds(t, mutated(r, "alice.B@x-1"))
		case 1:
			key := goodKey
			if r.IntN(3) > 0 {
				key = mutated(r, goodKey)
			}
			if r.IntN(3) == 0 { // with a checksum that is right
				at := max(0, strings.LastIndexByte(key, '_'))
				key = withChecksum(key[:at])
			}
			user := []string{"", "alice", "bob", "carol", "dave", "gateway-a", "nobody"}[r.IntN(7)]
			if r.IntN(4) == 0 {
				key = ""
			}
			keyHolds(t, p, key, user)
		default:
			text := sample
			if r.IntN(4) == 0 {
				text = ""
				for range r.IntN(12) {
					text += words[r.IntN(len(words))]
				}
				text = "version = 1\n" + text
			}
			text = mutated(r, text)
			if quickHolds(t, text) {
				taken++
			}
			if policyHolds(t, text) {
				accepted++
			}
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d of %d policies accepted, %d read quickly", accepted, cases/2, taken)
	if accepted < cases/100 || taken < cases/100 {
		t.Error("hardly any text is a policy: the cases test nothing")
	}
}
