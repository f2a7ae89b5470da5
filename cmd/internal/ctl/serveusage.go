package ctl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/store"
	"py3run/cmd/internal/web"
	"py3run/cmd/internal/wire"
)

// actor is who the visitor is to the policy. Who started the pages and owns the log has none so far: for
// what is not the log's, the operating system says who that is.
func (v visitor) actor() (actor, error) {
	if v.who != nil {
		return *v.who, nil
	}
	return v.app.actor()
}

// RunningNow counts the runs that are alive.
func (v visitor) RunningNow() (n int, err error) {
	runs, err := v.live()
	for _, run := range runs {
		if v.only == "" || run.Start.User.Name == v.only {
			n++
		}
	}
	return n, err
}

// recordsAt reads single records, in the order of their places. One that is gone meanwhile is zero.
func (d logContext) recordsAt(places []store.RecordPlace) ([]audit.Record, error) {
	list := make([]audit.Record, len(places))
	if len(places) == 0 {
		return list, nil
	}
	r, err := audit.OpenReader(d.dir)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	for i, p := range places {
		line, err := r.At(p.Place)
		if gone := new(audit.PlaceError); errors.As(err, &gone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if rec, err := line.Record(); err == nil {
			list[i] = rec
		}
	}
	return list, nil
}

// alertsMost is how many of the newest alerts the overview looks at.
const alertsMost = 1000

// OpenAlerts counts the alerts that nobody has acknowledged.
func (v visitor) OpenAlerts(index *store.Index) (found web.OpenAlerts, err error) {
	alerts, more, err := index.Records(store.RecordQuery{Actions: []audit.Action{audit.Alerted}, Owner: v.only, Limit: alertsMost})
	if err != nil {
		return found, err
	}
	acknowledged, err := v.Acknowledgements(index)
	if err != nil {
		return found, err
	}
	found.More, found.Rules = more > 0, map[string]int{}
	for _, a := range alerts {
		if acknowledged(a) == nil {
			found.Open++
			found.Rules[a.Reason]++
		}
	}
	return found, nil
}

// Trust reads the newest checkpoint and a few records. What it says of the log is no verification.
func (v visitor) Trust(index *store.Index) (t web.Trust, err error) {
	t = web.Trust{Auditing: v.config.Security.Audit.Enabled, RetentionDays: v.config.Security.Audit.RetentionDays}
	pruned, _, err := index.Records(store.RecordQuery{Actions: []audit.Action{audit.AuditRetention}, Limit: 1})
	if err != nil {
		return t, err
	}
	if len(pruned) > 0 {
		t.Pruned = &pruned[0]
	}
	newest, err := v.newestCheckpoint()
	switch {
	case errors.Is(err, errNoCheckpoints):
		t.Checkpoints = "The pages know of none: start them with --checkpoints DIR --key FILE. Without one, the end of the log could be cut without a trace."
		return t, nil
	case err != nil:
		v.warn(err)
		t.Checkpoints = "The directory of the checkpoints cannot be read, or has none that a trusted key signed."
		return t, nil
	}
	t.Checkpoint = &web.Checkpoint{Seq: newest.seq, At: newest.time, Signer: newest.signer}
	t.Checkpoint.Agrees, err = v.agreement(index, newest)
	return t, err
}

// agreement compares the record that a checkpoint names with the log, where the index knows its place.
func (v visitor) agreement(index *store.Index, c checkpoint) (web.Agreement, error) {
	hash, err := v.hashOf(index, c.seq)
	switch {
	case err != nil || hash == "" || c.hash == "":
		return web.NotCompared, err
	case hash == c.hash:
		return web.Agrees, nil
	}
	return web.Differs, nil
}

// overlapping is how many runs can be under way at once before hashOf does not find the end of one.
const overlapping = 200

// hashOf is the hash of the line of a record; empty: the index does not lead to it.
func (v visitor) hashOf(index *store.Index, seq uint64) (string, error) {
	var at audit.Place
	records, _, err := index.Records(store.RecordQuery{Before: seq + 1, Limit: 1})
	if err != nil {
		return "", err
	}
	if len(records) > 0 && records[0].Seq == seq {
		at = records[0].Place
	} else {
		page, err := index.Page(store.Query{Before: seq + 1, Limit: overlapping})
		if err != nil {
			return "", err
		}
		for _, r := range page.Runs {
			switch seq {
			case r.StartSeq:
				at = r.StartAt
			case r.EndSeq:
				return r.EndHash, nil
			}
		}
	}
	if at.Seq != seq {
		return "", nil
	}
	r, err := audit.OpenReader(v.dir)
	if err != nil {
		return "", err
	}
	defer r.Close()
	line, err := r.At(at)
	if gone := new(audit.PlaceError); errors.As(err, &gone) {
		return "", nil
	}
	return line.Hash().String(), err
}

// errNoCheckpoints says that nobody has told where checkpoints are.
var errNoCheckpoints = errors.New("no directory of checkpoints is named")

// newestCheckpoint is the newest one that a trusted key has signed. The name of its file begins with the
// number of its record, so most files are not read.
func (v visitor) newestCheckpoint() (checkpoint, error) {
	with := v.common.with
	if with.checkpoints == "" {
		return checkpoint{}, errNoCheckpoints
	}
	keys, err := readKeys(with.keys)
	if err != nil {
		return checkpoint{}, err
	}
	entries, err := os.ReadDir(with.checkpoints)
	if err != nil {
		return checkpoint{}, err
	}
	err = fmt.Errorf("read checkpoints %s: there is none", with.checkpoints)
	tries := 10
	for _, e := range slices.Backward(entries) {
		if !strings.HasSuffix(e.Name(), noteSuffix) || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		text, failed := os.ReadFile(filepath.Join(with.checkpoints, e.Name()))
		if failed != nil {
			return checkpoint{}, failed
		}
		c, wrong := parseCheckpoint(text, keys)
		if wrong == nil {
			return c, nil
		}
		err = fmt.Errorf("read checkpoint %s: %w", e.Name(), wrong)
		if tries--; tries == 0 {
			break
		}
	}
	return checkpoint{}, err
}

// RunLimits are the limits at which a run ends.
func (v visitor) RunLimits() []web.RunLimit {
	s, mb := v.config.Security, float64(1<<20)
	return []web.RunLimit{
		{Key: "security.max-memory-mb", Most: s.MaxMemoryMB * mb, Unit: web.Bytes, Status: string(wire.StatusMemoryLimit)},
		{Key: "security.max-cpu-seconds", Most: s.MaxCPUSeconds, Unit: web.Seconds, Status: string(wire.StatusCPULimit)},
		{Key: "security.execution-timeout-seconds", Most: s.ExecutionTimeoutSeconds, Unit: web.Seconds, Status: string(wire.StatusTimeout)},
		{Key: "security.idle-timeout-seconds", Most: s.IdleTimeoutSeconds, Unit: web.Seconds, Status: string(wire.StatusIdleTimeout)},
		{Key: "security.max-output-size-mb", Most: s.MaxOutputSizeMB * mb, Unit: web.Bytes, Status: string(wire.StatusOutputLimit)},
		{Key: "security.max-processes", Most: float64(s.MaxProcesses), Unit: web.Pieces, Status: string(wire.StatusProcessLimit)},
		{Key: "security.max-disk-mb", Most: s.MaxDiskMB * mb, Unit: web.Bytes, Status: string(wire.StatusDiskLimit)},
	}
}

// Rates are what limits show prints. It needs to read the policy, as that does.
func (v visitor) Rates() (rates web.Rates, err error) {
	who, err := v.actor()
	if err == nil {
		err = who.may(access.ToRead, access.Object{Kind: access.ThePolicy})
	}
	if err != nil {
		return rates, toldOfPolicy(err)
	}
	all, users, notes := access.NewLimits(who.state).Usage()
	rates = web.Rates{All: all, PerMinute: v.config.Security.RateLimit.GlobalPerMinute}
	if notes.Trouble != nil {
		rates.Trouble = notes.Trouble.Error()
	}
	for _, u := range users {
		most := v.ratesFor(u, who.policy)
		next := u.Next(all, most)
		if next != nil {
			next.RetryAfter = next.RetryAfter.Round(time.Millisecond)
		}
		rates.Users = append(rates.Users, web.UserRate{Use: u, Most: most, Next: next})
	}
	return rates, nil
}
