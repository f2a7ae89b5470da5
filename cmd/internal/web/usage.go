package web

// Usage is what a visitor can do on this page.
type Usage interface{}

var usagePages = []page{
	{"GET /usage", "Usage", (*view).usage},
}

func (v *view) usage() error {
	return v.show("usage", struct{ look }{v.look})
}
