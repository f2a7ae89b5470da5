package ctl

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"py3run/audit"
	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/store"
	"py3run/cmd/internal/wire"
)

// A filter says which runs are wanted, as the flags of the command line say it.
type filter struct {
	user, holder, key string
	client            string // IP or CIDR
	script            string // NAME or NAME@VERSION
	code              string // how the SHA-256 begins
	labels            []string
	status            string
	failed            bool
	actions           []string // of records
	since, until      string
}

// identity adds the flags about who runs what.
func (f *filter) identity(c *cobra.Command, a *app) {
	flags := c.Flags()
	flags.StringVar(&f.user, "user", "", "only of this user, asserted or not")
	flags.StringVar(&f.holder, "holder", "", "only by API keys of this `user`, whomever they were used for")
	flags.StringVar(&f.key, "key-id", "", "only by the API key with this `id`")
	flags.StringVar(&f.client, "client", "", "only of clients with this `address` or in this network, as 10.0.0.7 or 10.0.0.0/24")
	flags.StringVar(&f.script, "script", "", "only of this script: `NAME`, or NAME@VERSION")
	flags.StringVar(&f.code, "code", "", "only of the code whose `SHA-256` is this, or begins with these 8 digits or more")
	flags.StringArrayVar(&f.labels, "label", nil, "only with this label, `NAME=VALUE`; can be given several times, and all have to match")
	completeBy(c, "user", a.completeUsers)
	completeBy(c, "holder", a.completeUsers)
	completeBy(c, "key-id", a.completeKeys)
	completeBy(c, "script", a.completeOne)
}

// outcome adds the flags about how runs ended.
func (f *filter) outcome(c *cobra.Command) {
	c.Flags().StringVar(&f.status, "status", "", "only with this status: ok, error, timeout, … orphaned, denied, running")
	complete(c, "status", statuses()...)
	c.Flags().BoolVar(&f.failed, "failed", false, "only what has failed: every status but ok")
}

// recordActions are what a record can be about.
var recordActions = actionsOf(audit.ExecutionStart, audit.ExecutionEnd, audit.ExecutionDenied, audit.ExecutionOrphaned, audit.ExecutionCancel, audit.PolicyChanged,
	audit.AuditRepair, audit.AuditRetention, audit.AuditAcknowledged, audit.AuditHold, audit.AuditHoldRelease, audit.Alerted,
	audit.UserAdded, audit.UserChanged, audit.UserDisabled, audit.GroupChanged, audit.KeyCreated, audit.KeyRevoked, audit.KeyRotated,
	audit.ScriptSaved, audit.ScriptShared, audit.ScriptDeleted, audit.ScriptImported, audit.PolicyRestored, audit.ConfigChanged, audit.LimitsReset,
	audit.SessionStarted, audit.SessionEnded, audit.SessionDenied, audit.HistoryViewed, audit.CodeViewed)

func actionsOf(list ...audit.Action) (names []string) {
	for _, a := range list {
		names = append(names, string(a))
	}
	return names
}

// kinds adds the flag about what a record is about, for commands that show records.
func (f *filter) kinds(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.actions, "action", nil, "only records of this `action`, as execution-denied or user-change; can be repeated: any of them")
	complete(c, "action", recordActions...)
}

// times adds the flags about when.
func (f *filter) times(c *cobra.Command) {
	c.Flags().StringVar(&f.since, "since", "", "only since this `time`: today, yesterday, 2026-11-24, 2026-11-24T10:00:00Z, or how long ago, as 24h or 7d")
	c.Flags().StringVar(&f.until, "until", "", "only before this `time`")
}

// query is the filter as a question to a store. A time without a zone is in the zone of now.
func (f filter) query(now time.Time) (q store.Query, err error) {
	q = store.Query{User: f.user, Holder: f.holder, Key: f.key, Script: f.script, Status: f.status, Failed: f.failed, Zone: now.Location()}
	if q.Since, err = parseTime("since", f.since, now); err != nil {
		return q, err
	}
	if q.Until, err = parseTime("until", f.until, now); err != nil {
		return q, err
	}
	if err := oneOf("status", f.status, statuses()...); err != nil {
		return q, err
	}
	if at := strings.LastIndexByte(f.script, '@'); at > 0 {
		if _, err := strconv.ParseUint(f.script[at+1:], 10, 64); err == nil {
			q.Script, q.Version = f.script[:at], f.script[at+1:]
		}
	}
	if q.Client, err = parseNetwork(f.client); err != nil {
		return q, err
	}
	q.Code = strings.ToLower(f.code)
	if n := len(q.Code); n > 0 && (n < store.CodeLeast || n > 64 || strings.Trim(q.Code, "0123456789abcdef") != "") {
		return q, cli.Usagef("invalid argument %q for --code: want %d to 64 hexadecimal digits of a SHA-256", f.code, store.CodeLeast)
	}
	labels, err := wire.ParseLabels(f.labels)
	if err != nil {
		return q, cli.Usagef("invalid argument for --label: %v", err)
	}
	for i, name := range labels.Names {
		if q.Labels == nil {
			q.Labels = map[string]string{}
		}
		q.Labels[name], _ = labels.Values[i].(string)
	}
	return q, nil
}

