package web

// Living is what a visitor can do on this page.
type Living interface{}

var livePages = []page{
	{"GET /live", "Live", (*view).live},
}

func (v *view) live() error {
	return v.show("live", struct{ look }{v.look})
}
