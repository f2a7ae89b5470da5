package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// host lays out a root directory with the two files of /proc and some groups, each with its files.
func host(t *testing.T, cgroup, mountinfo string, groups map[string]string) string {
	t.Helper()
	root := t.TempDir()
	write := func(path, text string, mode os.FileMode) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("proc/self/cgroup", cgroup, 0o644)
	write("proc/self/mountinfo", mountinfo, 0o644)
	for path, subtree := range groups {
		write(path+"/cgroup.procs", "", 0o644)
		// Read-only: an ordinary user takes the controllers of what is his for his to choose, and a
		// plain file does not answer as the kernel does.
		write(path+"/cgroup.subtree_control", subtree, 0o444)
	}
	return root
}

func TestFind(t *testing.T) {
	t.Parallel()
	const (
		v1 = "31 23 0:28 / /cg/memory rw,relatime shared:1 - cgroup cgroup rw,memory\n" +
			"32 23 0:29 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n33 23 0:30 / /cg/pids rw - cgroup cgroup rw,pids\n" +
			"34 23 0:31 / /cg/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
		v2 = "35 23 0:32 / /cg rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	)
	tests := []struct {
		name, cgroup, mountinfo, parent string
		groups                          map[string]string
		want                            []string // PATH: CONTROLLERS
		lacking                         []string
	}{
		{"v1", "4:memory:/a\n3:cpu,cpuacct:/b\n2:pids:/\n1:name=systemd:/x\n", v1, "",
			map[string]string{"cg/memory/a": "", "cg/cpu,cpuacct/b": "", "cg/pids": ""},
			[]string{"cg/memory/a: memory", "cg/cpu,cpuacct/b: cpu,cpuacct", "cg/pids: pids"}, []string{"io", "kill"}},
		{"v1 and an empty v2", "4:memory:/\n2:pids:/\n0::/\n", v1 + "36 23 0:33 / /uni rw - cgroup2 cgroup2 rw\n", "",
			map[string]string{"cg/memory": "", "cg/pids": "", "uni": ""},
			[]string{"cg/memory: memory", "cg/pids: pids", "uni: kill"}, []string{"cpu", "io"}},
		{"v2, own group will do", "0::/own\n", v2, "", map[string]string{"cg": "", "cg/own": "cpu io memory pids"}, []string{"cg/own: cpu,io,kill,memory,pids"}, nil},
		{"v2, the one above will do", "0::/up/own\n", v2, "", map[string]string{"cg": "memory pids", "cg/up": "memory pids", "cg/up/own": ""},
			[]string{"cg/up: kill,memory,pids"}, []string{"cpu", "io"}},
		{"v2, none will do", "0::/own\n", v2, "", map[string]string{"cg": "cpu", "cg/own": ""}, []string{"cg/own: kill"}, []string{"memory", "pids"}},
		{"v2, named", "0::/own\n", v2, "/py3run.slice/runs", map[string]string{"cg": "cpu", "cg/own": "", "cg/py3run.slice/runs": "cpu io memory pids"},
			[]string{"cg/py3run.slice/runs: cpu,io,kill,memory,pids"}, nil},
		{"a container that sees its own part", "0::/docker/id/x\n", "35 23 0:32 /docker/id /cg rw - cgroup2 cgroup2 rw\n", "",
			map[string]string{"cg": "", "cg/x": "memory pids"}, []string{"cg/x: kill,memory,pids"}, []string{"cpu", "io"}},
		{"outside of what is mounted", "0::/../..\n", v2, "", map[string]string{"cg": "memory pids"}, nil, []string{"memory", "pids", "kill"}},
		{"nothing mounted", "0::/\n", "", "", nil, nil, []string{"memory", "pids", "cpu", "io", "kill"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := host(t, tt.cgroup, tt.mountinfo, tt.groups)
			place := find(root, tt.parent)
			var got []string
			for _, d := range place.dirs {
				rel, _ := filepath.Rel(root, d.path)
				slices.Sort(d.controllers)
				got = append(got, rel+": "+strings.Join(d.controllers, ","))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			for _, c := range tt.lacking {
				if place.has(c) || place.why[c] == "" {
					t.Errorf("%s is lacking without a reason: %+v", c, place)
				}
			}
		})
	}
}

// A tree without /proc gives no groups and a reason, no fault.
func TestFindWithoutProc(t *testing.T) {
	t.Parallel()
	place := find(t.TempDir(), "")
	if len(place.dirs) > 0 || place.why["memory"] == "" {
		t.Errorf("%+v", place)
	}
}

func TestSweepOnlyGroups(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := Sweep(dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
	if err := Sweep(filepath.Join(dir, "absent")); err != nil {
		t.Error(err)
	}
}

func TestUnescape(t *testing.T) {
	t.Parallel()
	if got := unescape(`/a\040b\134c\011`); got != "/a b\\c\t" {
		t.Errorf("%q", got)
	}
}