// parseNetwork reads an address or a network. Both forms of an IPv4 address are the same.
func parseNetwork(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, nil
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		addr = addr.Unmap().WithZone("")
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	network, err := netip.ParsePrefix(s)
	if err != nil {
		return network, cli.Usagef("invalid argument %q for --client: want an address such as 10.0.0.7, or a network such as 10.0.0.0/24", s)
	}
	if bits := network.Bits() - 96; network.Addr().Is4In6() && bits >= 0 {
		network = netip.PrefixFrom(network.Addr().Unmap(), bits)
	}
	return network.Masked(), nil
}

// statuses are all that a run can have: those of results, and two that no result has.
func statuses() (list []string) {
	for _, s := range wire.Statuses() {
		list = append(list, string(s))
	}
	return append(list, store.Orphaned, store.Running)
}

// parseTime reads the time that was given for a flag: in RFC 3339, as a day (its first moment), or as
// how long ago it was: 30m, 24h, 7d. A time without a zone is in the zone of now.
func parseTime(what, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	year, month, day := now.Date()
	switch s {
	case "today":
		return time.Date(year, month, day, 0, 0, 0, 0, now.Location()), nil
	case "yesterday":
		return time.Date(year, month, day-1, 0, 0, 0, 0, now.Location()), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n >= 0 {
			return now.Add(-time.Duration(n * 24 * float64(time.Hour))), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, cli.Usagef("invalid argument %q for --%s: want today, yesterday, 2026-11-24, 2026-11-24T10:00:00Z, or how long ago, as 24h or 7d", s, what)
}

// loadZone finds the zone for days, and for times without a zone.
func loadZone(name string) (*time.Location, error) {
	if name == "" || name == "local" {
		return time.Local, nil
	}
	if strings.EqualFold(name, "utc") {
		return time.UTC, nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, cli.Usagef("invalid argument %q for --tz: want local, UTC or a name such as Europe/Berlin", name)
	}
	return zone, nil
}

// local is the zone for days and tables.
func (d logContext) local() *time.Location {
	if d.zone == nil {
		return time.Local
	}
	return d.zone
}

// shownTime is a time as JSON has it, for people: in the zone of tables. What is no time stays.
func (d logContext) shownTime(text string) string {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return text
	}
	return d.when(at)
}

// A selection says which records are wanted. The zero selection wants all.
type selection struct {
	runs         store.Query // without times
	actions      []string    // any of them; none: all
	since, until time.Time   // of the record
}

// selection is the filter for single records: each is judged by what it says itself.
func (f filter) selection(now time.Time) (selection, error) {
	q, err := f.query(now)
	if err == nil && q.Status == store.Running {
		err = cli.Usagef("invalid argument %q for --status: no record says so; py3runctl ps lists the runs that are alive", f.status)
	}
	for _, action := range f.actions {
		if err == nil && !slices.Contains(recordActions, action) {
			err = &cli.UsageError{Text: fmt.Sprintf("invalid argument %q for --action: no record has it", action), Hint: "the actions are " + strings.Join(recordActions, ", ")}
		}
	}
	s := selection{runs: q, actions: f.actions, since: q.Since, until: q.Until}
	s.runs.Since, s.runs.Until = time.Time{}, time.Time{}
	return s, err
}

// seenBy is the selection without what the caller may not see.
func (s selection) seenBy(d logContext) selection {
	s.runs.Owner = d.only
	return s
}

func (s selection) wants(line audit.Line, rec audit.Record) bool {
	return (len(s.actions) == 0 || slices.Contains(s.actions, string(rec.Event.Action))) && (s.runs.Owner == "" || ownersMaySee(rec)) && (s.since.IsZero() || !line.Time.Before(s.since)) && (s.until.IsZero() || line.Time.Before(s.until)) && s.runs.Matches(store.RunOf(rec))
}

// named is a user for people to read. A user whom only the caller has named is marked.
func named(user string, asserted bool) string {
	if user != "" && asserted {
		return user + " (asserted)"
	}
	return user
}

// noticed says by whose run a change of a file was found.
func noticed(rec audit.Record) string {
	return "found by the run of " + cmp.Or(named(rec.User.Name, store.Asserted(rec)), "somebody")
}

// scriptOf is a script for people to read.
func scriptOf(name, version string) string {
	if version != "" {
		return fmt.Sprintf("%s@%s", name, version)
	}
	return name
}
