package sandbox

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"py3run/sandbox/cgroup"
)

// What a Spec asks for, fitted to each version of Landlock.
func TestFit(t *testing.T) {
	t.Parallel()
	const refer, truncate = unix.LANDLOCK_ACCESS_FS_REFER, unix.LANDLOCK_ACCESS_FS_TRUNCATE
	read := Spec{ReadDirs: []string{"/r"}, DenyNetwork: true}
	write := Spec{WriteDirs: []string{"/w"}, DenyNetwork: true}
	both := Spec{ReadDirs: []string{"/r"}, WriteDirs: []string{"/w"}}
	for _, tt := range []struct {
		name    string
		spec    Spec
		method  Method
		version int
		files   uint64
		rules   []landlockRule
		have    string
		gaps    string // with a star: it refuses nothing
	}{
		{"nothing asked, no Landlock", Spec{DenyNetwork: true}, Namespace, 0, 0, nil, "", ""},
		{"a shared network, no Landlock", Spec{}, Namespace, 0, 0, nil, "", "abstract-sockets*"},
		{"a shared network, no scopes", Spec{}, Namespace, 5, 0, nil, "", "abstract-sockets*"},
		{"a shared network, scopes", Spec{}, Namespace, 6, 0, nil, "abstract-sockets", ""},
		{"no namespaces, scopes", Spec{}, Process, 6, 0, nil, "", ""},
		{"reading, no Landlock", read, Namespace, 0, 0, nil, "", "read-dirs"},
		{"reading, the first version", read, Namespace, 1, landlockRead, []landlockRule{{"/r", landlockRead}}, "read-dirs", ""},
		{"reading, moves", read, Process, 2, landlockRead | refer, []landlockRule{{"/", refer}, {"/r", landlockRead}}, "read-dirs", ""},
		{"writing, no Landlock", write, Namespace, 0, 0, nil, "", "write-dirs"},
		{"writing, no truncation", write, Namespace, 2, landlockWrite&^truncate | refer, []landlockRule{{"/w", landlockWrite&^truncate | refer}}, "write-dirs", "write-dirs-truncation write-dirs-metadata*"},
		{"writing", write, Namespace, 3, landlockWrite | refer, []landlockRule{{"/w", landlockWrite | refer}}, "write-dirs", "write-dirs-metadata*"},
		{"both, no Landlock", both, Process, 0, 0, nil, "", "read-dirs write-dirs"},
		{"both and a shared network", both, Namespace, 7, landlockRead | landlockWrite | refer,
			[]landlockRule{{"/r", landlockRead}, {"/w", landlockRead | landlockWrite | refer}}, "read-dirs write-dirs abstract-sockets", "write-dirs-metadata*"},
		{"nowhere", Spec{WriteDirs: []string{}, DenyNetwork: true}, Namespace, 6, landlockWrite | refer, nil, "write-dirs", "write-dirs-metadata*"},
	} {
		f := fit(tt.spec, tt.method, tt.version)
		if f.files != tt.files || !slices.Equal(f.rules, tt.rules) || strings.Join(f.have, " ") != tt.have || gapNames(f.gaps) != tt.gaps {
			t.Errorf("%s: %+v", tt.name, f)
		}
		if scoped := strings.Contains(tt.have, "abstract-sockets"); scoped != (f.scopes != 0) {
			t.Errorf("%s: scopes %d", tt.name, f.scopes)
		}
	}
}

// gapNames are the names of gaps; a star stands behind one that refuses nothing.
func gapNames(gaps []Gap) string {
	var names []string
	for _, g := range gaps {
		if g.Extra {
			g.Name += "*"
		}
		names = append(names, g.Name)
	}
	return strings.Join(names, " ")
}

