package ctl

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/store"
	"py3run/cmd/internal/web"
)

// ReadRecord reads one record, if the visitor may see it, and says in words what it says.
func (v visitor) ReadRecord(at audit.Place) (rec audit.Record, says string, err error) {
	if rec, err = readPlace(v.dir, at); err != nil {
		return rec, "", err
	}
	if !v.seen(rec) {
		return audit.Record{}, "", visible{errors.New("this record is not yours to see"), http.StatusForbidden, "the role auditor is enough"}
	}
	_, _, words := wordsOf(rec)
	return rec, strings.Join(words, ", "), nil
}

// readPlace reads the record at a place. That it is gone, or no record, a visitor may learn.
func readPlace(dir string, at audit.Place) (rec audit.Record, err error) {
	r, err := audit.OpenReader(dir)
	if err != nil {
		return rec, err
	}
	defer r.Close()
	line, err := r.At(at)
	var gone *audit.PlaceError
	if errors.As(err, &gone) {
		return rec, visible{err, http.StatusGone, "see the page Integrity, or py3runctl audit verify"}
	}
	if err != nil {
		return rec, err
	}
	if rec, err = line.Record(); err != nil {
		return rec, visible{err, http.StatusGone, "see the page Integrity, or py3runctl audit verify"}
	}
	return rec, nil
}

// An ackBook keeps what the records of acknowledgements say, so that each is read once.
type ackBook struct {
	mu     sync.Mutex
	newest uint64                            // record that was read
	alerts map[uint64]*audit.Acknowledgement // by the record of the alert
	found  map[uint64]*audit.Acknowledgement // by the record that a finding is about
}

// update reads the acknowledgements that are new in the index.
func (b *ackBook) update(dir string, index *store.Index) error {
	if b.alerts == nil {
		b.alerts, b.found = map[uint64]*audit.Acknowledgement{}, map[uint64]*audit.Acknowledgement{}
	}
	var fresh []store.RecordPlace // newest first
	for q := (store.RecordQuery{Actions: []audit.Action{audit.AuditAcknowledged}, Limit: 500}); ; {
		list, next, err := index.Records(q)
		if err != nil {
			return err
		}
		for _, p := range list {
			if p.Seq <= b.newest {
				next = 0
				break
			}
			fresh = append(fresh, p)
		}
		if next == 0 {
			break
		}
		q.Before = next
	}
	for i := len(fresh) - 1; i >= 0; i-- {
		rec, err := readPlace(dir, fresh[i].Place)
		if told := new(visible); err != nil && !errors.As(err, told) {
			return err
		}
		if a := rec.Ack; err == nil && a != nil && a.ID != "" {
			b.found[a.Seq] = rec.Acknowledgement()
		} else if err == nil && a != nil {
			b.alerts[a.Alert] = rec.Acknowledgement()
		}
		b.newest = fresh[i].Seq
	}
	return nil
}

// of is who has looked into an alert. What tampering is about, verify finds, too.
func (b *ackBook) of(p store.RecordPlace, about func() uint64) *audit.Acknowledgement {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.alerts[p.Seq]; a != nil || p.Reason != ruleTampering || len(b.found) == 0 {
		return a
	}
	return b.found[about()]
}

// Acknowledgements returns a function that says who has looked into an alert.
func (v visitor) Acknowledgements(index *store.Index) (func(store.RecordPlace) *audit.Acknowledgement, error) {
	b := &v.common.acks
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.update(v.dir, index); err != nil {
		return nil, err
	}
	return func(p store.RecordPlace) *audit.Acknowledgement {
		return b.of(p, func() uint64 {
			if rec, err := readPlace(v.dir, p.Place); err == nil && rec.Alert != nil {
				return rec.Alert.Seq
			}
			return 0
		})
	}, nil
}

