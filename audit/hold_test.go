package audit

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// held is what holds keep, by the seq of the oldest record and the number of segments.
func heldText(plan Plan) string {
	var texts []string
	for _, h := range plan.Held {
		texts = append(texts, fmt.Sprintf("%d+%d", h.Seq, h.Segments))
	}
	return strings.Join(texts, " ")
}

func TestHoldsKeep(t *testing.T) {
	t.Parallel()
	now := time.Now()
	day := func(ago int) string { return now.AddDate(0, 0, -ago).UTC().Format(time.RFC3339Nano) }
	for _, c := range []struct {
		name  string
		holds []Hold
		want  string // first records of the segments that go
		held  string
	}{
		{"none", nil, "1 5 9", ""},
		{"a run", []Hold{{Run: "r1-0"}}, "1", "5+2"},
		{"a run of the newest that go", []Hold{{Run: "r2-1"}}, "1 5", "11+1"},
		{"a run that is young", []Hold{{Run: "r8-0"}}, "1 5 9", ""},
		{"no such run", []Hold{{Run: "r"}}, "1 5 9", ""},
		{"everything", []Hold{{}}, "", "1+3"},
		{"since a day", []Hold{{Since: now.AddDate(0, 0, -8).Add(-time.Minute).UTC().Format(time.RFC3339Nano)}}, "1", "5+2"},
		{"until a day", []Hold{{Until: day(8)}}, "", "1+3"},
		{"until long ago", []Hold{{Until: day(80)}}, "1 5 9", ""},
		{"a user", []Hold{{User: "alice"}}, "", "1+3"},
		{"another user", []Hold{{User: "alic"}}, "1 5 9", ""},
		{"both have to match", []Hold{{User: "alice", Run: "r2-0"}}, "1 5", "9+1"},
		{"both do not", []Hold{{User: "bob", Run: "r2-0"}}, "1 5 9", ""},
		{"two holds", []Hold{{Run: "r2-0"}, {Run: "r1-1"}}, "1", "7+2 9+1"},
		{"a script", []Hold{{Script: "tank-balance"}}, "", "2+3"},
		{"a version that never was", []Hold{{Script: "tank-balance", Version: "77"}}, "1 5 9", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, l := aged(t, 10, now)
			var ids []string
			for _, h := range c.holds {
				h.Comment = "case 1"
				open, receipt, err := l.AddHold(operator(), h)
				must(t, err)
				if open.Seq != receipt.Seq || open.By != "root" || open.At == "" {
					t.Errorf("%+v", open)
				}
				ids = append(ids, open.ID)
			}
			plan := func(force bool) Plan {
				t.Helper()
				rep := verifyOnce(t, dir, Check{Tree: true})
				p, err := rep.Plan(Policy{Now: now, Days: 7, Force: force})
				must(t, err)
				return p
			}
			for _, force := range []bool{false, true} {
				if p := plan(force); segmentsOf(p.Segments) != c.want || heldText(p) != c.held {
					t.Errorf("force %v: %q go, held %q, want %q, %q", force, segmentsOf(p.Segments), heldText(p), c.want, c.held)
				}
			}
			for _, id := range ids {
				_, err := l.ReleaseHold(operator(), id, "done")
				must(t, err)
				if _, err := l.ReleaseHold(operator(), id, "done"); !errors.Is(err, ErrNoHold) {
					t.Errorf("twice: %v", err)
				}
			}
			if p := plan(false); segmentsOf(p.Segments) != "1 5 9" || heldText(p) != "" {
				t.Errorf("after the release: %q, held %q", segmentsOf(p.Segments), heldText(p))
			}
		})
	}
}

func TestHoldMatches(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	of := Record{RunID: "r", User: User{Name: "alice"}, Auth: Auth{Holder: "gateway", OSUser: "svc", SudoUser: "carol"}, Script: Script{Name: "job", Version: "3"}}
	for _, c := range []struct {
		hold Hold
		at   time.Time
		want bool
	}{
		{Hold{}, at, true},
		{Hold{User: "alice"}, at, true}, {Hold{User: "gateway"}, at, true}, {Hold{User: "svc"}, at, true}, {Hold{User: "carol"}, at, true}, {Hold{User: "Alice"}, at, false},
		{Hold{Script: "job"}, at, true}, {Hold{Script: "job", Version: "3"}, at, true}, {Hold{Script: "job", Version: "4"}, at, false}, {Hold{Script: "jo"}, at, false},
		{Hold{Run: "r"}, at, true}, {Hold{Run: "q"}, at, false},
		{Hold{Since: "2026-05-01T00:00:00Z"}, at, true}, {Hold{Since: "2026-05-01T00:00:00.000001Z"}, at, false},
		{Hold{Until: "2026-05-01T00:00:00Z"}, at, false}, {Hold{Until: "2026-05-01T00:00:00.000001Z"}, at, true},
		{Hold{Until: "2026-05-01T00:00:00Z"}, time.Time{}, true}, // a time that cannot be read is no reason to remove
	} {
		if got := c.hold.Matches(of, c.at); got != c.want {
			t.Errorf("%+v: %v", c.hold, got)
		}
	}
}

