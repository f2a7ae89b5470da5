package web

import (
	"net/http"
	"slices"

	"py3run/cmd/internal/access"
)

// A page is what one address shows.
type page struct {
	route string // method and pattern, as http.ServeMux has it
	nav   string // name in the navigation; empty: it is not there
	needs need   // whom the navigation shows it to
	show  func(*view) error
}

// A need says who finds a page in the navigation. The page itself asks the policy again.
type need int

const (
	anybody  need = iota
	auditing      // who may see everybody's runs
	policing      // who may read the policy
)

func (n need) met(who Visitor) bool {
	switch n {
	case auditing:
		return who.May(access.ToSeeHistory, access.Object{Kind: access.PastRun}) == nil
	case policing:
		return who.May(access.ToRead, access.Object{Kind: access.ThePolicy}) == nil
	}
	return true
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
