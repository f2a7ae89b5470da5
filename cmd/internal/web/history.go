package web

import (
	"time"

	"py3run/cmd/internal/store"
)

// Runs is what a visitor can do with past runs.
type Runs interface {
	// Query is a filter as a question; times without a zone are in the zone of now.
	Query(f Filter, now time.Time) (store.Query, error)
}

var historyPages = []page{
	{"GET /history", "History", (*view).history},
}

func (v *view) history() error {
	index, err := v.server.Index()
	if err != nil {
		return err
	}
	page, err := index.Page(v.query)
	if err != nil {
		return err
	}
	return v.show("history", struct {
		look
		Runs []store.Run
	}{v.look, page.Runs})
}