// What is in force, for what a Spec asks and what the host has.
func TestProtection(t *testing.T) {
	t.Parallel()
	const spaces = "pid-namespace mount-namespace ipc-namespace uts-namespace proc"
	limits := Limits{CPU: 1, Idle: 1, Memory: 1, Processes: 1}
	for _, tt := range []struct {
		name  string
		spec  Spec
		found observed
		have  string
		gaps  string
	}{
		{"nothing asked, as root", Spec{}, observed{method: Namespace, root: true}, spaces + " session tree-kill capabilities", ""},
		{"nothing asked, as an ordinary user", Spec{}, observed{method: Namespace, userNS: true}, spaces + " user-namespace session tree-kill", ""},
		{"a transparent program", Spec{Transparent: true, Links: []Link{{"/a", "/b"}}}, observed{method: Namespace, root: true}, spaces + " tree-kill interpreter-link capabilities", "session*"},
		{"links that cannot be had", Spec{Links: []Link{{"/a", "/b"}}}, observed{method: Namespace, root: true, missed: []Gap{{Name: linkMeasure, Why: "no"}}}, spaces + " session tree-kill capabilities", "interpreter-link*"},
		{"namespaces refused", Spec{DenyNetwork: true, MinimalDev: true}, observed{method: Process, refused: errors.New("no")}, "session tree-kill", spaces + " network-namespace minimal-dev"},
		{"paths", Spec{Hide: []string{"/a"}, Pin: []string{"/b"}}, observed{method: Namespace, root: true, link: "/l"},
			spaces + " hidden-paths pinned-paths session tree-kill capabilities", "pinned-paths*"},
		{"calls, without a mount namespace", Spec{DenyCalls: true}, observed{method: Process, root: true}, "session tree-kill capabilities seccomp-default", spaces + " read-only-kernel"},
		{"calls, by an ordinary user", Spec{DenyCalls: true}, observed{method: Process}, "session tree-kill seccomp-default", spaces},
		{"a directory", Spec{}, observed{method: Namespace, root: true, workdir: true}, spaces + " session tree-kill capabilities private-working-dir", ""},
		{"a shared directory", Spec{}, observed{method: Namespace, root: true, workdir: true, shared: "seen"}, spaces + " session tree-kill capabilities", "private-working-dir"},
		{"subordinate ids", Spec{SubIDs: true}, observed{method: Namespace, userNS: true}, spaces + " user-namespace sub-ids session tree-kill", ""},
		{"no subordinate ids", Spec{SubIDs: true}, observed{method: Namespace, userNS: true, unmapped: errors.New("none")}, spaces + " user-namespace session tree-kill", "sub-ids"},
		{"activity", Spec{Activity: Required}, observed{method: Process, listening: true}, "session tree-kill native-trail", spaces},
		{"activity that could not be had", Spec{Activity: BestEffort}, observed{method: Process}, "session tree-kill", spaces + " native-trail*"},
		{"activity that had to be had", Spec{Activity: Required}, observed{method: Process}, "session tree-kill", spaces + " native-trail"},
		{"activity, and another listener", Spec{Activity: BestEffort}, observed{method: Process, listening: true, missed: []Gap{{Name: activityMeasure}}}, "session tree-kill", spaces + " native-trail*"},
		{"files", Spec{Activity: Required, Files: Required}, observed{method: Process, listening: true, filing: true}, "session tree-kill native-trail native-files", spaces},
		{"files on an old kernel", Spec{Activity: Required, Files: BestEffort}, observed{method: Process, listening: true}, "session tree-kill native-trail", spaces + " native-files*"},
		{"files that had to be had", Spec{Activity: BestEffort, Files: Required}, observed{method: Process}, "session tree-kill", spaces + " native-trail* native-files"},
		{"files, and another listener", Spec{Activity: BestEffort, Files: BestEffort}, observed{method: Process, listening: true, filing: true, missed: []Gap{{Name: activityMeasure}}},
			"session tree-kill", spaces + " native-trail* native-files*"},
		{"files alone", Spec{Files: Required}, observed{method: Process}, "session tree-kill", spaces + " native-files"},
		{"activity, and io_uring", Spec{Activity: BestEffort}, observed{method: Process, listening: true, rings: 1}, "session tree-kill native-trail", spaces + " native-trail*"},
		{"a step that failed", Spec{}, observed{method: Namespace, root: true, missed: []Gap{{Name: "proc"}}},
			"pid-namespace mount-namespace ipc-namespace uts-namespace session tree-kill capabilities", "proc"},
		{"limits", Spec{Limits: limits}, observed{method: Namespace, root: true, sight: &sight{true, true, true}},
			spaces + " session tree-kill capabilities idle-limit cpu-limit memory-limit process-limit", ""},
		{"limits without a group", Spec{Limits: limits}, observed{method: Namespace, root: true, groups: noGaps(), sight: &sight{false, false, true}},
			spaces + " session tree-kill capabilities idle-limit cpu-limit memory-limit-per-process process-watch", "memory-limit process-limit cpu-accounting*"},
		{"limits without a group, unseen", Spec{Limits: limits}, observed{method: Namespace, root: true, groups: noGaps(), sight: &sight{}},
			spaces + " session tree-kill capabilities memory-limit-per-process cpu-limit-per-process", "memory-limit cpu-limit idle-limit process-limit"},
		{"buffered writes", Spec{Limits: Limits{WriteRate: 1}}, observed{method: Namespace, root: true, groups: []cgroup.Gap{{Controller: "io-writes", Why: "v1"}}},
			spaces + " session tree-kill capabilities io-limit", "io-limit-of-buffered-writes"},
	} {
		p := protection(tt.spec, tt.found)
		if got := strings.Join(p.Enforced, " "); got != tt.have || gapNames(p.Gaps) != tt.gaps || p.Method != tt.found.method {
			t.Errorf("%s:\nenforced %s\nwant     %s\ngaps %s\nwant %s", tt.name, got, tt.have, gapNames(p.Gaps), tt.gaps)
		}
	}
}
