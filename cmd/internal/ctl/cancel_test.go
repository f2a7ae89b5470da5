package ctl

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"py3run/audit"
)

// A launcher is a run that is alive and ends when it is told, or never.
func (b *fixture) launcher(user string, heeds bool) (id string, ended chan struct{}) {
	b.Helper()
	b.runs++
	rec := startOf(b.runs, user)
	run, _, err := b.log.Begin(rec)
	b.must(err)
	ended = make(chan struct{})
	if !heeds {
		b.Cleanup(func() { run.End(endOf(rec, "ok")) })
	} else {
		b.Cleanup(func() { <-ended }) // the test's context has ended by then
		go func() {
			defer close(ended)
			for run.Cancelled() == nil && b.Context().Err() == nil {
				time.Sleep(time.Millisecond)
			}
			run.End(endOf(rec, "cancelled"))
		}()
	}
	return rec.RunID, ended
}

func startOf(n int, user string) audit.Record {
	id := "01a23124-30a2-7ade-9e9a-00000000000" + string(rune('0'+n))
	return audit.Record{RunID: id, Event: audit.Event{Action: audit.ExecutionStart, Outcome: audit.Unknown}, Host: audit.ThisHost(), User: audit.User{Name: user}, Auth: audit.Auth{Method: audit.AuthOSUser},
		Code: audit.Code{SHA256: strings.Repeat("a", 64)}}
}

func endOf(r audit.Record, status string) audit.Record {
	r.Event, r.Status, r.Process = audit.Event{Action: audit.ExecutionEnd, Outcome: audit.Failure, DurationNS: 1}, status, &audit.Process{}
	return r
}

func TestCancelCommand(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	one, ended := b.launcher("ann", true)
	two, _ := b.launcher("bob", false)
	b.must(b.ps(filter{}, "text", time.Now()))
	if out, err := b.said(); strings.Count(out, "\n") != 3 || !strings.Contains(out, "ann") || !strings.Contains(out, two) || err != "" {
		t.Errorf("alive: %s%s", out, err)
	}
	b.must(b.cancel([]string{one[28:]}, " too\x1b[31m long ", "json", time.Minute))
	<-ended
	if out, err := b.said(); out != `{"run_id":"`+one+`","seq":3,"status":"cancelled","end_seq":4}`+"\n" || err != "" {
		t.Errorf("cancelled: %s%s", out, err)
	}
	b.must(b.show("3", "json"))
	line, _ := b.said()
	b.isRecord(line)
	if !strings.Contains(line, `"cancel":{"reason":"too\u001b[31m long"}`) {
		t.Errorf("its record: %s", line)
	}
	// One that does not end in time: it is recorded, and told once only.
	err := b.cancel([]string{two}, "", "text", time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "cancel "+two+": it has not ended within 1ms; record 5 says that it is to") {
		t.Errorf("one that does not end: %v", err)
	}
	b.must(b.cancel([]string{two[28:]}, "", "text", 0))
	if out, err := b.said(); out != two+"  is to end; record 5 says who has cancelled it\n" || !strings.Contains(err, operator().User.Name+" has cancelled "+two+" already: record 5") {
		t.Errorf("once more: %s%s", out, err)
	}
	b.must(b.ps(filter{}, "json", time.Now()))
	if out, _ := b.said(); !strings.Contains(out, `"cancelled_by":"`+operator().User.Name+`"`) || strings.Count(out, "\n") != 1 {
		t.Errorf("alive: %s", out)
	}
	// Ended, unknown, too short, and several: each is told, and the others are ended all the same.
	three, _ := b.launcher("ann", true)
	err = b.cancel([]string{one, "ffffffff", "01", "01a23124-30a2-7ade", three}, "", "json", time.Minute)
	for _, want := range []string{"cancel " + one + ": the run has ended already: cancelled", `no run of "ffffffff"`, `"01" is not 8 characters`, `"01a23124-30a2-7ade" begins 2 run ids`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want also %q", err, want)
		}
	}
	if out, _ := b.said(); !strings.Contains(out, three) || strings.Count(out, "\n") != 1 {
		t.Errorf("the others: %s", out)
	}
}

// The log of another user is read, where its permissions allow that, and never written.
func TestCancelOfAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can make a log of another user")
	}
	b := newFixture(t)
	id, _ := b.launcher("ann", false)
	b.must(os.Chown(b.dir, 65534, 65534))
	defer os.Chown(b.dir, 0, 0)
	b.must(b.ps(filter{}, "json", time.Now()))
	if out, _ := b.said(); !strings.Contains(out, id) {
		t.Errorf("alive: %s", out)
	}
	err := b.cancel([]string{id}, "", "json", 0)
	var owner *ownerError
	if !errors.As(err, &owner) || !strings.Contains(hint(err), "sudo -u '#65534' py3runctl") {
		t.Errorf("%v, %q", err, hint(err))
	}
	if _, err := os.Stat(filepath.Join(b.dir, "runs", id+".cancel")); err == nil {
		t.Error("the run is cancelled")
	}
}

// A log without runs, and a directory that is none.
func TestPsOfNothing(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	b.must(b.ps(filter{}, "json", time.Now()))
	if out, err := b.said(); out+err != "" {
		t.Errorf("%s%s", out, err)
	}
	if err := b.cancel([]string{"01a23124"}, "", "json", 0); err == nil || !strings.Contains(err.Error(), `no run of "01a23124"`) {
		t.Errorf("%v", err)
	}
	b.dir += "/none"
	if err := b.ps(filter{}, "json", time.Now()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
