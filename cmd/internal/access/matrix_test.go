package access

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// The second implementation of the rules is written from their description alone: it collects what
// somebody is given, and takes away what is not to be had. It shares no function with the first.

var matrixNow = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

// A scene is a policy with a user named subject, whose roles are bits: 1 executor, 2 script-admin,
// 4 auditor.
type scene struct {
	roles    int
	byGroup  bool // the roles come from the group g, in which subject always is
	disabled bool
	system   bool
}

// A call is how somebody comes to py3run in a scene.
type call struct {
	name   string
	key    string // of whom: subject or gateway; empty: none
	cap    int    // of the key, as bits; -1: none
	assert string // of the key: may-assert, comma between
	state  string // of the key: expired, revoked, wrong, unknown, checksum, junk; empty: good
	names  string // the user in the request
	osUser string
	uid    int
}

const policyOwner = 1234

func rolesOfBits(bits int) (list []string) {
	for i, r := range []string{"python3-executor", "script-admin", "auditor"} {
		if bits&(1<<i) != 0 {
			list = append(list, `"`+r+`"`)
		}
	}
	return list
}

// policyOf writes the policy of a scene for a call, and returns the key to present.
func policyOf(t testing.TB, s scene, c call) (*Policy, string) {
	var b strings.Builder
	b.WriteString("version = 1\n")
	own, group := "["+strings.Join(rolesOfBits(s.roles), ", ")+"]", "[]"
	if s.byGroup {
		own, group = "[]", own
	}
	fmt.Fprintf(&b, "[group.g]\nroles = %s\n[group.h]\n[user.subject]\nroles = %s\ngroups = [\"g\"]\nos-user = \"subject-os\"\ndisabled = %v\n", group, own, s.disabled)
	b.WriteString("[user.gateway]\nroles = [\"python3-executor\"]\nos-user = \"gateway-os\"\n[user.other]\nroles = [\"python3-executor\"]\n[user.plain-name]\n")
	id, key := NewKey()
	if c.key != "" && c.state != "unknown" && c.state != "junk" {
		hash := HashKey(key)
		if c.state == "wrong" {
			_, another := NewKey()
			hash = HashKey(another)
		}
		fmt.Fprintf(&b, "[key.%s]\nuser = %q\nsha256 = %q\ncreated = 2026-01-01T00:00:00Z\n", id, c.key, hash)
		switch c.state {
		case "expired":
			b.WriteString("expires = 2026-12-01T12:00:00Z\n") // this very moment
		case "revoked":
			b.WriteString("revoked = 2030-01-01T00:00:00Z\n")
		default:
			b.WriteString("expires = 2026-12-01T12:00:01Z\n")
		}
		if c.cap >= 0 {
			fmt.Fprintf(&b, "roles = [%s]\n", strings.Join(rolesOfBits(c.cap), ", "))
		}
		if c.assert != "" {
			fmt.Fprintf(&b, "may-assert = [\"%s\"]\n", strings.ReplaceAll(c.assert, ",", `", "`))
		}
	}
	p := mustParse(t, b.String())
	p.System, p.owner = s.system, policyOwner
	switch {
	case c.key == "":
		key = ""
	case c.state == "junk":
		key = "secret"
	case c.state == "checksum":
		key = key[:len(key)-1] + map[bool]string{true: "a", false: "b"}[key[len(key)-1] != 'a']
	}
	return p, key
}

// facts are what the second implementation knows of somebody.
type facts struct {
	refused  bool // before anything is asked
	name     string
	proved   bool
	bits     int
	groups   []string
	operator bool
	barred   bool // may not run code although nothing is proved
	ownRuns  bool // sees runs of its name
}

