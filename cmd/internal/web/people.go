package web

// People is what a visitor can do on this page.
type People interface{}

var peoplePages = []page{
	{"GET /people", "Users and keys", (*view).people},
}

func (v *view) people() error {
	return v.show("people", struct{ look }{v.look})
}
