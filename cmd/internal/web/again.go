package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"py3run/cmd/internal/wire"
)

// Again is a request to run the code of a run again.
type Again struct {
	Body   map[string]any // of the request; the variables come in addition
	Script string         // the stored script that runs, NAME@VERSION; empty: the code itself
	Limits map[string]float64
	As     string // whose run it will be
	Left   []string
	Code   []byte
	RunID  string // of the run that is repeated
}

// An Outcome is the result of a run that a visitor has started, as far as a page shows it.
type Outcome struct {
	RunID, Status, Error, Hint, Traceback string
	Stdout, Stderr, Result                string
	Where                                 []string // in the code, where a limit struck
	Warnings                              []string
	Cut                                   bool // texts are longer than what is here
}

// A job is a run that a visitor has started.
type job struct {
	who     string
	again   string // id of the run that is repeated
	began   time.Time
	done    chan struct{}
	outcome Outcome // when done is closed
	problem string  // why there is no outcome
}

// jobs are those of a server, by secret names.
type jobs struct {
	mu   sync.Mutex
	list map[string]*job
}

const (
	mostRunning      = 4  // jobs
	mostRunningOfOne = 2  // of them of one visitor
	mostJobs         = 32 // that are kept with their outcome
	jobPatience      = 1500 * time.Millisecond
)

// begin makes a job, unless too many run. The oldest outcome makes room for it.
func (all *jobs) begin(j *job) (id string, err error) {
	all.mu.Lock()
	defer all.mu.Unlock()
	running, own := 0, 0
	oldest := ""
	for name, one := range all.list {
		select {
		case <-one.done:
			if oldest == "" || one.began.Before(all.list[oldest].began) {
				oldest = name
			}
		default:
			if running++; one.who == j.who {
				own++
			}
		}
	}
	if own >= mostRunningOfOne {
		return "", refused(http.StatusTooManyRequests, fmt.Sprintf("%d runs that you have started here have not ended yet", own), "wait until one has ended: the page Live shows them")
	}
	if running >= mostRunning {
		return "", refused(http.StatusTooManyRequests, fmt.Sprintf("%d runs that were started here have not ended yet", running), "wait until one has ended: the page Live shows them")
	}
	if len(all.list) >= mostJobs {
		delete(all.list, oldest)
	}
	if all.list == nil {
		all.list = map[string]*job{}
	}
	id = secret()
	all.list[id] = j
	return id, nil
}

func (all *jobs) get(id string) *job {
	all.mu.Lock()
	defer all.mu.Unlock()
	return all.list[id]
}

// repeated is the run of the address, and the request that repeats it. A look at its code is recorded.
func (v *view) repeated() (a Again, r RunRecords, err error) {
	index, run, err := v.found()
	if err != nil {
		return a, r, err
	}
	if r, err = v.who.Records(index, run); err != nil {
		return a, r, err
	}
	if a, err = v.who.Again(r); err != nil {
		return a, r, err
	}
	if err := v.notedRun(run); err != nil {
		return a, r, err
	}
	return a, r, v.notedCode(run)
}

// againPage is the data of the page before a run.
type againPage struct {
	look
	Again
	Code      *codeView
	Limits    []limit
	Path      string
	Variables string // as entered
	Problem   string
	Recorded  []string // names of the variables of the run that is repeated
}

// planAgain shows what would run.
func (v *view) planAgain() error { return v.askAgain(http.StatusOK, "", "") }

func (v *view) askAgain(code int, variables, problem string) error {
	a, r, err := v.repeated()
	if err != nil {
		return err
	}
	p := againPage{look: v.look, Again: a, Code: viewOf(a.Code, nil), Path: v.RunPath(r.Run.ID), Variables: variables, Problem: problem}
	for _, name := range wire.LimitNames() {
		if value := a.Limits[name]; value > 0 {
			p.Limits = append(p.Limits, v.sayLimit(name, value))
		}
	}
	if rec := r.Last(); rec != nil {
		for _, one := range rec.Variables.List[:min(len(rec.Variables.List), mostNames)] {
			p.Recorded = append(p.Recorded, one.Name+" ("+one.Type+")")
		}
	}
	return v.answer(code, "again", p, "")
}

// runAgain starts the run, and leads to the page of its result.
func (v *view) runAgain() error {
	variables := bytes.TrimSpace([]byte(v.r.PostFormValue("variables")))
	if len(variables) > 0 {
		var names map[string]json.RawMessage
		if err := json.Unmarshal(variables, &names); err != nil || names == nil {
			return v.askAgain(http.StatusUnprocessableEntity, string(variables), `Variables are one JSON object, such as {"x": 21}.`)
		}
	}
	a, r, err := v.repeated()
	if err != nil {
		return err
	}
	j := &job{who: v.who.Name() + " " + v.who.Known(), again: r.Run.ID, began: v.now, done: make(chan struct{})}
	id, err := v.server.jobs.begin(j)
	if err != nil {
		return err
	}
	go v.work(j, a, variables)
	select {
	case <-j.done:
	case <-time.After(jobPatience):
	}
	return v.redirect("/again/" + id)
}

// work waits for the run. It outlives the request that has started it.
func (v *view) work(j *job, a Again, variables []byte) {
	defer close(j.done)
	defer func() {
		if fault := recover(); fault != nil {
			j.problem = "py3runctl has a fault; its standard error says which"
			v.server.say(fmt.Errorf("run again %s: panic: %v\n%s", j.again, fault, debug.Stack()))
		}
	}()
	var err error
	if j.outcome, err = v.who.RunAgain(a, variables); err != nil {
		_, j.problem = v.server.told(v.r.WithContext(context.WithoutCancel(v.r.Context())), err) // the request can have ended
	}
}

// again shows what became of a run that the visitor has started.
func (v *view) again() error {
	j := v.server.jobs.get(v.r.PathValue("job"))
	if j == nil || j.who != v.who.Name()+" "+v.who.Known() {
		return refused(http.StatusNotFound, "there is no such result any more", "the history has the run")
	}
	p := struct {
		look
		Out              Outcome
		Running          bool
		Problem          string
		Repeats, RunLink string
		Began            time.Time
		Meaning          string
		Self             string
	}{look: v.look, Repeats: v.RunPath(j.again), Began: j.began, Self: v.r.URL.Path}
	select {
	case <-j.done:
		p.Out, p.Problem = j.outcome, j.problem
		p.Meaning = wire.Status(p.Out.Status).Meaning()
		if p.Out.RunID != "" {
			p.RunLink = v.RunPath(p.Out.RunID)
		}
	default:
		p.Running = true
	}
	return v.show("result", p)
}

// LimitsOf are the limits of a record that a request can ask for.
func LimitsOf(recorded map[string]float64) map[string]float64 {
	limits := map[string]float64{}
	for name, value := range maps.All(recorded) {
		if slices.Contains(wire.LimitNames(), name) && value > 0 {
			limits[name] = value
		}
	}
	return limits
}