// secondIdentity says who somebody is, by the description.
func secondIdentity(s scene, c call) facts {
	root := c.uid == 0 || !s.system && c.uid == policyOwner
	if c.key != "" {
		if c.state != "" || c.key == "subject" && s.disabled {
			return facts{refused: true}
		}
		cap := c.cap
		if cap < 0 {
			cap = 7
		}
		target := c.key
		if c.names != "" && c.names != c.key {
			target = c.names
			list := strings.Split(c.assert, ",")
			byStar := slices.Contains(list, "*")
			byName := slices.Contains(list, target) || target == "subject" && slices.Contains(list, "group:g")
			switch target {
			case "subject":
				if s.disabled || !byName && (!byStar || s.roles >= 2) {
					return facts{refused: true}
				}
			case "other":
				if !byName && !byStar {
					return facts{refused: true}
				}
			default:
				return facts{refused: true}
			}
		}
		f := facts{name: target, proved: true, ownRuns: true, bits: 1 & cap}
		if target == "subject" {
			f.bits, f.groups = s.roles&cap, []string{"g"}
		}
		return f
	}
	subjectBarred := s.disabled || s.roles&1 == 0
	f := facts{name: c.osUser, operator: root}
	switch c.osUser {
	case "subject-os":
		if s.disabled {
			return facts{refused: true}
		}
		f = facts{name: "subject", proved: true, ownRuns: true, bits: s.roles, groups: []string{"g"}, operator: root, barred: subjectBarred}
	case "gateway-os":
		f = facts{name: "gateway", proved: true, ownRuns: true, bits: 1, operator: root}
	case "subject": // the name of a policy user that is another user of the system
		if s.disabled {
			return facts{refused: true}
		}
		f.barred = subjectBarred
	case "plain-name":
		f.barred = true
	case "":
		f.name = "anonymous"
	default:
		f.ownRuns = true
	}
	if c.names == "" {
		return f
	}
	if c.names == "subject" && s.disabled {
		return facts{refused: true}
	}
	barred := f.barred || c.names == "subject" && subjectBarred || c.names == "plain-name"
	return facts{name: c.names, barred: barred}
}

// secondRules says whether that is allowed, by the description.
func secondRules(f facts, a Action, o Object) bool {
	executor, admin, auditor := f.proved && f.bits&1 != 0, f.proved && f.bits&2 != 0, f.proved && f.bits&4 != 0
	runs := executor || !f.proved && !f.barred
	given := map[Action]bool{}
	give := func(actions ...Action) {
		for _, a := range actions {
			given[a] = true
		}
	}
	switch o.Kind {
	case AdHocCode:
		give(ToRun)
	case StoredScript:
		if admin || f.operator {
			give(ToRun, ToRead, ToWrite, ToDelete, ToShare, ToManage)
		}
		if f.proved && o.Owner == f.name {
			give(ToRun, ToRead, ToWrite, ToDelete, ToShare)
		}
		for _, s := range o.Shares {
			if f.proved && (s.With == f.name || strings.HasPrefix(s.With, "group:") && slices.Contains(f.groups, s.With[6:])) {
				give(s.Actions...)
			}
		}
		if o.Public && runs {
			give(ToRun, ToRead)
		}
	case PastRun:
		if f.ownRuns && o.Owner == f.name || auditor || admin || f.operator {
			give(ToRead, ToList, ToSeeHistory)
		}
		if f.ownRuns && o.Owner == f.name || admin || f.operator {
			give(ToManage)
		}
	case ThePolicy:
		if admin || f.operator {
			give(ToManage)
		}
		if admin || f.operator || auditor {
			give(ToRead, ToList)
		}
	}
	if !runs {
		delete(given, ToRun)
	}
	if o.Kind == StoredScript {
		given[ToList] = given[ToRead] || given[ToRun]
		given[ToSeeHistory] = given[ToRead]
	}
	return given[a]
}

var matrixActions = []Action{ToRun, ToRead, ToWrite, ToDelete, ToShare, ToList, ToSeeHistory, ToManage, "no-such-action", ""}