// Whoever takes away one of the two places that tell a hold has not lifted it: nothing is removed until
// both agree again, and the repair leaves the hold in force.
func TestHoldsDiffer(t *testing.T) {
	t.Parallel()
	now := time.Now()
	text := func(t *testing.T, dir string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, holdsName))
		must(t, err)
		return b
	}
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string, l *Log, id string)
		want   string
	}{
		{"the file is lost", func(t *testing.T, dir string, _ *Log, _ string) { must(t, os.Remove(filepath.Join(dir, holdsName))) },
			"holds.json is not there, and 1 holds are in force by the records"},
		{"the file is empty", func(t *testing.T, dir string, _ *Log, _ string) {
			must(t, os.WriteFile(filepath.Join(dir, holdsName), nil, 0o600))
		}, "holds.json: EOF"},
		{"the file is cut", func(t *testing.T, dir string, _ *Log, _ string) {
			must(t, os.Truncate(filepath.Join(dir, holdsName), 20))
		}, "holds.json: unexpected EOF"},
		{"the file is a link", func(t *testing.T, dir string, _ *Log, _ string) {
			must(t, os.Rename(filepath.Join(dir, holdsName), filepath.Join(dir, "other")), os.Symlink("other", filepath.Join(dir, holdsName)))
		}, "holds.json: too many levels of symbolic links"},
		{"another field", func(t *testing.T, dir string, _ *Log, _ string) {
			edit(t, filepath.Join(dir, holdsName), func(b []byte) []byte { return []byte(strings.Replace(string(b), `"comment"`, `"coment"`, 1)) })
		}, `holds.json: json: unknown field "coment"`},
		{"the hold is gone from the file", func(t *testing.T, dir string, _ *Log, _ string) {
			must(t, os.WriteFile(filepath.Join(dir, holdsName), []byte(`{"holds": []}`), 0o600))
		}, "of record 41 is not in holds.json"},
		{"the file says less", func(t *testing.T, dir string, _ *Log, _ string) {
			edit(t, filepath.Join(dir, holdsName), func(b []byte) []byte { return []byte(strings.Replace(string(b), "r1-0", "r9-0", 1)) })
		}, "of record 41 is another one in holds.json"},
		{"the record was never written", func(t *testing.T, dir string, l *Log, _ string) { // the writer was killed after the file
			must(t, os.Remove(filepath.Join(dir, currentName)), os.WriteFile(filepath.Join(dir, lockName), nil, 0o600))
		}, "is in holds.json, and in force by no record"},
		{"the release was killed before the file", func(t *testing.T, dir string, l *Log, id string) {
			before := text(t, dir)
			_, err := l.ReleaseHold(operator(), id, "done")
			must(t, err, os.WriteFile(filepath.Join(dir, holdsName), before, 0o600))
		}, "is in holds.json, and in force by no record"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, l := aged(t, 10, now)
			open, _, err := l.AddHold(operator(), Hold{Run: "r1-0", Comment: "case 1"})
			must(t, err)
			c.damage(t, dir, l, open.ID)
			rep := verifyOnce(t, dir, Check{Tree: true})
			if !strings.Contains(rep.HoldsFault, c.want) || !strings.Contains(summary(rep), "warning holds-differ") {
				t.Errorf("fault %q, found %q", rep.HoldsFault, summary(rep))
			}
			for _, force := range []bool{false, true} {
				plan, err := rep.Plan(Policy{Now: now, Days: 7, Force: force})
				if guard := new(GuardError); !errors.As(err, &guard) || !guard.Holds || !plan.Empty() {
					t.Errorf("force %v: %v, %+v", force, err, plan)
				}
			}
			restored, err := l.RepairHolds(operator(), rep)
			if err != nil || len(restored) != 1 || restored[0].ID != open.ID {
				t.Fatalf("restored %+v, %v", restored, err)
			}
			rep = verifyOnce(t, dir, Check{Tree: true})
			plan, err := rep.Plan(Policy{Now: now, Days: 7})
			if rep.HoldsFault != "" || err != nil || segmentsOf(plan.Segments) != "1" || heldText(plan) != "5+2" {
				t.Errorf("after the repair: %q, %v, %q go, held %q", rep.HoldsFault, err, segmentsOf(plan.Segments), heldText(plan))
			}
			_, err = l.ReleaseHold(operator(), open.ID, "done")
			must(t, err)
			if rep = verifyOnce(t, dir, Check{Tree: true}); rep.HoldsFault != "" || len(rep.Holds) != 0 {
				t.Errorf("after the release: %q, %+v", rep.HoldsFault, rep.Holds)
			}
		})
	}
}

