package launch

import (
	"os"
	osuser "os/user"
	"strconv"

	"py3run/audit"
	"py3run/cmd/internal/config"
	"py3run/sandbox"
)

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

// runAs looks up the user that root's code is to become.
func runAs(name string) (*sandbox.User, error) {
	if name == "" {
		return nil, nil
	}
	wrong := func(problem string) error {
		return &config.Error{Where: "security", Key: "isolation.run-as", Problem: problem}
	}
	if os.Geteuid() != 0 {
		return nil, wrong("only root can become another user")
	}
	u, err := osuser.Lookup(name)
	if err != nil {
		return nil, wrong(err.Error())
	}
	var as sandbox.User
	as.UID, _ = strconv.Atoi(u.Uid)
	as.GID, _ = strconv.Atoi(u.Gid)
	groups, err := u.GroupIds()
	if err != nil {
		return nil, wrong("groups of " + name + ": " + err.Error())
	}
	for _, g := range groups {
		if n, err := strconv.Atoi(g); err == nil {
			as.Groups = append(as.Groups, n)
		}
	}
	return &as, nil
}
