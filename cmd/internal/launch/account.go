package launch

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"py3run/cmd/internal/config"
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
	passwd, _ := os.ReadFile("/etc/passwd")
	group, _ := os.ReadFile("/etc/group")
	as, ok := lookUp(name, string(passwd), string(group))
	if !ok {
		return nil, wrong("no user "+name+" in /etc/passwd", "name a user of /etc/passwd, or leave it empty")
	}
	return &as, nil
}

// lookUp finds a user and its groups in the text of passwd(5) and group(5). It does not use os/user:
// with cgo on, that would make the binary depend on the C library.
func lookUp(name, passwd, group string) (u account, ok bool) {
	for line := range strings.Lines(passwd) {
		if f := strings.Split(line, ":"); len(f) >= 6 && f[0] == name {
			uid, errU := strconv.Atoi(f[2])
			gid, errG := strconv.Atoi(f[3])
			u, ok = account{sandbox.User{UID: uid, GID: gid}, name, f[5]}, errU == nil && errG == nil
			break
		}
	}
	if !ok {
		return u, false
	}
	u.Groups = []int{u.GID}
	for line := range strings.Lines(group) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 4 || !slices.Contains(strings.Split(f[3], ","), name) {
			continue
		}
		if gid, err := strconv.Atoi(f[2]); err == nil && gid != u.GID {
			u.Groups = append(u.Groups, gid)
		}
	}
	return u, true
}