// A hold that another process puts in force between the plan and the removal counts.
func TestHoldAfterThePlan(t *testing.T) {
	t.Parallel()
	now := time.Now()
	dir, l := aged(t, 10, now)
	must(t, l.KeepCode([]byte("print(1)")))
	long := now.AddDate(0, 0, -9)
	code := filepath.Join(dir, codeName, hexSHA256([]byte("print(1)")))
	must(t, os.Chtimes(code, long, long))
	plan, err := verifyOnce(t, dir, Check{Tree: true}).Plan(Policy{Now: now, Days: 7})
	must(t, err)
	another := openLog(t, dir)
	_, _, err = another.AddHold(operator(), Hold{Run: "r1-0", Comment: "case 1"})
	must(t, err)
	if _, err := l.Prune(operator(), plan); err == nil || !strings.Contains(err.Error(), "legal holds have changed meanwhile") {
		t.Errorf("prune: %v", err)
	}
	if n, err := l.PruneCode(plan); err == nil || n != 0 {
		t.Errorf("code: %d, %v", n, err)
	}
	if _, err := os.Stat(filepath.Join(dir, segmentName(1))); err != nil {
		t.Error(err)
	}

	// Planned again, what the hold leaves goes, and the record says what it has kept. The code of the
	// records that stay does, too: it is younger than they are.
	plan, err = verifyOnce(t, dir, Check{Tree: true}).Plan(Policy{Now: now, Days: 7})
	must(t, err)
	receipt, err := l.Prune(operator(), plan)
	must(t, err)
	if want := fmt.Sprintf(`"holds":[{"id":"%s","seq":5,"segments":2}]`, plan.Holds[0]); !strings.Contains(string(receipt.Line), want) {
		t.Errorf("%s, want %s", receipt.Line, want)
	}
	if n, err := l.PruneCode(plan); n != 0 || err != nil {
		t.Errorf("code: %d, %v", n, err)
	}
	if got := summary(verifyOnce(t, dir, Check{Tree: true})); got != "" {
		t.Errorf("found %q", got)
	}
	older := now.AddDate(0, 0, -30)
	must(t, os.Chtimes(code, older, older))
	if n, err := l.PruneCode(plan); n != 1 || err != nil {
		t.Errorf("code of nothing that stays: %d, %v", n, err)
	}
}

// An interrupted removal is not finished where a hold has come in between.
func TestHoldBeforeLeftover(t *testing.T) {
	t.Parallel()
	now := time.Now()
	dir, l := aged(t, 10, now)
	plan, err := verifyOnce(t, dir, Check{Tree: true}).Plan(Policy{Now: now, Days: 7})
	must(t, err)
	r := operator()
	r.Event, r.Retention = Event{Action: AuditRetention, Outcome: Success}, &plan.Retention
	mustAppend(t, l, r)
	must(t, os.Remove(filepath.Join(dir, segmentName(1)))) // and killed
	_, _, err = l.AddHold(operator(), Hold{Run: "r2-0", Comment: "case 1"})
	must(t, err)
	plan, err = verifyOnce(t, dir, Check{Tree: true}).Plan(Policy{Now: now, Days: 7})
	if err != nil || segmentsOf(plan.Leftover) != "5" || segmentsOf(plan.Segments) != "" || heldText(plan) != "9+1" {
		t.Errorf("%v: left over %q, %q go, held %q", err, segmentsOf(plan.Leftover), segmentsOf(plan.Segments), heldText(plan))
	}
}

