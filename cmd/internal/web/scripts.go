package web

// Scripts is what a visitor can do on this page.
type Scripts interface{}

var scriptPages = []page{
	{"GET /scripts", "Scripts", (*view).scripts},
}

func (v *view) scripts() error {
	return v.show("scripts", struct{ look }{v.look})
}
