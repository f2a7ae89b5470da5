package config

import (
	"fmt"
	"os"
	"path"
	"strings"
)

// Check returns all mistakes in one file, in the order of lines: first what Load would refuse, then
// contradictions, which Load accepts.
func Check(path string) []Finding { return check(path, etcFile) }

func check(path, etc string) []Finding {
	text, err := readText(path)
	if err != nil {
		return []Finding{*err}
	}
	f, findings := parseFile(path, text, etc)
	return append(findings, locate(f.contradictions(), path, text)...)
}

// contradictions compares what the file says only with the same file: another file may be stronger
// or weaker.
func (f file) contradictions() []Finding {
	c := Default()
	for i := range settings {
		if v, ok := f.values[settings[i].key]; ok {
			settings[i].set(&c, v)
		}
	}
	var findings []Finding
	add := func(key, problem, hint string) {
		if _, said := f.values[key]; said {
			findings = append(findings, Finding{Key: key, Problem: problem, Hint: hint})
		}
	}

	for i := range settings {
		s := &settings[i]
		if ceiling, ok := f.ceilings[s.key]; ok && s.exceeds(s.get(&c), ceiling) {
			add(s.key, fmt.Sprintf("%s is above the ceiling %s of this file", format(s.get(&c)), format(ceiling)), "")
		}
		floor, ok := f.floors[s.key]
		if !ok {
			continue
		}
		if s.below(s.get(&c), floor) {
			add(s.key, fmt.Sprintf("%s is below the floor %s of this file", format(s.get(&c)), format(floor)), "")
		}
		if ceiling, ok := f.ceilings[s.key]; ok && s.below(ceiling, floor) {
			findings = append(findings, Finding{Key: "ceiling." + s.key, Problem: fmt.Sprintf("%s is below the floor %s of this file, which wins", format(ceiling), format(floor))})
		}
	}
	if !c.Security.Audit.Enabled {
		for i := range settings {
			if key := settings[i].key; section(key) == "security.audit" && leaf(key) != "enabled" {
				add(key, "has no effect, security.audit.enabled is false", "")
			}
		}
	}
	for _, hidden := range c.Security.Isolation.Hide {
		if isBelow(c.Python.Interpreter, hidden) {
			add("python.interpreter", fmt.Sprintf("lies in %q, which security.isolation.hide hides from Python", hidden), "")
		}
		for _, dir := range c.Python.Path {
			if isBelow(dir, hidden) {
				add("python.path", fmt.Sprintf("%q lies in %q, which security.isolation.hide hides from Python", dir, hidden), "")
			}
		}
	}
	if dir := fixedPart(c.Security.Isolation.WorkingDir); isOpenToAll(dir) {
		add("security.isolation.working-dir",
			fmt.Sprintf("everybody can remove and replace what lies in %q: no sticky bit", dir), "chmod +t "+dir)
	}
	return findings
}

// isBelow compares only names, and follows no symbolic link.
func isBelow(name, dir string) bool {
	dir = strings.TrimSuffix(path.Clean(dir), "/")
	name = path.Clean(name)
	return name == dir || strings.HasPrefix(name, dir+"/")
}

// fixedPart returns the part of a path above the first directory whose name differs from run to
// run.
func fixedPart(workingDir string) string {
	before, _, _ := strings.Cut(workingDir, "$")
	return path.Dir(before + "x")
}

func isOpenToAll(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.Mode().Perm()&0o002 != 0 && info.Mode()&os.ModeSticky == 0
}
