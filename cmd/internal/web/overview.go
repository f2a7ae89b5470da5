package web

// Overview is what a visitor can do on this page.
type Overview interface{}

var overviewPages = []page{
	{"GET /{$}", "Overview", (*view).overview},
}

func (v *view) overview() error {
	return v.show("overview", struct{ look }{v.look})
}
