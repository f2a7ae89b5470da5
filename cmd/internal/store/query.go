package store

import (
	"net/netip"
	"strings"
	"time"
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

// Matches reports whether a query selects a run.
func (q Query) Matches(r *Run) bool {
	return (q.User == "" || r.User == q.User) && (q.Owner == "" || r.User == q.Owner) && (q.Holder == "" || r.keyHolder() == q.Holder) && (q.Key == "" || r.KeyID == q.Key) &&
		(q.Script == "" || r.Script == q.Script) && (q.Version == "" || r.Version == q.Version) && strings.HasPrefix(r.Code, q.Code) &&
		(q.Status == "" || r.Status == q.Status || q.Status == Running && r.Status == "") && (!q.Failed || r.Status != "" && r.Status != "ok") &&
		(q.Host == "" || r.Host == q.Host) && (q.Before == 0 || r.Place() < q.Before) &&
		(q.Since.IsZero() || !r.Started.Before(q.Since)) && (q.Until.IsZero() || r.Started.Before(q.Until)) && q.matchesRest(r)
}

// matchesRest reports what SQLite cannot tell, and the labels.
func (q Query) matchesRest(r *Run) bool {
	if q.Run != "" && !strings.HasPrefix(r.ID, q.Run) && !strings.HasSuffix(r.ID, q.Run) {
		return false
	}
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
func (q Query) hasRest() bool { return q.Run != "" || q.Client.IsValid() || q.Text != "" }

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
