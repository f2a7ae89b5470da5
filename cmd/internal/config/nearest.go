package config

import (
	"cmp"
	"strconv"
	"strings"

	"py3run/cmd/internal/spelling"
)

// unknownKey describes a key or section that does not exist. prefix belongs to it, but not to the
// names that it is compared with; within is the part that need not be written at this place.
func unknownKey(prefix, key, within string) *Error {
	e := &Error{Key: prefix + key, Problem: "unknown key"}
	if isSection(key) {
		e.Problem = "is a section, not a key"
	} else if near := cmp.Or(nearest(key), shortFor(strings.ReplaceAll(key, "_", "-"))); near != "" {
		e.Problem += ", the nearest is " + prefix + near
		e.Hint = "did you mean " + strconv.Quote(strings.TrimPrefix(prefix+near, within)) + "?"
	} else {
		e.Hint = "py3run config init prints every key"
	}
	return e
}

// nearest returns the key or section that was probably meant by a similar name, or "". The right
// name in the wrong section counts as similar.
func nearest(name string) string {
	name = strings.ToLower(name)
	best, bestCost := "", max(2, len(leaf(name))/3)+1
	try := func(known string) {
		cost := min(spelling.Distance(name, known), spelling.Distance(leaf(name), leaf(known))+1)
		if cost < bestCost {
			best, bestCost = known, cost
		}
	}
	try("ceiling")
	try("floor")
	for i := range settings {
		try(section(settings[i].key))
		try(settings[i].key)
	}
	return best
}

// nearestVariable does the same for the name of a variable, and also finds one without its section.
func nearestVariable(name string) string {
	key := strings.ReplaceAll(strings.TrimPrefix(name, variablePrefix), "_", "-")
	if known := shortFor(strings.ToLower(key)); known != "" {
		return variable(known)
	}
	ending, found := "_"+strings.TrimPrefix(name, variablePrefix), ""
	for i := range settings { // without its section
		if v := variable(settings[i].key); strings.HasSuffix(v, ending) {
			if found != "" {
				found = ""
				break
			}
			found = v
		}
	}
	if found != "" {
		return found
	}
	if near := nearest(key); near != "" && !isSection(near) && near != "ceiling" && near != "floor" {
		return variable(near)
	}
	return ""
}

// shortFor is the key that a short name stands for, or "". Section and unit may be missing.
func shortFor(name string) string {
	name = strings.TrimPrefix(name, "security-")
	for _, s := range Shorts {
		if name == s.Name || name == strings.TrimSuffix(strings.TrimSuffix(s.Name, "-mb"), "-seconds") {
			return s.Key
		}
	}
	return ""
}
