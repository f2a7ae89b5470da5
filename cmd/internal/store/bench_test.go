package store

import (
	"flag"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"
)

var many = flag.Int("runs", 20_000, "of the benchmarks' index; 1000000 is what is promised for")

// Questions to a large index: go test -run - -bench . ./cmd/internal/store -runs 1000000
func BenchmarkIndex(b *testing.B) {
	path := filepath.Join(b.TempDir(), "index.db")
	began := time.Now()
	list := records(*many, 1)
	made := time.Now()
	write(b, path, list, 100_000)
	b.Logf("%d records written in %v (made in %v)", len(list), time.Since(made), made.Sub(began))
	last := list[len(list)-1]
	list = nil
	index, err := OpenIndex(path)
	check(b, err)
	defer index.Close()
	at, _ := time.Parse(layout, last.Record.Timestamp)
	for _, c := range []struct {
		name string
		q    Query
		by   By
	}{
		{"history", Query{Limit: 50}, ""}, {"history of a user", Query{User: "alice", Limit: 50}, ""}, {"history of orphans", Query{Status: Orphaned, Limit: 50}, ""},
		{"history of a user's failures", Query{User: "alice", Status: "timeout", Limit: 50}, ""}, {"history of an unknown user", Query{User: "nobody", Limit: 50}, ""},
		{"history of a code", Query{Code: fmt.Sprintf("%064x", 3), Limit: 50}, ""}, {"history of a label that nobody has", Query{Labels: map[string]string{"job": "8"}, Limit: 50}, ""},
		{"stats by user, of a network", Query{Client: netip.MustParsePrefix("10.0.1.0/24")}, ByUser}, {"history of a day", Query{Since: at.Add(-40 * 24 * time.Hour), Until: at.Add(-39 * 24 * time.Hour), Limit: 50}, ""},
		{"stats", Query{}, ByAll}, {"stats by user", Query{}, ByUser}, {"stats by script, of two weeks and a half day", Query{Since: at.Add(-14*24*time.Hour - 12*time.Hour)}, ByScript},
		{"stats by day", Query{User: "alice"}, ByDay},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if c.by == "" {
					all(b, index, c.q)
				} else if _, err := index.Stats(c.q, c.by); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
