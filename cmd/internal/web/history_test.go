package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/store"
)

// A fakeVisitor sees all of an index, and knows the filters that these tests have.
type fakeVisitor struct {
	Visitor
	noted *[]string
}

func (fakeVisitor) Name() string                           { return "carol" }
func (fakeVisitor) Known() string                          { return "test" }
func (fakeVisitor) Sees() (string, error)                  { return "", nil }
func (fakeVisitor) May(access.Action, access.Object) error { return nil }
func (v fakeVisitor) Note(a audit.Action, _ func(*audit.Record)) error {
	*v.noted = append(*v.noted, string(a))
	return nil
}

func (fakeVisitor) Saved() []SavedFilter { return nil }
func (fakeVisitor) Query(f Filter, now time.Time) (q store.Query, err error) {
	q = store.Query{User: f.User, Text: f.Text, Failed: f.Failed, Zone: now.Location()}
	if f.Since != "" {
		q.Since, err = time.Parse(time.RFC3339, f.Since)
	}
	if f.Until != "" && err == nil {
		q.Until, err = time.Parse(time.RFC3339, f.Until)
	}
	if err != nil {
		err = refused(http.StatusUnprocessableEntity, err.Error(), "")
	}
	return q, err
}

func (fakeVisitor) Page(x *store.Index, q store.Query) (store.Page, error) { return x.Page(q) }

// someGate lets the visitor in.
type someGate struct{ who Visitor }

func (g someGate) Holder(string) (Visitor, Pass, error) { return g.who, "", nil }
func (g someGate) Again(Pass) (Visitor, error)          { return g.who, nil }
func (g someGate) Denied(error)                         {}

