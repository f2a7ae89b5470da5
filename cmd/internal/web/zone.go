package web

import "strings"

// The form in the footer of each page sets the zone of the session.
var zonePages = []page{
	{"POST /zone", "", anybody, (*view).chooseZone},
}

// zones are names that the form proposes; others are taken, too.
var zones = strings.Fields(`UTC
	Europe/London Europe/Lisbon Europe/Berlin Europe/Paris Europe/Madrid Europe/Rome Europe/Vienna Europe/Zurich Europe/Warsaw Europe/Helsinki
	Europe/Athens Europe/Istanbul Europe/Moscow Africa/Cairo Africa/Johannesburg Africa/Lagos Africa/Nairobi Asia/Dubai Asia/Karachi Asia/Kolkata
	Asia/Bangkok Asia/Singapore Asia/Shanghai Asia/Seoul Asia/Tokyo Australia/Perth Australia/Sydney Pacific/Auckland America/St_Johns
	America/Halifax America/New_York America/Toronto America/Chicago America/Denver America/Phoenix America/Los_Angeles America/Anchorage
	America/Mexico_City America/Bogota America/Sao_Paulo America/Argentina/Buenos_Aires Pacific/Honolulu`)

func (v *view) chooseZone() error {
	name := strings.TrimSpace(v.r.PostFormValue("zone"))
	zone := zoneOf(name)
	if name != "" && zone == nil {
		return refused(422, "there is no time zone of that name", "names are as UTC or Europe/Berlin")
	}
	v.server.sessions.choose(v.r, zone)
	return v.redirect(localPath(v.r.PostFormValue("back")))
}
