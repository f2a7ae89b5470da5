package ctl

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/store"
	"py3run/cmd/internal/web"
)

// Segments are the files of the log.
func (v visitor) Segments() ([]audit.SegmentEntry, error) {
	r, err := audit.OpenReader(v.dir)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return r.Segments()
}

// Verify verifies the log as audit verify does.
func (v visitor) Verify(tell func(audit.Progress) error) (web.Verified, error) {
	rep, err := v.verifyTelling(v.common.with, tell)
	if err != nil {
		return web.Verified{}, err
	}
	return rep.forPages(), nil
}

// forPages is what was found, for the pages.
func (rep verified) forPages() web.Verified {
	found := web.Verified{Verdict: string(rep.verdict()), Words: rep.inWords(), First: rep.First.Seq, Last: rep.Last.Seq,
		Segments: rep.Segments, Unread: rep.Unread, Findings: rep.Findings}
	if r := rep.reach(); r != nil {
		found.Reach = r.String()
	}
	for _, n := range rep.Omitted {
		found.Omitted += n
	}
	counts := []string{fmt.Sprintf("%s in %s", counted(rep.Records, "record"), counted(len(rep.Segments), "segment")), counted(rep.Alive, "run") + " under way"}
	for _, c := range []struct {
		n    int
		what string
	}{{rep.Witnesses, "receipt"}, {rep.Code, "file"}, {rep.checkpoints, "checkpoint"}} {
		if c.n > 0 {
			counts = append(counts, counted(c.n, c.what)+" compared")
		}
	}
	found.Counts = strings.Join(counts, ", ")
	return found
}

// checkpointRows is how many checkpoints a page shows.
const checkpointRows = 50

// SignedCheckpoints are those in the directory that the server was told of.
func (v visitor) SignedCheckpoints() (all web.SignedCheckpoints, err error) {
	if err := v.may(access.ToSeeHistory, allRuns); err != nil {
		return all, told(err)
	}
	with := v.common.with
	if all.Dir = with.checkpoints; all.Dir == "" {
		return all, nil
	}
	keys, err := readKeys(with.keys)
	var list []checkpoint
	var wrong []audit.Finding
	if err == nil {
		list, wrong, err = readCheckpoints(with.checkpoints, keys)
	}
	if err != nil {
		all.Problem = err.Error()
		return all, nil
	}
	for _, f := range wrong {
		if len(all.Wrong) < checkpointRows {
			all.Wrong = append(all.Wrong, f.Message)
		}
	}
	slices.Reverse(list)
	for _, c := range list {
		if len(all.List) == checkpointRows {
			all.More = len(list) - checkpointRows
			break
		}
		all.List = append(all.List, web.SignedCheckpoint{Name: filepath.Base(c.path), Seq: c.seq, Records: c.tree.N, At: c.time, Signer: c.signer})
	}
	return all, nil
}

// Holds are the legal holds, by the file of holds and by the records that the index knows.
func (v visitor) Holds(index *store.Index) (all []web.Hold, err error) {
	if err := v.may(access.ToSeeHistory, allRuns); err != nil {
		return nil, told(err)
	}
	r, err := audit.OpenReader(v.dir)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	open, unread := r.Holds() // before the records: a hold is in the file first
	records, err := holdRecords(r, index)
	if err != nil {
		return nil, err
	}
	var list []hold
	for _, rec := range records {
		list = withHold(list, rec)
	}
	if unread == nil || errors.Is(unread, fs.ErrNotExist) {
		list = compareHolds(list, open)
	} else {
		all = append(all, web.Hold{ID: "holds.json", Problem: unread.Error()})
	}
	for _, h := range slices.Backward(list) {
		released := ""
		if h.ReleasedAt != "" {
			released = fmt.Sprintf("%s by %s: %s", v.shownTime(h.ReleasedAt), h.ReleasedBy, h.ReleasedComment)
		}
		all = append(all, web.Hold{ID: h.ID, Keeps: h.what(v.shownTime), Comment: h.Comment, By: h.By, At: h.At, Released: released, Problem: h.Problem})
	}
	slices.SortStableFunc(all, func(a, b web.Hold) int {
		return cmp.Compare(min(len(a.Released), 1), min(len(b.Released), 1))
	})
	return all, nil
}

// holdRecords are the records about holds, oldest first: those that the index knows, and those that came
// after it.
func holdRecords(r *audit.Reader, index *store.Index) (list []audit.Record, err error) {
	const lagMost = 1000 // records behind the index that are looked at
	span, err := index.Span()
	if err != nil {
		return nil, err
	}
	take := func(line audit.Line) { // newest first
		if rec, err := line.Record(); err == nil {
			list = append(list, rec)
		}
	}
	looked := 0
	for line, err := range r.Backward() {
		if looked++; err != nil || line.Seq <= span.Newest || looked > lagMost {
			break // verify reports what cannot be read
		}
		if line.Action == audit.AuditHold || line.Action == audit.AuditHoldRelease {
			take(line)
		}
	}
	for q := (store.RecordQuery{Actions: []audit.Action{audit.AuditHold, audit.AuditHoldRelease}, Limit: 500}); ; {
		found, next, err := index.Records(q)
		if err != nil {
			return nil, err
		}
		for _, p := range found {
			if line, err := r.At(p.Place); err == nil {
				take(line)
			}
		}
		if next == 0 {
			slices.Reverse(list)
			return list, nil
		}
		q.Before = next
	}
}

// AddHold puts a hold in force, as audit hold add does.
func (v visitor) AddHold(index *store.Index, f web.HoldForm) (string, error) {
	if err := v.may(access.ToSeeHistory, allRuns); err != nil {
		return "", told(err)
	}
	h := hold{Since: f.Since, Until: f.Until, User: f.User, Script: f.Script, Comment: f.Comment}
	want, err := h.wanted(time.Now().In(v.local()))
	if err != nil {
		return "", told(err)
	}
	if want.Since != "" && want.Until != "" && want.Since >= want.Until {
		return "", visible{errors.New("the hold would end before it begins"), http.StatusUnprocessableEntity, ""}
	}
	if f.Run != "" {
		page, err := index.Page(store.Query{Run: strings.ToLower(f.Run), Limit: 2})
		if err != nil {
			return "", err
		}
		if len(page.Runs) != 1 || !meansRun(strings.ToLower(f.Run), page.Runs[0].ID) {
			return "", visible{errors.New("there is no one run of this id"), http.StatusUnprocessableEntity, "want the id of a run, or its last 8 characters"}
		}
		want.Run = page.Runs[0].ID
	}
	added, err := v.putHold(want)
	return added.ID, told(err)
}

// ReleaseHold lifts a hold, as audit hold release does.
func (v visitor) ReleaseHold(id, comment string) error {
	if err := v.may(access.ToSeeHistory, allRuns); err != nil {
		return told(err)
	}
	_, err := v.releaseHold(id, comment)
	if errors.Is(err, audit.ErrNoHold) {
		return visible{errors.New("no such hold is in force"), http.StatusNotFound, ""}
	}
	return told(err)
}
