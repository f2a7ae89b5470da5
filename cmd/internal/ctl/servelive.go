package ctl

import (
	"errors"
	"net/http"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/store"
	"py3run/cmd/internal/web"
)

// Live are the runs that are alive and that the visitor may see.
func (v visitor) Live() (list []web.LiveRun, unseen int, err error) {
	runs, unseen, err := v.alive()
	now := time.Now()
	for _, run := range runs {
		s := shownAlive(run, now)
		one := web.LiveRun{Run: *store.RunOf(run.Start), Limits: run.Start.Limits, Age: time.Duration(s.Age * float64(time.Second)), CPU: -1, Memory: -1, Processes: -1}
		if s.CPU != nil {
			one.CPU = time.Duration(*s.CPU * float64(time.Second))
		}
		if s.Memory != nil {
			one.Memory = *s.Memory
		}
		if s.Processes != nil {
			one.Processes = *s.Processes
		}
		if run.Cancel != nil {
			one.CancelledBy = run.Cancel.User.Name
		}
		list = append(list, one)
	}
	return list, unseen, err
}

// alive are those runs as the log has them.
func (v visitor) alive() (list []audit.LiveRun, unseen int, err error) {
	log, err := audit.OpenReader(v.dir)
	if err != nil {
		return nil, 0, err
	}
	defer log.Close()
	runs, unseen, err := log.LiveRuns()
	for _, run := range runs {
		if v.seen(run.Start) {
			list = append(list, run)
		}
	}
	if v.only != "" { // how many runs others have is none of this visitor's business
		unseen = 0
	}
	return list, unseen, err
}

// Cancel asks the launcher of a run to end it, as the command does.
func (v visitor) Cancel(id, reason string) error {
	runs, _, err := v.alive()
	if err != nil {
		return err
	}
	for _, run := range runs {
		if run.Start.RunID != id {
			continue
		}
		_, err := v.askToEnd(run, reason)
		if owner := new(ownerError); errors.As(err, &owner) {
			return visible{errors.New("the log belongs to another user of the operating system, and only that one can end its runs"), http.StatusForbidden, hint(err)}
		}
		if err := told(err); err == nil || isVisible(err) {
			return err
		}
		if log, e := audit.OpenReader(v.dir); e == nil {
			defer log.Close()
			if log.Lives(id) {
				return err
			}
		}
		break
	}
	return visible{errors.New("the run is not alive any more"), http.StatusConflict, "the history has how it ended"}
}

func isVisible(err error) bool {
	_, is := err.(web.Refusal)
	return is
}
