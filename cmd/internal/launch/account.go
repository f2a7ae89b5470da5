package launch

import (
	"os"

	"py3run/cmd/internal/config"
	"py3run/internal/passwd"
	"py3run/sandbox"
)

// An account is a user of the operating system.
type account struct {
	sandbox.User
	name, home string
}

// runAs looks up the user that runs the code when root starts py3run (security.isolation.run-as);
// nil: none is configured.
func runAs(name string) (*account, error) {
	if name == "" {
		return nil, nil
	}
	wrong := func(problem, hint string) error {
		return &config.Error{Where: "security", Key: "isolation.run-as", Problem: problem, Hint: hint}
	}
	if os.Geteuid() != 0 {
		return nil, wrong("only root can become another user", "leave it empty to run the code as this user")
	}
	u, ok := passwd.ByName(name)
	if !ok {
		return nil, wrong("no user "+name+" in /etc/passwd", "name a user of /etc/passwd, or leave it empty")
	}
	return &account{sandbox.User{UID: u.UID, GID: u.GID, Groups: u.Groups()}, u.Name, u.Home}, nil
}
