package web

import (
	"net/http"
	"slices"
)

// A page is what one address shows.
type page struct {
	route string // method and pattern, as http.ServeMux has it
	nav   string // name in the navigation; empty: it is not there
	show  func(*view) error
}

// pages are all pages, those of the navigation in its order.
func pages() []page {
	return slices.Concat(overviewPages, livePages, historyPages, runPages, usagePages, scriptPages, peoplePages, alertPages, integrityPages, configPages, zonePages)
}

// path is the address of a page without variables.
func (p page) path() string {
	_, path, _ := cutSpace(p.route)
	if path == "/{$}" {
		return "/"
	}
	return path
}

// asks reports whether a request only asks.
func asks(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }
