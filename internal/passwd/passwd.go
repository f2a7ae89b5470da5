// Package passwd looks up users and groups in /etc/passwd and /etc/group: passwd(5), group(5).
//
// It does not use os/user, which makes a program depend on the C library wherever cgo is on. So a
// user that only another service knows, such as LDAP, is not found.
package passwd

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

const (
	usersFile  = "/etc/passwd"
	groupsFile = "/etc/group"
)

// A User is an account of the operating system.
type User struct {
	Name     string
	UID, GID int
	Home     string
}

// ByUID returns the user with this number, and whether there is one.
func ByUID(uid int) (User, bool) {
	number := strconv.Itoa(uid)
	return find(read(usersFile), func(fields []string) bool { return fields[2] == number })
}

// ByName returns the user of this name, and whether there is one.
func ByName(name string) (User, bool) {
	return find(read(usersFile), func(fields []string) bool { return fields[0] == name })
}

// Groups are the numbers of the user's groups, the one in /etc/passwd first.
func (u User) Groups() []int { return groupsOf(u, read(groupsFile)) }

// GroupID returns the number of a group. A name that is a number means the group of this number,
// which need not be in /etc/group.
func GroupID(name string) (int, error) {
	if n, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(n), nil
	}
	text, err := os.ReadFile(groupsFile)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Split(line, ":"); len(f) >= 3 && f[0] == name {
			return strconv.Atoi(f[2])
		}
	}
	return 0, fmt.Errorf("no group %s in %s", name, groupsFile)
}

// Private reports whether a group is that of one user alone: his first group, of which nobody else is
// a member. Many systems give each user such a group, and let it write all that he makes (umask 002).
func Private(gid, uid int) bool { return private(gid, uid, read(usersFile), read(groupsFile)) }

func private(gid, uid int, users, groups string) bool {
	owner, ok := find(users, func(fields []string) bool { return fields[2] == strconv.Itoa(uid) })
	if !ok || owner.GID != gid {
		return false
	}
	number := strconv.Itoa(gid)
	if _, shared := find(users, func(fields []string) bool { return fields[3] == number && fields[0] != owner.Name }); shared {
		return false
	}
	found := false
	for line := range strings.Lines(groups) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 4 || f[2] != number {
			continue
		}
		if f[3] != "" && f[3] != owner.Name {
			return false
		}
		found = true
	}
	return found
}

// read returns an empty text if the file cannot be read: then it has no user.
func read(file string) string {
	text, _ := os.ReadFile(file)
	return string(text)
}

// find returns the first user that is meant. If the numbers in its line are invalid, there is no
// such user: find does not go on to a later line, because other programs would take the first.
func find(text string, meant func(fields []string) bool) (User, bool) {
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(f) < 6 || !meant(f) {
			continue
		}
		uid, errU := strconv.Atoi(f[2])
		gid, errG := strconv.Atoi(f[3])
		return User{Name: f[0], UID: uid, GID: gid, Home: f[5]}, errU == nil && errG == nil
	}
	return User{}, false
}

func groupsOf(u User, text string) []int {
	groups := []int{u.GID}
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 4 || !slices.Contains(strings.Split(f[3], ","), u.Name) {
			continue
		}
		if gid, err := strconv.Atoi(f[2]); err == nil && gid != u.GID {
			groups = append(groups, gid)
		}
	}
	return groups
}
