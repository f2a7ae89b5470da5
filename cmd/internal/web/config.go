package web

// Configuration is what a visitor can do on this page.
type Configuration interface{}

var configPages = []page{
	{"GET /configuration", "Configuration", (*view).configuration},
}

func (v *view) configuration() error {
	return v.show("configuration", struct{ look }{v.look})
}