func matrixObjects() (list []Object) {
	list = append(list, Object{Kind: AdHocCode}, Object{Kind: ThePolicy}, Object{}, Object{Kind: "no-such-kind"})
	owners := []string{"", "subject", "other", "gateway", "plain-name", "nobody-os", "stranger"}
	for _, owner := range owners {
		list = append(list, Object{Kind: PastRun, Owner: owner})
		for _, public := range []bool{false, true} {
			list = append(list, Object{Kind: StoredScript, Name: "s", Owner: owner, Public: public})
			for _, with := range []string{"subject", "other", "group:g", "group:h", "g", "group:", "stranger"} {
				for bits := 1; bits < 8; bits++ {
					var actions []Action
					for i, a := range []Action{ToRun, ToRead, ToWrite} {
						if bits&(1<<i) != 0 {
							actions = append(actions, a)
						}
					}
					list = append(list, Object{Kind: StoredScript, Name: "s", Owner: owner, Public: public, Shares: []Share{{With: with, Actions: actions}}})
				}
			}
		}
	}
	return list
}

func matrixCalls() (list []call) {
	for cap := -1; cap < 8; cap++ {
		list = append(list, call{name: "own key", key: "subject", cap: cap, osUser: "gateway-os", uid: 0})
		list = append(list, call{name: "own key, own name", key: "subject", cap: cap, names: "subject", osUser: "x"})
		for _, assert := range []string{"", "*", "subject", "group:g", "group:h", "other", "other,*"} {
			list = append(list, call{name: "gateway names subject", key: "gateway", cap: cap, assert: assert, names: "subject", uid: 5})
		}
	}
	for _, assert := range []string{"", "*", "other", "group:g"} {
		list = append(list, call{name: "gateway names other", key: "gateway", cap: -1, assert: assert, names: "other", uid: policyOwner})
		list = append(list, call{name: "gateway names stranger", key: "gateway", cap: -1, assert: assert, names: "stranger", uid: 0})
		list = append(list, call{name: "subject names other", key: "subject", cap: -1, assert: assert, names: "other", uid: 0})
	}
	for _, state := range []string{"expired", "revoked", "wrong", "unknown", "checksum", "junk"} {
		for _, osUser := range []string{"subject-os", "nobody-os"} {
			list = append(list, call{name: "bad key: " + state, key: "subject", cap: -1, state: state, osUser: osUser, uid: 0})
			list = append(list, call{name: "bad key: " + state, key: "gateway", cap: -1, assert: "*", state: state, names: "other", osUser: osUser, uid: 0})
		}
	}
	for _, osUser := range []string{"subject-os", "gateway-os", "subject", "plain-name", "nobody-os", ""} {
		for _, uid := range []int{0, policyOwner, 4711} {
			for _, names := range []string{"", "subject", "other", "plain-name", "stranger", "nobody-os"} {
				list = append(list, call{name: "no key", osUser: osUser, uid: uid, names: names})
			}
		}
	}
	return list
}

func matrixScenes() (list []scene) {
	for roles := range 8 {
		for bits := range 8 {
			list = append(list, scene{roles, bits&1 != 0, bits&2 != 0, bits&4 != 0})
		}
	}
	return list
}

func TestMatrix(t *testing.T) {
	t.Parallel()
	objects := matrixObjects()
	questions, granted, wrong := 0, 0, 0
	stride := 61 // of the objects, another one in turn, for two of five ways to call: everything takes a minute
	if os.Getenv("PY3RUN_TEST_LONG") != "" {
		stride = 1
	}
	turn := 0
	for _, s := range matrixScenes() {
		for _, c := range matrixCalls() {
			if turn++; stride > 1 && turn%5 > 1 {
				continue
			}
			p, key := policyOf(t, s, c)
			g, denied := p.Identify(Claim{Key: key, User: c.names, OSUID: c.uid, OSUser: c.osUser, At: matrixNow})
			want := secondIdentity(s, c)
			if (denied != nil) != want.refused {
				t.Errorf("%+v, %+v: denied %v, want %v", s, c, denied, want.refused)
				continue
			}
			if denied != nil {
				if denied.Code == "" || denied.Message == "" || c.state != "" && denied.Told || g.User != "" || g.Known || g.Operator {
					t.Fatalf("%+v, %+v: %+v, %+v", s, c, denied, g)
				}
				continue
			}
			if g.User != want.name || g.Known != want.proved || g.Operator != want.operator {
				t.Fatalf("%+v, %+v: %+v, want %+v", s, c, g, want)
			}
			for i := turn % stride; i < len(objects); i += stride {
				o := objects[i]
				for _, a := range matrixActions {
					questions++
					d := p.Can(g, a, o)
					if d.Allowed {
						granted++
					}
					if d.Rule == "" || d.Allowed != secondRules(want, a, o) {
						t.Errorf("%+v, %+v: %s %+v: %+v, want %v", s, c, a, o, d, !d.Allowed)
						if wrong++; wrong > 5 {
							t.FailNow()
						}
					}
				}
			}
		}
	}
	t.Logf("%d questions, %d granted", questions, granted)
	if granted == 0 || granted == questions {
		t.Error("the matrix tests nothing")
	}
}

