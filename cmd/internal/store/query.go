package store

import (
	"math"
	"net/netip"
	"strings"
	"time"

	"py3run/audit"
)

// A Query selects runs. An empty field selects all. [Log] asks Matches; [Index] asks SQLite for the
// same, and Matches only for what SQLite cannot tell.
type Query struct {
	User    string
	Owner   string // only runs of this user, whatever User says: others may not be seen
	Holder  string // whose API key it was, whoever the user is
	Key     string // id of the API key
	Client  netip.Prefix
	Script  string
	Version string            // of the script
	Code    string            // how the SHA-256 begins, at least CodeLeast digits
	Labels  map[string]string // all of them
	Status  string
	Failed  bool // every status but ok; what still runs has not failed

	Host string
	Text string // stands in what text says of the run; letters count without case

	Run          string         // the beginning or the end of a run's id
	Since, Until time.Time      // by the start; Until is not included
	Before       uint64         // only runs whose Place is smaller; 0: from the newest
	Limit        int            // of History, 0: none; of Page, 0: pageLimit
	Zone         *time.Location // of the days and hours of Stats; nil: UTC
}

// CodeLeast is how many digits of a SHA-256 a query has at least.
const CodeLeast = 8

// wholeRun is how long a run's id is.
const wholeRun = len("01a20d4b-0000-7000-8000-000000000000")

// Matches reports whether a query selects a run.
func (q Query) Matches(r *Run) bool {
	return (q.User == "" || r.User == q.User) && (q.Owner == "" || r.User == q.Owner) && (q.Holder == "" || r.heldBy(q.Holder)) && (q.Key == "" || r.KeyID == q.Key) &&
		(q.Script == "" || r.Script == q.Script) && (q.Version == "" || r.Version == q.Version) && strings.HasPrefix(r.Code, q.Code) &&
		(q.Run == "" || strings.HasPrefix(r.ID, q.Run) || strings.HasSuffix(r.ID, q.Run)) &&
		(q.Status == "" || r.Status == q.Status || q.Status == Running && r.Status == "") && (!q.Failed || r.Status != "" && r.Status != "ok") &&
		(q.Host == "" || r.Host == q.Host) && (q.Before == 0 || r.Place() < q.Before) &&
		(q.Since.IsZero() || !r.Started.Before(q.Since)) && (q.Until.IsZero() || r.Started.Before(q.Until)) && q.matchesRest(r)
}

// matchesRest reports what SQLite cannot tell.
func (q Query) matchesRest(r *Run) bool {
	for name, value := range q.Labels {
		if had, has := r.Labels[name]; !has || had != value {
			return false
		}
	}
	if q.Text != "" && !r.hasText(folded(q.Text)) {
		return false
	}
	if !q.Client.IsValid() {
		return true
	}
	client, err := netip.ParseAddr(r.Client)
	return err == nil && q.Client.Contains(client.Unmap().WithZone(""))
}

// hasRest reports whether there is something that SQLite cannot tell.
func (q Query) hasRest() bool { return len(q.Labels) > 0 || q.Client.IsValid() || q.Text != "" }

// folded is a text in which letters count without case.
func folded(text string) string { return strings.ToLower(text) }

// hasText reports whether a folded text stands in what people know a run by: its user, script, path, command,
// reason, labels, host, client or id.
func (r *Run) hasText(text string) bool {
	for _, s := range []string{r.User, r.Script, r.Path, r.Command, r.Reason, r.Host, r.Client, r.ID} {
		if strings.Contains(folded(s), text) {
			return true
		}
	}
	for name, value := range r.Labels {
		if strings.Contains(folded(name), text) || strings.Contains(folded(value), text) {
			return true
		}
	}
	return false
}

// ofDays reports whether the sums of days can answer the query.
func (q Query) ofDays() bool {
	return q.Run == "" && q.Holder == "" && q.Key == "" && q.Version == "" && q.Code == "" && q.Host == "" && q.Before == 0 && !q.hasRest()
}

// heldBy reports whether it was this user's key.
func (r *Run) heldBy(user string) bool {
	return r.Holder == user || r.Holder == "" && r.Auth == string(audit.AuthAPIKey) && r.User == user && !r.Asserted()
}

// names is the query for the columns that runs and days have both.
func (q Query) names(c *condition) {
	if q.User != "" {
		c.and("user = ?", q.User)
	}
	if q.Owner != "" {
		c.and("user = ?", q.Owner)
	}
	if q.Script != "" {
		c.and("script = ? AND script <> ''", q.Script)
	}
	switch q.Status {
	case "":
	case Running:
		c.and("status = '' AND status <> 'ok'")
	case "ok":
		c.and("status = 'ok'")
	default:
		c.and("status = ? AND status <> 'ok'", q.Status) // the second term lets SQLite use the partial index
	}
	if q.Failed {
		c.and("status <> '' AND status <> 'ok'")
	}
}

// runs is the query for runs, but for their times. What SQLite cannot tell is narrowed down.
func (q Query) runs(c *condition) {
	q.names(c)
	if q.Holder != "" {
		reasons := "'" + strings.Join(unproved, "','") + "'"
		c.and("(holder = ? OR holder = '' AND auth = ? AND user = ? AND NOT (status = ? AND reason IN ("+reasons+")))", q.Holder, string(audit.AuthAPIKey), q.Holder, Denied)
	}
	if q.Key != "" {
		c.and("key_id = ?", q.Key)
	}
	if q.Version != "" {
		c.and("version = ?", q.Version)
	}
	if q.Host != "" {
		c.and("host = ?", q.Host)
	}
	if q.Before > 0 {
		c.and("seq < ?", int64(min(q.Before, math.MaxInt64)))
	}
	if q.Code != "" {
		c.and("substr(code, 1, 8) = ? AND substr(code, 1, ?) = ?", q.Code[:min(len(q.Code), CodeLeast)], len(q.Code), q.Code)
	}
	if len(q.Run) == wholeRun {
		c.and("run_id = ?", q.Run)
	} else if q.Run != "" {
		c.and("(substr(run_id, 1, ?) = ? OR substr(run_id, -?) = ?)", len(q.Run), q.Run, len(q.Run), q.Run)
	}
	if q.Client.IsValid() {
		c.and("client <> ''")
	}
	for name, value := range q.Labels { // each label stands in the text just as it would stand there alone
		alone := LabelText(map[string]string{name: value})
		c.and("instr(labels, ?) > 0", alone[1:len(alone)-1])
	}
}

func (q Query) times(c *condition, since, until time.Time) {
	if !since.IsZero() {
		c.and("started >= ?", since.UnixMicro())
	}
	if !until.IsZero() {
		c.and("started < ?", until.UnixMicro())
	}
}
