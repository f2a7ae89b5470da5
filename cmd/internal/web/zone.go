package web

import "strings"

// The form in the footer of each page sets the zone of the session.
var zonePages = []page{
	{"POST /zone", "", (*view).chooseZone},
}

func (v *view) chooseZone() error {
	name := strings.TrimSpace(v.r.PostFormValue("zone"))
	if name != "" && zoneOf(name) == nil {
		return refused(422, "there is no time zone of that name", "names are as UTC or Europe/Berlin")
	}
	v.server.sessions.choose(v.r, name)
	back := v.r.PostFormValue("back")
	if !strings.HasPrefix(back, "/") || strings.HasPrefix(back, "//") || strings.ContainsAny(back, "\\\r\n\t") {
		back = "/"
	}
	return v.redirect(back)
}