// Without a policy everybody may do everything, and no key is accepted.
func TestNoPolicy(t *testing.T) {
	t.Parallel()
	var p *Policy
	_, key := NewKey()
	if g, d := p.Identify(Claim{Key: key, OSUser: "x"}); d == nil || d.Code != NoPolicy || d.Told || g.User != "" {
		t.Errorf("%+v, %+v", g, d)
	}
	for _, c := range []struct {
		claim Claim
		want  Grant
	}{
		{Claim{OSUser: "x", OSUID: 5}, Grant{User: "x", Method: ByOSUser}},
		{Claim{OSUser: "root"}, Grant{User: "root", Method: ByOSUser, Operator: true}},
		{Claim{OSUser: "root", User: "alice"}, Grant{User: "alice", Method: ByClaim}},
		{Claim{OSUID: 5}, Grant{User: "anonymous", Method: Anonymous}},
	} {
		g, d := p.Identify(c.claim)
		if d != nil || fmt.Sprint(g) != fmt.Sprint(c.want) {
			t.Errorf("%+v: %+v, %v, want %+v", c.claim, g, d, c.want)
		}
		for _, a := range matrixActions {
			if d := p.Can(g, a, Object{Kind: StoredScript, Owner: "bob"}); d != (Decision{true, "policy.none"}) {
				t.Errorf("%s: %+v", a, d)
			}
		}
		if p.LimitsFor(g, "RESTRICTED") != nil {
			t.Error("limits without a policy")
		}
	}
}

// Roles and groups that nobody has proved give nothing.
func TestUnprovedRoles(t *testing.T) {
	t.Parallel()
	p := mustParse(t, sample)
	g := Grant{User: "carol", Method: ByClaim, Roles: Roles, Groups: []string{"operators"}}
	for _, o := range matrixObjects() {
		for _, a := range matrixActions {
			if d := p.Can(g, a, o); d.Allowed {
				t.Errorf("%s %+v: %+v", a, o, d)
			}
		}
	}
}

