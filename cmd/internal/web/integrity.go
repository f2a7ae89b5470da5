package web

// Integrity is what a visitor can do on this page.
type Integrity interface{}

var integrityPages = []page{
	{"GET /integrity", "Integrity", (*view).integrity},
}

func (v *view) integrity() error {
	return v.show("integrity", struct{ look }{v.look})
}
