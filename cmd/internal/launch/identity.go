package launch

import "py3run/audit"

// An identity is who a run is for, and how far that is proved.
type identity struct {
	name   string
	method audit.AuthMethod
}

// user is the user that the request names, which nobody has proved, or else the operating system's.
func user(job Job) identity {
	if name := job.Request.User; name != "" {
		return identity{name, audit.AuthAsserted}
	}
	return identity{job.Caller.Name, audit.AuthOSUser}
}