// Acknowledge records that the visitor has looked into an alert or a finding, as audit acknowledge does.
func (v visitor) Acknowledge(what audit.Acknowledged) (*audit.Acknowledgement, error) {
	if err := v.may(access.ToSeeHistory, allRuns); err != nil {
		return nil, told(err)
	}
	rec := v.author()
	rec.Event = audit.Event{Action: audit.AuditAcknowledged, Outcome: audit.Success}
	rec.Ack = &what
	receipt, err := v.append(rec)
	if err != nil {
		return nil, err
	}
	rec.Seq, rec.Timestamp = receipt.Seq, time.Now().UTC().Format(time.RFC3339Nano)
	a := rec.Acknowledgement()
	b := &v.common.acks
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.alerts != nil && what.Alert > 0 { // the index has the record a little later
		b.alerts[what.Alert] = a
	} else if b.found != nil && what.ID != "" {
		b.found[what.Seq] = a
	}
	return a, nil
}

// append appends one record to the log.
func (d logContext) append(rec audit.Record) (audit.Receipt, error) {
	log, err := audit.Open(d.dir)
	if err != nil {
		return audit.Receipt{}, err
	}
	defer log.Close()
	return log.Append(rec)
}

// alertRules are the rules, and what an alert by each means.
var alertRules = []web.Rule{
	{Name: ruleDenials, Meaning: "One user was refused several times within a few minutes (alerts.denials). A caller may be set up wrongly, or somebody tries what is not allowed."},
	{Name: ruleRates, Meaning: "One user has met the rate limits again and again (alerts.rate-limits). A loop may have no pause, or the limit is too low for the work."},
	{Name: ruleKeys, Meaning: "An API key was used that is unknown, expired or revoked, or whose secret is wrong (alerts.keys). See who still has it, and from where it came."},
	{Name: ruleLimits, Meaning: "Several runs of one user and script in a row ended at a limit (alerts.limits-in-a-row). The limit is too low, or the script has a fault."},
	{Name: ruleNewModule, Meaning: "A user's code has imported a flagged module for the first time (alerts.new-modules, python.flag-imports)."},
	{Name: ruleNewHost, Meaning: "A run has connected to a host to which none had connected before (alerts.new-hosts)."},
	{Name: ruleQuietHours, Meaning: "A run began in the hours in which none is expected (alerts.quiet-hours)."},
	{Name: ruleTampering, Meaning: "The log was repaired, or records do not follow each other (alerts.tampering). Verify the log on the page Integrity."},
	{Name: ruleOrphaned, Meaning: "A run has died together with its launcher, so nobody could record its end (alerts.tampering)."},
	{Name: ruleClock, Meaning: "The clock of the host has jumped (alerts.tampering): times of records before and after do not compare."},
	{Name: ruleEarly, Meaning: "Records were removed sooner than the operator's configuration allows (alerts.tampering)."},
	{Name: ruleAcknowledged, Meaning: "Somebody has acknowledged a finding or an alert (alerts.tampering)."},
	{Name: ruleHoldReleased, Meaning: "Somebody has released a legal hold (alerts.tampering): from then on its records can be removed."},
	{Name: ruleRoles, Meaning: "Roles were granted (alerts.policy)."},
	{Name: ruleAnyone, Meaning: "An API key may name any user (alerts.policy)."},
	{Name: rulePolicy, Meaning: "The policy was edited beside py3runctl (alerts.policy): nobody can say who has done it."},
	{Name: ruleLimitsFile, Meaning: "The file with the counts of the rate limits was damaged or could not be used (alerts.tampering)."},
	{Name: "limits_unusable", Meaning: "A launcher could not use the file with the counts of the rate limits: it has limited nothing. See py3runctl limits show."},
	{Name: "limits_repaired", Meaning: "A launcher has found the file with the counts of the rate limits damaged, and made it anew: counts were lost."},
	{Name: "limits_full", Meaning: "The file with the counts of the rate limits has no room for more users: some share a count."},
	{Name: ruleScript, Meaning: "A stored script is not as it was saved, and was not run (alerts.tampering)."},
}

// Rules are the rules of alerts.
func (v visitor) Rules() []web.Rule { return alertRules }