// someIndex has n ended runs, all of the same moment if step is 0.
func someIndex(t *testing.T, n int, from time.Time, step time.Duration) *store.Index {
	t.Helper()
	path := filepath.Join(t.TempDir(), "index.sqlite")
	w, err := store.OpenWriter(path, true, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Begin(); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		at := from.Add(time.Duration(i) * step).UTC().Format("2006-01-02T15:04:05.000000Z")
		rec := audit.Record{Timestamp: at, RunID: runID(i), User: audit.User{Name: "u" + fmt.Sprint(i%3)}, Status: "ok"}
		rec.Event.Action = audit.ExecutionStart
		rec.Seq = uint64(2*i + 1)
		if err := w.Add(store.Entry{Record: rec}); err != nil {
			t.Fatal(err)
		}
		rec.Event.Action, rec.Seq = audit.ExecutionEnd, uint64(2*i+2)
		if err := w.Add(store.Entry{Record: rec}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(audit.Position{Seq: uint64(2 * n)}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Finish(), w.Close()); err != nil {
		t.Fatal(err)
	}
	x, err := store.OpenIndex(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

func runID(i int) string { return fmt.Sprintf("01a20d4b-0000-7000-8000-%012d", i) }

// asker signs in, and returns how to ask for a page.
func asker(t *testing.T, x *store.Index, zone *time.Location, now time.Time) (ask func(address string, code int) string, noted *[]string) {
	t.Helper()
	noted = &[]string{}
	s, token := New(Options{Gate: someGate{fakeVisitor{noted: noted}}, Index: func() (*store.Index, error) { return x, nil }, Hosts: []string{"pages"}, Zone: zone,
		Now: func() time.Time { return now }, Log: func(err error) { t.Error(err) }})
	cookie := ""
	ask = func(address string, code int) string {
		t.Helper()
		r := httptest.NewRequest(http.MethodGet, address, nil)
		r.Host = "pages"
		r.Header.Set("Cookie", cookie)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code != code {
			t.Errorf("%s: %d, want %d: %s", address, w.Code, code, w.Body)
		}
		if c, _, _ := strings.Cut(w.Header().Get("Set-Cookie"), ";"); c != "" {
			cookie = c
		}
		return w.Body.String()
	}
	ask("/sign-in?token="+token, 200)
	return ask, noted
}

var (
	rowLink  = regexp.MustCompile(`id="run-([^"]+)"`)
	pageLink = regexp.MustCompile(`id="(newer|older)" href="([^"]+)"`)
	heatLink = regexp.MustCompile(`<a href="(/history\?since=[^"]+)"><rect [^>]*><title>([^<]+)</title>`)
)

func rowsOf(text string) (ids []string) {
	for _, m := range rowLink.FindAllStringSubmatch(text, -1) {
		ids = append(ids, m[1])
	}
	return ids
}

func linkOf(text, name string) string {
	for _, m := range pageLink.FindAllStringSubmatch(text, -1) {
		if m[1] == name {
			return strings.ReplaceAll(m[2], "&amp;", "&")
		}
	}
	return ""
}

// Older and newer pages have every run once, also where all began at the same moment.
func TestHistoryPaging(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	const n = 456
	x := someIndex(t, n, now.Add(-time.Hour), 0)
	ask, _ := asker(t, x, time.UTC, now)
	for _, filter := range []string{"/history", "/history?user=u1", "/history?text=u1&live=off"} {
		var ids []string
		var pages [][]string
		address := filter
		for address != "" && len(pages) < 100 {
			text := ask(address, 200)
			pages = append(pages, rowsOf(text))
			ids = append(ids, rowsOf(text)...)
			if next := linkOf(text, "older"); next != "" {
				address = next
				continue
			}
			break
		}
		want := n
		if filter != "/history" {
			want = n / 3
		}
		if len(ids) != want && len(ids) != want+1 || !slices.IsSortedFunc(ids, func(a, b string) int { return strings.Compare(b, a) }) || len(slices.Compact(slices.Clone(ids))) != len(ids) {
			t.Errorf("%s: %d runs of %d", filter, len(ids), want)
		}
		for i := len(pages) - 1; i > max(0, len(pages)-mostNewer); i-- { // and back
			address = linkOf(ask(address, 200), "newer")
			if got := rowsOf(ask(address, 200)); !slices.Equal(got, pages[i-1]) {
				t.Fatalf("%s: newer than page %d is another page: %q", filter, i, got)
			}
		}
	}
}

// Each place of the map leads to the runs of its hour, also where clocks are changed.
func TestHistoryMap(t *testing.T) {
	t.Parallel()
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	from := time.Date(2026, 10, 24, 22, 30, 0, 0, time.UTC) // the hour from 2 to 3 comes twice in that night
	x := someIndex(t, 40, from, 30*time.Minute)
	ask, noted := asker(t, x, zone, from.Add(30*time.Hour))
	text := ask("/history", 200)
	sum := 0
	for _, m := range heatLink.FindAllStringSubmatch(text, -1) {
		var said int
		if _, err := fmt.Sscanf(m[2][len("2006-01-02 15:04: "):], "%d", &said); err != nil {
			t.Fatal(m[2])
		}
		address := strings.ReplaceAll(m[1], "&amp;", "&")
		if got := len(rowsOf(ask(address, 200))); got != said {
			t.Errorf("%s leads to %d runs: %s", m[2], got, address)
		}
		sum += said
	}
	if sum != 40 {
		t.Errorf("the map has %d runs", sum)
	}
	if !slices.Contains(*noted, string(audit.HistoryViewed)) {
		t.Error("no record says that somebody looked at the runs of others")
	}
	if got := ask("/history?text=u1", 200); strings.Contains(got, `id="heat-title"`) {
		t.Error("a map that the index has no sums for")
	}
}

// The newest page refreshes itself, until somebody pauses that; an older one does not change.
func TestHistoryRefresh(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	ask, _ := asker(t, someIndex(t, 60, now.Add(-time.Hour), time.Second), time.UTC, now)
	for address, want := range map[string]bool{"/history": true, "/history?user=u1": true, "/history?live=off": false, "/history?before=50": false, "/history?until=2026-11-30T11:30:00Z": false, "/history?since=x": false} {
		if got := strings.Contains(ask(address, 200), `hx-trigger="every`); got != want {
			t.Errorf("%s refreshes: %v", address, got)
		}
	}
	if text := ask("/history?live=off", 200); !strings.Contains(text, "Resume") || !strings.Contains(linkOf(text, "older"), "live=off") {
		t.Error("who has paused stays paused")
	}
}

func TestNextRun(t *testing.T) {
	t.Parallel()
	x := someIndex(t, 5000, time.Now().Add(-time.Hour), 0)
	for i, want := range map[int]int{0: 1, 7: 8, 4997: 4998, 4998: 4999} {
		if got, err := nextRun(x, "", uint64(2*i+1)); err != nil || got != runID(want) {
			t.Errorf("after %d: %s, %v", i, got, err)
		}
	}
	if got, err := nextRun(x, "u2", 1); err != nil || got != runID(2) {
		t.Errorf("of a user: %s, %v", got, err)
	}
	if got, err := nextRun(x, "", 9999); err != nil || got != "" {
		t.Errorf("after the newest: %s, %v", got, err)
	}
}