func TestHoldsOfManyWriters(t *testing.T) {
	t.Parallel()
	dir, l := written(t, 5)
	var group sync.WaitGroup
	for i := range 12 {
		group.Go(func() {
			open, _, err := l.AddHold(operator(), Hold{User: fmt.Sprint("u", i), Comment: "case"})
			if err == nil && i%3 == 0 {
				_, err = l.ReleaseHold(operator(), open.ID, "done")
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	rep := check(t, dir, Check{})
	if len(rep.Holds) != 8 || rep.HoldsFault != "" || summary(rep) != "" {
		t.Errorf("%d holds, %q, %q", len(rep.Holds), rep.HoldsFault, summary(rep))
	}
}

// Who may read the log may read which holds are in force, whoever has made the file.
func TestHoldsAreShared(t *testing.T) {
	t.Parallel()
	dir, l := written(t, 3)
	must(t, l.ShareWith(os.Getgid()))
	_, _, err := openLog(t, dir).AddHold(operator(), Hold{Comment: "c"})
	must(t, err)
	if info, err := os.Stat(filepath.Join(dir, holdsName)); err != nil || info.Mode().Perm() != sharedFile {
		t.Errorf("%v, %v", info, err)
	}
}

// What the record of a hold has no room for is refused: file and record would differ.
func TestHoldTooLong(t *testing.T) {
	t.Parallel()
	dir, l := written(t, 3)
	for _, h := range []Hold{{Comment: strings.Repeat("x", 3000)}, {User: strings.Repeat("\u00e9", 400), Comment: "c"}, {Since: "2026-05-02T00:00:00Z", Until: "2026-05-01T00:00:00Z", Comment: "c"},
		{Since: "2026-05-01T00:00:00.5Z", Until: "2026-05-01T00:00:00Z", Comment: "c"}} {
		if _, _, err := l.AddHold(operator(), h); err == nil {
			t.Errorf("%+v", h)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, holdsName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file of holds: %v", err)
	}
	open, _, err := l.AddHold(operator(), Hold{User: "ev\x1b[31m\u202e\"il", Comment: "\x00 \u2028"})
	must(t, err)
	if rep := check(t, dir, Check{}); rep.HoldsFault != "" || len(rep.Holds) != 1 || rep.Holds[0].ID != open.ID {
		t.Errorf("hostile text: %q, %+v", rep.HoldsFault, rep.Holds)
	}
}

// The times of a hold have as many digits as they need.
func TestHoldWithinASecond(t *testing.T) {
	t.Parallel()
	_, l := written(t, 3)
	_, _, err := l.AddHold(operator(), Hold{Since: "2026-05-01T00:00:00Z", Until: "2026-05-01T00:00:00.5Z", Comment: "c"})
	must(t, err)
}

// Whenever a writer is killed, every hold that it has reported is in force, unless it had begun to
// release it; and one that it has reported as released is not.
func TestHoldsOfKilledWriters(t *testing.T) {
	t.Parallel()
	dir := logDir(t)
	begun, lifted := map[string]bool{}, map[string]bool{}
	for round := range 12 {
		c := childCommand(t, "hold-forever", dir)
		out, err := c.StdoutPipe()
		must(t, err, c.Start())
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			verb, id, _ := strings.Cut(lines.Text(), " ")
			switch verb {
			case "added":
				begun[id] = false
			case "releases":
				begun[id] = true
			case "released":
				delete(begun, id)
				lifted[id] = true
			}
			if n == 5+round*3 {
				c.Process.Kill()
			}
		}
		c.Wait()
		l := openLog(t, dir)
		l.NoSync = true
		rep := check(t, dir, Check{})
		open := map[string]bool{}
		for _, h := range rep.Holds {
			open[h.ID] = true
			if lifted[h.ID] {
				t.Errorf("round %d: hold %s is in force again", round, h.ID)
			}
		}
		for id, releasing := range begun {
			if !open[id] && !releasing {
				t.Fatalf("round %d: hold %s is lost: %q", round, id, rep.HoldsFault)
			}
			if !open[id] {
				delete(begun, id)
			}
		}
		_, err = l.RepairHolds(operator(), rep)
		must(t, err)
		if rep := check(t, dir, Check{}); rep.HoldsFault != "" || len(rep.Holds) < len(begun) {
			t.Fatalf("round %d: after the repair %q, %d holds of %d", round, rep.HoldsFault, len(rep.Holds), len(begun))
		}
		for _, h := range rep.Holds { // a next round must not meet the most that there can be
			_, err := l.ReleaseHold(operator(), h.ID, "next")
			must(t, err)
			delete(begun, h.ID)
		}
	}
}
