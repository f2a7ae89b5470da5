package web

var runPages = []page{
	{"GET /runs/{run}", "", (*view).run},
}

func (v *view) run() error {
	return v.show("run", struct{ look }{v.look})
}
