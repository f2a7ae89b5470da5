package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"py3run/internal/passwd"
)

// subIDsMeasure is the mapping of the ids that the system's administrator has given to this user.
const subIDsMeasure = "sub-ids"

// An idRange is a run of ids, from first on.
type idRange struct{ first, count int }

// An idMap is a file by which ids are mapped, open to be written.
type idMap int

func openIDMap(pid int, name string) (idMap, error) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/"+name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	return idMap(fd), err
}

func (m idMap) write(text string) error {
	if text == "" { // would be no error
		return unix.EINVAL
	}
	_, err := unix.Write(int(m), []byte(text))
	return err
}

func (m idMap) close() {
	if m >= 0 {
		unix.Close(int(m))
	}
}

// mapIDs maps ids of this user namespace to themselves in the new one of process pid
// (user_namespaces(7)): all of them, where this user may (root with CAP_SETUID and CAP_SETGID),
// else this user and its group. With subIDs those of /etc/subuid and /etc/subgid, too, which takes
// two set-user-ID programs, of package uidmap: gap is why they could not be had. The launcher's
// memory is concealed after it.
func mapIDs(pid int, subIDs bool) (gap, err error) {
	root := os.Geteuid() == 0
	var setgroups, gids, uids idMap = -1, -1, -1
	defer func() { setgroups.close(); gids.close(); uids.close() }()
	var givenGroups, givenUsers bool // the programs have written the maps
	deny := func() error {           // before gid_map is written: later it cannot be (user_namespaces(7))
		if setgroups < 0 { // before Linux 3.19, or it is done
			return nil
		}
		err := setgroups.write("deny")
		setgroups.close()
		setgroups = -1
		return err
	}
	err = whileRevealed(func() (err error) {
		if setgroups, err = openIDMap(pid, "setgroups"); err != nil && err != unix.ENOENT {
			return err
		}
		if subIDs && !root {
			if err := deny(); err != nil {
				return err
			}
			noGroups := mapSubIDs(pid, "/etc/subgid", "newgidmap", os.Getegid())
			noUsers := mapSubIDs(pid, "/etc/subuid", "newuidmap", os.Geteuid())
			givenGroups, givenUsers, gap = noGroups == nil, noUsers == nil, cmp.Or(noGroups, noUsers)
		}
		if !givenGroups {
			if gids, err = openIDMap(pid, "gid_map"); err != nil {
				return err
			}
		}
		if !givenUsers {
			uids, err = openIDMap(pid, "uid_map")
		}
		return err
	})
	if err != nil {
		return gap, err
	}
	if !givenGroups && !(root && gids.write(wholeMap("gid_map")) == nil) {
		if err := deny(); err != nil {
			return gap, err
		}
		if err := gids.write(oneID(os.Getegid())); err != nil {
			return gap, err
		}
	}
	if givenUsers || root && uids.write(wholeMap("uid_map")) == nil {
		return gap, nil
	}
	return gap, uids.write(oneID(os.Geteuid()))
}

func oneID(id int) string { return fmt.Sprintln(id, id, 1) }

// wholeMap is the map of all ids that there are in this user namespace.
func wholeMap(name string) string {
	own, _ := os.ReadFile("/proc/self/" + name)
	var lines strings.Builder
	for line := range strings.Lines(string(own)) {
		if f := strings.Fields(line); len(f) == 3 {
			fmt.Fprintln(&lines, f[0], f[0], f[2])
		}
	}
	return lines.String()
}

// mapSubIDs has the program write one of the maps: own, and what the file gives to this user.
func mapSubIDs(pid int, file, program string, own int) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	uid := os.Getuid()
	ranges := subIDs(string(text), uid, nameOf(uid), own)
	if len(ranges) == 0 {
		return fmt.Errorf("%s gives nothing to this user", file)
	}
	path, err := exec.LookPath(program)
	if err != nil {
		path = "/usr/bin/" + program // PATH may be bare
	}
	c := exec.Command(path, strconv.Itoa(pid), strconv.Itoa(own), strconv.Itoa(own), "1")
	for _, r := range ranges {
		first := strconv.Itoa(r.first)
		c.Args = append(c.Args, first, first, strconv.Itoa(r.count))
	}
	said, err := c.CombinedOutput()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no %s, of package uidmap", program)
	case err != nil:
		return fmt.Errorf("%s: %w: %s", program, err, strings.ReplaceAll(strings.TrimSpace(string(said)), "\n", "; "))
	}
	return nil
}

// mostRanges is less than the kernel takes (340), with room for the own id.
const mostRanges = 300

// subIDs are the ranges that a file like /etc/subuid (subuid(5)) gives to a user, by name or
// number, without own, and none of them twice.
func subIDs(text string, uid int, name string, own int) (ranges []idRange) {
	var given []idRange
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 || f[0] != strconv.Itoa(uid) && (name == "" || f[0] != name) {
			continue
		}
		first, err1 := strconv.Atoi(f[1])
		count, err2 := strconv.Atoi(f[2])
		if err1 == nil && err2 == nil && first > 0 && count > 0 && first+count <= 1<<32-1 {
			given = append(given, idRange{first, count})
		}
	}
	slices.SortFunc(given, func(a, b idRange) int { return a.first - b.first })
	next := 0
	for _, r := range given {
		from, to := max(r.first, next), r.first+r.count
		if from < to {
			next = to
		}
		if from <= own && own < to {
			ranges = append(ranges, idRange{from, own - from})
			from = own + 1
		}
		ranges = append(ranges, idRange{from, to - from})
	}
	ranges = slices.DeleteFunc(ranges, func(r idRange) bool { return r.count <= 0 })
	return ranges[:min(len(ranges), mostRanges)]
}

// nameOf is a user's name in /etc/passwd; empty: it has none there.
func nameOf(uid int) string {
	u, _ := passwd.ByUID(uid)
	return u.Name
}