// What is told, and what only the record has.
func TestDenials(t *testing.T) {
	t.Parallel()
	p := mustParse(t, sample)
	id, key := NewKey()
	k := Key{ID: id, User: "gateway-a", SHA256: HashKey(key), MayAssert: []string{"*", "alice"}}
	hints := map[string]string{MayNotAssert: "key." + id + ".may-assert", UnknownUser: "user add", DisabledUser: "user enable dave", AssertedAdmin: "has to name"}
	set := func(change func(*Key)) func() {
		return func() { k := k; change(&k); p.Keys[id] = k }
	}
	for _, tt := range []struct {
		name  string
		setup func()
		claim Claim
		want  Denial // Message is a part of it
	}{
		{"form", nil, Claim{Key: "x"}, Denial{Code: MalformedKey, Message: "not of the form"}},
		{"checksum", nil, Claim{Key: key[:62] + "~"}, Denial{Code: MalformedKey, Message: "not of the form"}},
		{"unknown", func() { delete(p.Keys, id) }, Claim{Key: key}, Denial{Code: UnknownKey, Message: "no API key " + id, KeyID: id}},
		{"secret", set(func(k *Key) { k.SHA256 = strings.Repeat("0", 64) }), Claim{Key: key}, Denial{Code: WrongKey, Message: "secret", KeyID: id, User: "gateway-a"}},
		{"revoked and expired", set(func(k *Key) { k.Revoked, k.Expires = matrixNow, matrixNow }), Claim{Key: key}, Denial{Code: RevokedKey, Message: "revoked at 2026-12-01T12:00:00Z", KeyID: id, User: "gateway-a"}},
		{"expired", set(func(k *Key) { k.Expires = matrixNow }), Claim{Key: key}, Denial{Code: ExpiredKey, Message: "expired at", KeyID: id, User: "gateway-a"}},
		{"disabled", set(func(k *Key) { k.User = "dave" }), Claim{Key: key}, Denial{Code: DisabledUser, Message: "dave", KeyID: id, User: "dave"}},
		{"an admin by star", set(func(*Key) {}), Claim{Key: key, User: "bob"}, Denial{Code: AssertedAdmin, Message: "may not run code for", KeyID: id, User: "bob", Told: true}},
		{"an auditor by star", set(func(*Key) {}), Claim{Key: key, User: "carol"}, Denial{Code: AssertedAdmin, Message: "may not run code for", KeyID: id, User: "carol", Told: true}},
		{"unknown by star", set(func(*Key) {}), Claim{Key: key, User: "mallory"}, Denial{Code: UnknownUser, Message: "may not run code for", KeyID: id, User: "mallory", Told: true}},
		{"disabled by star", set(func(*Key) {}), Claim{Key: key, User: "dave"}, Denial{Code: DisabledUser, Message: "may not run code for", KeyID: id, User: "dave", Told: true}},
		{"nobody", set(func(k *Key) { k.MayAssert = nil }), Claim{Key: key, User: "alice"}, Denial{Code: MayNotAssert, Message: "may not run code for", KeyID: id, User: "alice", Told: true}},
		{"unknown, and no star", set(func(k *Key) { k.MayAssert = []string{"alice"} }), Claim{Key: key, User: "mallory"}, Denial{Code: MayNotAssert, Message: "may not run code for", KeyID: id, User: "mallory", Told: true}},
	} {
		if tt.setup != nil {
			tt.setup()
		}
		tt.claim.At = matrixNow
		g, d := p.Identify(tt.claim)
		if d == nil || g.User != "" || d.Code != tt.want.Code || d.KeyID != tt.want.KeyID || d.User != tt.want.User || d.Told != tt.want.Told || !strings.Contains(d.Message, tt.want.Message) || strings.Contains(d.Message, key) {
			t.Errorf("%s: %+v, %+v", tt.name, g, d)
		}
		if d.Told && (d.Holder != "gateway-a" || !strings.Contains(d.Hint, hints[d.Code])) {
			t.Errorf("%s: holder %s, hint %q", tt.name, d.Holder, d.Hint)
		}
	}
	g := p.GrantOf("alice")
	d := p.Can(g, ToDelete, Object{Kind: StoredScript, Name: "s", Owner: "bob"})
	if no := d.Denial(g, ToDelete, Object{Kind: StoredScript, Name: "s"}); no.Code != NotAllowed || no.Message != "delete script s: not allowed for the user alice" {
		t.Errorf("%+v", no)
	}
	g = p.GrantOf("carol")
	if no := p.Can(g, ToRun, Object{Kind: AdHocCode}).Denial(g, ToRun, Object{Kind: AdHocCode}); no.Code != MissingRole || !strings.Contains(no.Hint, "--add-role python3-executor") {
		t.Errorf("%+v", no)
	}
}

// A role that the key takes away is not repaired by giving the user that role.
func TestCappedKey(t *testing.T) {
	t.Parallel()
	p := mustParse(t, sample)
	id, key := NewKey()
	p.Keys[id] = Key{ID: id, User: "alice", SHA256: HashKey(key), Roles: []Role{Auditor}}
	g, denied := p.Identify(Claim{Key: key})
	if denied != nil {
		t.Fatal(denied)
	}
	o := Object{Kind: AdHocCode}
	no := p.Can(g, ToRun, o).Denial(g, ToRun, o)
	if want := "run code: the API key " + id + " of the user alice gives no role, and not the role python3-executor"; no.Message != want || !strings.Contains(no.Hint, "key create alice --role python3-executor") {
		t.Errorf("%+v", no)
	}
}
