package cgroup

import (
	"path/filepath"
	"slices"
	"strings"
)

type mount struct {
	point, root string
	version     version
	readOnly    bool
	key         string   // of the hierarchy in /proc/self/cgroup
	controllers []string // that it can have, by their v2 names
}

// hierarchies reads what is mounted, and which group of each this process is in.
func hierarchies(root string) (mounts []mount, own map[string]string, err error) {
	text, err := read(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return nil, nil, err
	}
	own = map[string]string{}
	for line := range strings.Lines(string(text)) {
		if parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3); len(parts) == 3 {
			own[parts[1]] = parts[2]
		}
	}
	if text, err = read(filepath.Join(root, "proc/self/mountinfo")); err != nil {
		return nil, nil, err
	}
	for line := range strings.Lines(string(text)) {
		// 36 35 98:0 /root /point options optional… - type source superoptions
		before, after, ok := strings.Cut(line, " - ")
		if !strings.HasPrefix(after, "cgroup") {
			continue
		}
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 6 || len(right) < 3 {
			continue
		}
		m := mount{point: filepath.Join(root, unescape(left[4])), root: unescape(left[3]), readOnly: readOnly(left[5]) || readOnly(right[2])}
		switch right[0] {
		case "cgroup2":
			m.version, m.controllers = v2{}, abilities
		case "cgroup":
			m.version = v1{}
			for name := range own {
				if name != "" && sameSet(strings.Split(name, ","), strings.Split(right[2], ",")) {
					m.key = name
				}
			}
			for c, v1 := range v1Names {
				if m.key != "" && slices.Contains(strings.Split(m.key, ","), v1) {
					m.controllers = append(m.controllers, c)
				}
			}
			if len(m.controllers) == 0 {
				continue
			}
		default:
			continue
		}
		if !slices.ContainsFunc(mounts, func(o mount) bool { return o.version == m.version && o.key == m.key }) {
			mounts = append(mounts, m)
		}
	}
	return mounts, own, nil
}

// readOnly tells it of a mount's options, or of its file system's.
func readOnly(options string) bool { return options == "ro" || strings.HasPrefix(options, "ro,") }

// sameSet tells whether a mount's options hold all controllers of a hierarchy, such as rw,cpu,cpuacct.
func sameSet(controllers, options []string) bool { return len(missing(options, controllers)) == 0 }

// missing is what is in want and not in have.
func missing(have, want []string) (none []string) {
	for _, w := range want {
		if !slices.Contains(have, w) {
			none = append(none, w)
		}
	}
	return none
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	if !strings.Contains(s, `\`) { // as a rule
		return s
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
