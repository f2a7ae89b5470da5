package web

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/store"
)

// Living is what a visitor can do with runs under way.
type Living interface {
	// Live are the runs that are alive and that the visitor may see, the oldest first. unseen is how many
	// more there are that this process cannot read.
	Live() (list []LiveRun, unseen int, err error)
	// Cancel asks the launcher of a run to end it.
	Cancel(run, reason string) error
}

// A LiveRun is a run under way, with what it uses so far.
type LiveRun struct {
	store.Run
	Limits      map[string]float64
	Age         time.Duration
	CPU         time.Duration // -1: not known
	Memory      int64         // bytes; -1: not known
	Processes   int           // and threads; -1: not known
	CancelledBy string        // who wants it to end; empty: nobody
}

var livePages = []page{
	{"GET /live", "Live", anybody, (*view).live},
	{"GET /live/{run}/cancel", "", anybody, (*view).planCancel},
	{"POST /live/{run}/cancel", "", anybody, (*view).cancel},
}

// A gauge is a use against a limit.
type gauge struct {
	Said, Limit string
	Value, Most string // for a meter; empty: there is no limit, or no value
	Percent     string
}

// liveRow is a run for people.
type liveRow struct {
	LiveRun
	Time, Processor, Room, Tasks gauge
	Cancel                       string // address; empty: the visitor may not
}

type livePage struct {
	look
	Rows   []liveRow
	Unseen int
	Asked  string // a run that was just asked to end
	Paused bool
	Here   string
	Switch string
	Own    bool // only the visitor's own runs are shown
	More   int  // runs that the table has no room for
}

const mostLive = 200 // rows of the table

// live shows the runs under way.
func (v *view) live() error {
	if v.query.Owner == "" {
		if err := v.noted(audit.HistoryViewed, "live", func(rec *audit.Record) { rec.Viewed = &audit.View{Query: "runs under way"} }); err != nil {
			return err
		}
	}
	list, unseen, err := v.who.Live()
	if err != nil {
		return err
	}
	p := livePage{look: v.look, Unseen: unseen, Paused: v.params.Get("live") == "off", Own: v.query.Owner != "", Here: "/live", Switch: "/live?live=off"}
	if p.Paused {
		p.Switch = "/live"
	}
	if id := v.params.Get("asked"); len(id) <= 64 {
		p.Asked = id
	}
	if p.More = len(list) - mostLive; p.More > 0 {
		list = list[:mostLive]
	}
	for _, r := range list {
		p.Rows = append(p.Rows, v.liveRow(r))
	}
	return v.show("live", p)
}

func (v *view) liveRow(r LiveRun) liveRow {
	row := liveRow{LiveRun: r}
	row.Time = v.gauge(r.Age.Seconds(), r.Limits["timeout_seconds"], look.seconds)
	row.Processor = v.gauge(r.CPU.Seconds(), r.Limits["cpu_seconds"], look.seconds)
	row.Room = v.gauge(float64(r.Memory)/(1<<20), r.Limits["memory_mb"], look.megabytes)
	row.Tasks = v.gauge(float64(r.Processes), r.Limits["processes"], look.brief)
	if r.CancelledBy == "" && v.mayCancel(r.User) {
		row.Cancel = "/live" + strings.TrimPrefix(v.RunPath(r.ID), "/runs") + "/cancel"
	}
	return row
}

// gauge is a use, which is below 0 where it is not known, against a limit, which is 0 where there is none.
func (v *view) gauge(used, bound float64, say func(look, float64) string) gauge {
	if used < 0 {
		return gauge{Said: "–"}
	}
	g := gauge{Said: say(v.look, used)}
	if bound > 0 {
		g.Limit = say(v.look, bound)
		g.Value, g.Most = fmt.Sprintf("%.3f", min(used, bound)), fmt.Sprintf("%.3f", bound)
		g.Percent = v.Percent(int64(used*1000), int64(max(1, bound*1000)))
	}
	return g
}

// liveOne is the live run of the address.
func (v *view) liveOne() (LiveRun, error) {
	list, _, err := v.who.Live()
	if err != nil {
		return LiveRun{}, err
	}
	for _, r := range list {
		if r.ID == v.r.PathValue("run") {
			return r, nil
		}
	}
	return LiveRun{}, refused(http.StatusNotFound, "no run of this id that you may see is alive", "the history has the runs that have ended")
}

// planCancel asks for the reason.
func (v *view) planCancel() error {
	r, err := v.liveOne()
	if err != nil {
		return err
	}
	if err := v.notedRun(r.Run); err != nil {
		return err
	}
	if !v.mayCancel(r.User) {
		return refused(http.StatusForbidden, "you may not end this run", "only the user of a run, a script-admin and the operator of the host can")
	}
	return v.show("cancel", struct {
		look
		Row liveRow
	}{v.look, v.liveRow(r)})
}

const mostReason = 500 // bytes

// cancel ends a run.
func (v *view) cancel() error {
	r, err := v.liveOne()
	if err != nil {
		return err
	}
	reason := strings.TrimSpace(v.r.PostFormValue("reason"))
	if len(reason) > mostReason {
		return refused(http.StatusUnprocessableEntity, fmt.Sprintf("a reason has at most %d bytes", mostReason), "")
	}
	if err := v.who.Cancel(r.ID, reason); err != nil {
		return err
	}
	return v.redirect(address("/live", map[string][]string{"asked": {r.ID}}))
}
