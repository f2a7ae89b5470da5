package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSubIDs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		want       []idRange
	}{
		{"nothing", "", nil},
		{"others'", "bob:100000:65536\n1001:1:1\n", nil},
		{"by name and by number", "alice:100000:65536\n1000:27:1\n", []idRange{{27, 1}, {100000, 65536}}},
		{"beyond 32 bits", "alice:4294967290:10\n", nil},
		{"up to the last but one", "alice:4294967290:5\n", []idRange{{4294967290, 5}}},
		{"the own id at the start", "alice:1000:5\n", []idRange{{1001, 4}}},
		{"the own id within", "alice:990:20\n", []idRange{{990, 10}, {1001, 9}}},
		{"only the own id", "alice:1000:1\n", nil},
		{"twice", "alice:100:10\nalice:105:10\nalice:100:3\n", []idRange{{100, 10}, {110, 5}}},
		{"root", "alice:0:10\n", nil},
		{"no lines of the kind", "alice:1\nalice:a:b\n\n#\nalice:5:-1\nalice:7:2", []idRange{{7, 2}}},
	} {
		if got := subIDs(tt.text, 1000, "alice", 1000); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	if got := subIDs(strings.Repeat("a:1:1\n", 3)+manyRanges(1000), 1, "a", 5); len(got) != mostRanges {
		t.Errorf("%d ranges", len(got))
	}
}

func manyRanges(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "a:%d:1\n", 100+2*i)
	}
	return b.String()
}

// What the administrator has given to an ordinary user exists in its user namespace: groups to
// change a file to, for one.
func TestSubIDsAreMapped(t *testing.T) {
	t.Parallel()
	need(t, "root")
	need(t, "userns")
	for _, program := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		if _, err := os.Stat(file); err != nil {
			t.Skip(err)
		}
	}
	const nobody = 65534
	uids, gids := fmt.Sprintf("%8d%8d%8d|%8d%8d%8d|", nobody, nobody, 1, 200000, 200000, 10), fmt.Sprintf("%8d%8d%8d|%8d%8d%8d|", nobody, nobody, 1, 777, 777, 1)
	one := fmt.Sprintf("%8d%8d%8d|", nobody, nobody, 1)
	for _, tt := range []struct {
		name, subuid, subgid string
		sub                  bool
		want                 string // the maps, and the group that a file has in the end
		enforced             bool
		missing              string
	}{
		{"given", "nobody:200000:10\n", "65534:777:1\n", true, uids + gids + "777", true, ""},
		{"not asked for", "nobody:200000:10\n", "nobody:777:1\n", false, one + one + "65534", false, ""},
		{"only groups", "", "nobody:777:1\n", true, one + gids + "777", false, "subuid gives nothing to this user; only this user and its group are mapped"},
		{"nothing", "bob:200000:10\n", "", true, one + one + "65534", false, "subgid gives nothing to this user; only this user and its group are mapped"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for p := dir; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
				check(t, os.Chmod(p, 0o755))
			}
			for name, text := range map[string]string{"subuid": tt.subuid, "subgid": tt.subgid, "f": ""} {
				check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
			}
			check(t, os.Chown(filepath.Join(dir, "f"), nobody, nobody))
			c := helper("mapped", dir, fmt.Sprint(tt.sub))
			var errs bytes.Buffer
			c.Stderr = &errs
			out, err := c.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, errs.String())
			}
			var got struct {
				Text       string
				Protection Protection
			}
			check(t, json.Unmarshal(out, &got))
			if got.Text != tt.want || slices.Contains(got.Protection.Enforced, subIDsMeasure) != tt.enforced {
				t.Errorf("%q, want %q; %v", got.Text, tt.want, got.Protection.Enforced)
			}
			var missing []string
			for _, g := range got.Protection.Gaps {
				if g.Name == subIDsMeasure && !g.Extra {
					missing = append(missing, strings.TrimPrefix(g.Why, "/etc/"))
				}
			}
			if want := slices.DeleteFunc([]string{tt.missing}, func(s string) bool { return s == "" }); !reflect.DeepEqual(append([]string{}, missing...), want) {
				t.Errorf("missing %q, want %q", missing, want)
			}
		})
	}
}

