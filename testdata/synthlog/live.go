package main

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"py3run/audit"
	"py3run/internal/activity"
)

// A site is what happens.
type site struct {
	runs, days, users, scripts int
	seed                       uint64
	end                        time.Time

	people   []person
	programs []program
	machines []machine
	codes    []string
	rand     *rand.Rand
	to       *writer
	open     ends
}

// An ending is the record that ends a run.
type ending struct {
	at  time.Time
	rec audit.Record
}

// ends has the endings of the runs under way, the next one first.
type ends []ending

func (e ends) Len() int           { return len(e) }
func (e ends) Less(i, j int) bool { return e[i].at.Before(e[j].at) }
func (e ends) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *ends) Push(x any)        { *e = append(*e, x.(ending)) }
func (e *ends) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// live writes all that happens, in the order of time. The last runs end before the log does.
func (s *site) live(to *writer) {
	s.rand, s.to = rand.New(rand.NewPCG(s.seed, 7)), to
	s.populate(s.rand)
	for i, at := range s.times() {
		for len(s.open) > 0 && !s.open[0].at.After(at) {
			e := heap.Pop(&s.open).(ending)
			s.put(&e.rec, e.at)
		}
		s.besides(at, i)
		s.begin(at, i)
	}
	for len(s.open) > 0 {
		e := heap.Pop(&s.open).(ending)
		s.put(&e.rec, e.at)
	}
}

// times are when runs begin: more of them by day than by night, and fewer on weekends.
func (s *site) times() []time.Time {
	const margin = 10 * time.Minute // for the last ends
	list := make([]time.Time, 0, s.runs)
	span := time.Duration(s.days) * 24 * time.Hour
	for len(list) < s.runs {
		at := s.end.Add(-margin - time.Duration(s.rand.Int64N(int64(span-margin))))
		likely := 0.25
		if h := at.Hour(); h >= 6 && h < 19 {
			likely = 1
		}
		if d := at.Weekday(); d == time.Saturday || d == time.Sunday {
			likely *= 0.3
		}
		if s.rand.Float64() < likely {
			list = append(list, at.Truncate(time.Microsecond))
		}
	}
	slices.SortFunc(list, time.Time.Compare)
	return list
}

// put writes a record with the uptime that its host has then.
func (s *site) put(rec *audit.Record, at time.Time) uint64 {
	for _, m := range s.machines {
		if m.name == rec.Host.Name {
			rec.Host.Boot, rec.Host.UptimeMS = m.boot, at.Sub(m.up).Milliseconds()
		}
	}
	return s.to.put(rec, at)
}

// call is what all records of a run say.
func (s *site) call(at time.Time) (audit.Record, *program) {
	r := s.rand
	p := &s.people[pick(r, len(s.people), func(i int) float64 { return s.people[i].weight })]
	rec := audit.Record{
		RunID: uuid(uint64(at.UnixMilli())<<16|r.Uint64N(1<<16), r.Uint64()), User: audit.User{Name: p.name, Roles: p.roles}, Auth: p.auth, Client: audit.Client{IP: p.client},
		Host: audit.Host{Name: s.machines[[]int{0, 0, 0, 0, 0, 0, 1, 1, 1, 2}[r.IntN(10)]].name}, Command: "execute",
		Limits: map[string]float64{"cpu_seconds": 300, "disk_mb": 2048, "file_mb": 1024, "idle_seconds": 3600, "memory_mb": 1024, "output_mb": 10, "processes": 64, "timeout_seconds": 600},
	}
	if p.client != "" {
		rec.Client.IPSource = "request"
	}
	rec.Labels = s.labels()
	if r.IntN(4) == 0 {
		n := r.IntN(len(s.codes))
		rec.Code, rec.Invoked = audit.Code{SHA256: s.codes[n], Bytes: int64(20 + n)}, &audit.Invocation{Command: "exec"}
		if p.auth.Method == audit.AuthOSUser {
			rec.Script, rec.Invoked.Command = audit.Script{Name: fmt.Sprintf("try%d.py", n%20), Source: audit.ScriptFile, Path: fmt.Sprintf("/home/%s/try%d.py", p.name, n%20)}, "run"
		}
		return rec, nil
	}
	script := &s.programs[pick(r, len(s.programs), func(i int) float64 { return s.programs[i].weight })]
	rec.Script = audit.Script{Name: script.name, Version: fmt.Sprint(script.version), Source: audit.ScriptStored}
	rec.Code, rec.Invoked = audit.Code{SHA256: script.code, Bytes: script.bytes}, &audit.Invocation{Command: "exec"}
	rec.Variables = audit.Variables{Count: 1, Bytes: 12, List: []audit.Variable{{Name: "tank", Type: "str", Bytes: 12}}}
	return rec, script
}

