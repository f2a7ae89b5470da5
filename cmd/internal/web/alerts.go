package web

// Alerts is what a visitor can do on this page.
type Alerts interface{}

var alertPages = []page{
	{"GET /alerts", "Alerts", (*view).alerts},
}

func (v *view) alerts() error {
	return v.show("alerts", struct{ look }{v.look})
}