// asNobody makes this thread nobody's, with group 777, on a host with the files of a directory.
func asNobody(dir string) error {
	runtime.LockOSThread()
	for _, err := range []error{unix.Unshare(unix.CLONE_NEWNS), unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount(dir+"/subuid", "/etc/subuid", "", unix.MS_BIND, ""), unix.Mount(dir+"/subgid", "/etc/subgid", "", unix.MS_BIND, ""),
		unix.Setgroups([]int{777}), unix.Setresgid(65534, 65534, 65534), unix.Setresuid(65534, 65534, 65534)} {
		if err != nil {
			return err
		}
	}
	// Changing the user makes a process undumpable, and its files in /proc root's.
	return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
}

// idsOf is what doctor and explain tell such a user.
func idsOf(args []string) error {
	if err := asNobody(args[0]); err != nil {
		return err
	}
	os.Setenv("TMPDIR", "/tmp")
	sub := args[1] == "true"
	p := Protection{Enforced: []string{"user-namespace"}}
	if sub {
		p.Enforced = append(p.Enforced, subIDsMeasure)
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"Check": (&prober{}).ids(sub), "Effects": p.Effects(), "Plain": Protection{Enforced: []string{"seccomp-default"}}.Effects()})
}

// Doctor tries what fails for an ordinary user and what mends it, and explain says it beforehand.
func TestIDsOfOrdinaryUser(t *testing.T) {
	t.Parallel()
	need(t, "root")
	need(t, "userns")
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		if _, err := os.Stat(file); err != nil {
			t.Skip(err)
		}
	}
	for _, tt := range []struct {
		name   string
		sub    bool
		fails  bool
		repair string
	}{
		{"own", false, true, "usermod --add-subgids 777-777 nobody"},
		{"given", true, false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath("newgidmap"); err != nil && tt.sub {
				t.Skip(err)
			}
			dir := t.TempDir()
			for p := dir; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
				check(t, os.Chmod(p, 0o755))
			}
			for name, text := range map[string]string{"subuid": "nobody:200000:1\n", "subgid": "nobody:777:1\n"} {
				check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
			}
			c := helper("ids", dir, fmt.Sprint(tt.sub))
			var errs bytes.Buffer
			c.Stderr = &errs
			out, err := c.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, errs.String())
			}
			var got struct {
				Check          Check
				Effects, Plain []string
			}
			check(t, json.Unmarshal(out, &got))
			works, _, _ := strings.Cut(got.Check.Repair, ")")
			if strings.Contains(got.Check.Finding, "chgrp 777 (") != tt.fails || strings.Contains(works, "chgrp 777") != tt.fails || !strings.Contains(got.Check.Repair, tt.repair) {
				t.Errorf("%+v", got.Check)
			}
			told := strings.Join(got.Effects, "\n")
			if strings.Contains(told, "groups 777 fails") != tt.fails || strings.Contains(told, "/etc/subgid") != tt.sub || !strings.Contains(told, "user 65534 and group 65534") {
				t.Errorf("%s", told)
			}
			if len(got.Plain) != 1 || !strings.Contains(got.Plain[0], "set-user-ID") {
				t.Errorf("without namespaces: %q", got.Plain)
			}
		})
	}
}

// mapped is a launcher of such a user. It shows the maps and tries to give a file to the group.
func mapped(args []string) error {
	dir := args[0]
	if err := asNobody(dir); err != nil {
		return err
	}
	spec := shell("cat /proc/self/uid_map /proc/self/gid_map | awk '{printf \"%8d%8d%8d|\", $1, $2, $3}'; chgrp 777 " + dir + "/f 2>/dev/null; stat -c %g " + dir + "/f | tr -d '\\n'")
	spec.Method, spec.SubIDs = Namespace, args[1] == "true"
	var out, errs bytes.Buffer
	r, err := Start(spec, IO{Stdout: &out, Stderr: &errs}, OwnChild)
	if err != nil {
		return err
	}
	r.Release()
	ended := r.Wait(nil, nil)
	os.Stderr.Write(errs.Bytes())
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"Text": out.String(), "Protection": ended.Protection})
}