func (s *site) labels() map[string]string {
	r := s.rand
	switch r.IntN(5) {
	case 0:
		return map[string]string{"site": sites[r.IntN(len(sites))]}
	case 1:
		return map[string]string{"site": sites[r.IntN(len(sites))], "job": fmt.Sprint(r.IntN(50_000))}
	case 2:
		return map[string]string{"order": fmt.Sprintf("A-%05d", r.IntN(3000)), "shift": []string{"early", "late", "night"}[r.IntN(3)]}
	}
	return nil
}

// begin writes the start of a run, or that it was refused, and lays its end by.
func (s *site) begin(at time.Time, n int) {
	rec, script := s.call(at)
	if s.rand.IntN(100) == 0 {
		s.refuse(rec, at)
		return
	}
	start := rec
	start.Event = audit.Event{Action: audit.ExecutionStart, Outcome: audit.Unknown}
	start.Config = []audit.ConfigFile{{Path: "/etc/py3run/config.toml"}, {Path: "/etc/py3run/policy.toml", SHA256: s.codes[n*20/s.runs]}}
	s.put(&start, at)
	usual, fails := 300*time.Millisecond, 0.1
	if script != nil {
		usual, fails = script.usual, script.fails
	}
	took := min(time.Duration(s.rand.ExpFloat64()*float64(usual))+20*time.Millisecond, 5*time.Minute)
	end := s.outcome(rec, took, fails)
	heap.Push(&s.open, ending{at.Add(took), end})
}

// outcome is the record that ends a run.
func (s *site) outcome(end audit.Record, took time.Duration, fails float64) audit.Record {
	r := s.rand
	if r.IntN(2000) == 0 {
		end.Event = audit.Event{Action: audit.ExecutionOrphaned, Outcome: audit.Unknown, Reason: "launcher-died"}
		return end
	}
	end.Event = audit.Event{Action: audit.ExecutionEnd, Outcome: audit.Success, DurationNS: int64(took)}
	end.Status = "ok"
	code := 0
	if r.Float64() < fails {
		end.Status = []string{"error", "error", "error", "exit", "timeout", "memory_limit", "cpu_limit", "signal", "cancelled"}[r.IntN(9)]
		end.Event.Outcome, code = audit.Failure, 1
		if end.Status == "error" {
			end.Event.Reason = []string{"ValueError", "KeyError", "ZeroDivisionError"}[r.IntN(3)]
		}
	}
	end.Process = &audit.Process{CPUMS: took.Milliseconds()/2 + 10, PeakMemoryBytes: int64(8<<20 + r.IntN(200<<20)), StdoutBytes: new(int64(r.IntN(5000))), StderrBytes: new(int64(0))}
	if end.Status == "signal" {
		end.Process.Signal = "SIGSEGV"
	} else {
		end.Process.ExitCode = &code
	}
	end.Python = &audit.Python{Version: "3.11.7", Executable: "/usr/bin/python3"}
	end.Isolation = &audit.Isolation{Method: "namespace", Enforced: []string{"pid-namespace", "mount-namespace", "proc", "tree-kill", "capabilities", "seccomp-default", "wall-limit", "cpu-limit", "memory-limit"}, Missing: []audit.Gap{}}
	end.Hooks = &activity.Summary{Imports: new(r.IntN(40))}
	if r.IntN(10) == 0 {
		end.Hooks.Connections = []activity.Connection{{Host: fmt.Sprintf("10.9.0.%d", r.IntN(20)), Port: 5432, Via: "python", Count: 1}}
	}
	return end
}
