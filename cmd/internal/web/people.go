package web

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"py3run/cmd/internal/access"
	"py3run/cmd/internal/store"
)

// People is what a visitor can do with the policy: each method asks whether the visitor may read it.
type People interface {
	// Policy is the one that holds; nil: there is none.
	Policy() (*access.Policy, error)
	// PolicyChanges are the newest changes of the policy, and Before of the next.
	PolicyChanges(index *store.Index, before uint64) (list []Change, next uint64, err error)
	// Access says who may do what, or who could at a time. A time without a zone is in the zone of now.
	Access(index *store.Index, q AccessQuestion, now time.Time) (AccessAnswer, error)
}

// An AccessQuestion is what the form asks.
type AccessQuestion struct {
	Script string // empty: about code that a request brings along
	User   string // empty: about all
	At     string // empty: now
}

// An AccessAnswer says who could do what.
type AccessAnswer struct {
	At      time.Time
	Asked   []access.Action
	Users   []UserAccess
	Notes   []string // where the answer comes from, and what is not certain
	Problem string   // why there is no answer
}

// A UserAccess is what one user could do.
type UserAccess struct {
	User     string
	Roles    []access.Role
	Groups   []string
	OSUser   string
	Keys     []string // ids of those that were accepted
	Disabled bool
	May      map[string]string // action to rule
}

var peoplePages = []page{
	{"GET /people", "Users and keys", policing, (*view).people},
}

// mostPeople bounds each list.
const mostPeople = 500

// peopleData is what the page shows.
type peopleData struct {
	look
	Policy   *policyAbout // nil: there is none
	Users    []personRow
	Groups   []groupRow
	Keys     []keyRow
	Left     int // users, groups and keys that are not shown
	Question AccessQuestion
	Asked    bool
	Answer   AccessAnswer
	Changes  []Change
	Older    string
}

type policyAbout struct {
	Path, SHA256 string
	System       bool
}

type personRow struct {
	access.User
	Holds  []access.Role // with those of its groups
	Limits string
	Keys   int // accepted now
	Last   time.Time
}

type groupRow struct {
	access.Group
	Members []string
}

// A keyRow has no hash: nobody needs it to look after a key.
type keyRow struct {
	ID, User, Comment         string
	Created, Expires, Revoked time.Time
	Roles                     []access.Role
	MayAssert                 []string
	State                     Badge
	Last                      time.Time
}

func (v *view) people() error {
	policy, err := v.who.Policy()
	if err != nil {
		return err
	}
	index, err := v.server.Index()
	if err != nil {
		return err
	}
	get := func(name string) string { return strings.TrimSpace(v.params.Get(name)) }
	d := peopleData{look: v.look, Question: AccessQuestion{Script: get("script"), User: get("user"), At: get("at")}}
	if d.Asked = get("ask") != ""; d.Asked {
		if d.Answer, err = v.who.Access(index, d.Question, v.now.In(v.zone)); err != nil {
			return err
		}
	}
	if policy != nil {
		if err := v.peopleOf(policy, index, &d); err != nil {
			return err
		}
	}
	before, _ := strconv.ParseUint(v.params.Get("before"), 10, 64)
	var next uint64
	if d.Changes, next, err = v.who.PolicyChanges(index, before); err != nil {
		return err
	}
	if next > 0 {
		d.Older = address("/people", map[string][]string{"before": {strconv.FormatUint(next, 10)}}) + "#changes"
	}
	return v.show("people", d)
}

// peopleOf lists who is in a policy.
func (v *view) peopleOf(p *access.Policy, index *store.Index, d *peopleData) error {
	var users, keys map[string]time.Time
	if v.query.Owner == "" {
		var err error
		if users, err = index.LastUse(store.ByUser); err != nil {
			return err
		}
		if keys, err = index.LastUse(store.ByKey); err != nil {
			return err
		}
	}
	d.Policy = &policyAbout{p.Path, p.SHA256, p.System}
	for _, name := range slices.Sorted(maps.Keys(p.Users)) {
		row := personRow{User: p.Users[name], Holds: p.RolesOf(name), Last: users[name]}
		var limits []string
		for _, key := range row.User.Limits.Keys() {
			limits = append(limits, key+" = "+row.User.Limits.Text(key))
		}
		row.Limits = strings.Join(limits, ", ")
		d.Users = append(d.Users, row)
	}
	for _, k := range p.Keys {
		row := keyRow{ID: k.ID, User: k.User, Comment: k.Comment, Created: k.Created, Expires: k.Expires, Revoked: k.Revoked, Roles: k.Roles, MayAssert: k.MayAssert,
			State: keyState(p.Refuses(k, v.now), k, v.now), Last: keys[k.ID]}
		d.Keys = append(d.Keys, row)
		for i := range d.Users {
			if d.Users[i].Name == k.User && p.Refuses(k, v.now) == "" {
				d.Users[i].Keys++
			}
		}
	}
	slices.SortFunc(d.Keys, func(a, b keyRow) int {
		return cmp.Or(cmp.Compare(a.User, b.User), a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	for _, name := range slices.Sorted(maps.Keys(p.Groups)) {
		row := groupRow{Group: p.Groups[name]}
		for _, u := range d.Users {
			if slices.Contains(u.Groups, name) {
				row.Members = append(row.Members, u.Name)
			}
		}
		d.Groups = append(d.Groups, row)
	}
	d.Users, d.Keys, d.Groups = bound(d.Users, &d.Left), bound(d.Keys, &d.Left), bound(d.Groups, &d.Left)
	return nil
}

// bound shortens a list, and counts what is left out.
func bound[T any](list []T, left *int) []T {
	if len(list) > mostPeople {
		*left += len(list) - mostPeople
		list = list[:mostPeople]
	}
	return list
}

// soon is how long before its end a key says so.
const soon = 14 * 24 * time.Hour

// keyState is the badge of a key, by why it is not accepted.
func keyState(refused string, k access.Key, now time.Time) Badge {
	switch refused {
	case "":
		if !k.Expires.IsZero() && k.Expires.Sub(now) < soon {
			return Badge{"ends soon", "▲", "limit"}
		}
		return Badge{"active", "✓", "good"}
	case access.RevokedKey:
		return Badge{"revoked", "■", "stopped"}
	case access.ExpiredKey:
		return Badge{"expired", "⊘", "refused"}
	case access.DisabledUser:
		return Badge{"user disabled", "⊘", "refused"}
	}
	return Badge{refused, "⊘", "refused"}
}

// Roles are the names of roles.
func (d peopleData) Roles(list []access.Role) string {
	return cmp.Or(strings.Join(access.Names(list), ", "), "–")
}

// Words are names of users and groups.
func (d peopleData) Words(list []string) string { return cmp.Or(strings.Join(list, ", "), "–") }

// RunsLink is the address of a user's runs, or of those with a key.
func (d peopleData) RunsLink(name, value string) string {
	return Filter{}.With("/history", name, value)
}

// Caption says what the answer is about.
func (d peopleData) Caption() string {
	about := "run code"
	if d.Question.Script != "" {
		about = "use the script " + d.Question.Script
	}
	return fmt.Sprintf("Who could %s at %s", about, d.Exact(d.Answer.At))
}

// Rule is the rule by which a user may do something; empty: the user may not.
func (d peopleData) Rule(u UserAccess, a access.Action) string { return u.May[string(a)] }
