package launch

import (
	"reflect"
	"strings"
	"testing"

	"py3run/audit"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/wire"
)

func TestScriptName(t *testing.T) {
	t.Parallel()
	exec := func(name string) Job { return Job{Request: wire.Request{Filename: name}} }
	run := func(file, argv0 string) Job {
		return Job{Request: wire.Request{Filename: argv0}, Live: &Live{File: file, Argv0: argv0}}
	}
	for _, tt := range []struct {
		name string
		job  Job
		want audit.Script
	}{
		{"no name", exec(""), audit.Script{}},
		{"the default", exec("main.py"), audit.Script{}},
		{"a name", exec("shift_report.py"), audit.Script{Name: "shift_report.py", Source: "filename"}},
		{"a name like a path", exec("/etc/passwd"), audit.Script{Name: "/etc/passwd", Source: "filename"}},
		{"a file", run("/home/a/report.py", "./report.py"), audit.Script{Name: "report.py", Source: "file", Path: "/home/a/report.py"}},
		{"a file of the default name", run("/srv/main.py", "main.py"), audit.Script{Name: "main.py", Source: "file", Path: "/srv/main.py"}},
		{"standard input", run("", "-"), audit.Script{}},
		{"an option", run("", "-c"), audit.Script{}},
		{"a stream of the shell's", run("/dev/fd/63", "/dev/fd/63"), audit.Script{}},
		{"the same, resolved", run("/proc/self/fd/0", "/proc/self/fd/0"), audit.Script{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := script(Plan{Job: tt.job}); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestInvocation(t *testing.T) {
	t.Parallel()
	abc, empty := "abc", ""
	const ofABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" // FIPS 180-4
	const ofNothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for _, tt := range []struct {
		name string
		job  Job
		want audit.Invocation
	}{
		{"exec", Job{Request: wire.Request{Filename: "main.py"}}, audit.Invocation{Command: "exec"}},
		{"exec with arguments", Job{Request: wire.Request{Filename: "a.py", Argv: []string{"--token=x", "y"}}}, audit.Invocation{Command: "exec", Argv: []string{"a.py", "--token=***", "y"}}},
		{"exec with input", Job{Request: wire.Request{Stdin: &abc}}, audit.Invocation{Command: "exec", Stdin: &audit.Input{Bytes: 3, SHA256: ofABC}}},
		{"exec with no input in so many words", Job{Request: wire.Request{Stdin: &empty}}, audit.Invocation{Command: "exec", Stdin: &audit.Input{SHA256: ofNothing}}},
		{"bridge", Job{Command: "bridge", Request: wire.Request{Filename: "main.py"}}, audit.Invocation{Command: "bridge"}},
		{"run", Job{Live: &Live{Argv0: "./a.py", File: "/a.py"}}, audit.Invocation{Command: "run", Argv: []string{"./a.py"}}},
		{"run with a secret", Job{Live: &Live{Argv0: "-"}, Request: wire.Request{Argv: []string{"--password", "hunter2", "z"}}}, audit.Invocation{Command: "run", Argv: []string{"-", "--password", "***", "z"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := invocation(tt.job); !reflect.DeepEqual(*got, tt.want) {
				t.Errorf("got %+v, want %+v", *got, tt.want)
			}
		})
	}
}

// The arguments in a record are bounded in number and length, and the record counts those left out.
func TestArgumentsAreBounded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		argv    []string
		shown   int
		dropped int
	}{
		{"few", []string{"a", "b"}, 2, 0},
		{"many", strings.Split(strings.Repeat("x ", 1000), " "), argsMost, 1001 - argsMost},
		{"long", []string{"a", strings.Repeat("ä", 1<<20), "b"}, 3, 0},
		{"many and long", strings.Split(strings.Repeat(strings.Repeat("y", 5000)+" ", 20), " "), 7, 14},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			shown, dropped := arguments(tt.argv)
			if len(shown) != tt.shown || dropped != tt.dropped {
				t.Errorf("%d shown, %d dropped, want %d and %d", len(shown), dropped, tt.shown, tt.dropped)
			}
			for i, arg := range shown {
				if cut := len(tt.argv[i]) > argMost; cut != strings.HasSuffix(arg, "…") || len(arg) > argMost+len("…") {
					t.Errorf("argument %d of %d bytes: %d bytes", i, len(tt.argv[i]), len(arg))
				}
			}
		})
	}
}

func TestAuth(t *testing.T) {
	t.Parallel()
	alice := 1000
	for _, tt := range []struct {
		name    string
		environ []string
		login   *int
		want    audit.Auth
	}{
		{"nobody logged in", nil, nil, audit.Auth{Method: "os-user", OSUser: "root"}},
		{"a login", nil, &alice, audit.Auth{Method: "os-user", OSUser: "root", LoginUID: &alice}},
		{"sudo", []string{"SUDO_USER=alice", "SUDO_UID=1000"}, &alice, audit.Auth{Method: "os-user", OSUser: "root", LoginUID: &alice, SudoUser: "alice", SudoSource: "login-uid"}},
		{"sudo of another", []string{"SUDO_USER=bob", "SUDO_UID=1001"}, &alice, audit.Auth{Method: "os-user", OSUser: "root", LoginUID: &alice, SudoUser: "bob", SudoSource: "asserted"}},
		{"sudo without a login", []string{"SUDO_USER=alice", "SUDO_UID=1000"}, nil, audit.Auth{Method: "os-user", OSUser: "root", SudoUser: "alice", SudoSource: "asserted"}},
		{"a name that is not the user's", []string{"SUDO_USER=bob", "SUDO_UID=1000"}, &alice, audit.Auth{Method: "os-user", OSUser: "root", LoginUID: &alice, SudoUser: "bob", SudoSource: "asserted"}},
		{"no user", []string{"SUDO_USER=", "SUDO_UID=1000"}, &alice, audit.Auth{Method: "os-user", OSUser: "root", LoginUID: &alice}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			job := Job{Environ: tt.environ, LoginUID: tt.login, Caller: Caller{0, "root", ""}}
			if got := auth(Plan{Job: job}, func(name string, uid int) bool { return name == "alice" && uid == 1000 }); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestHandedOn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		value string
		limit float64
		want  string
	}{
		{"2048", 1024, "1024"}, {"512", 1024, "512"}, {"512", 0.5, "0.5"}, {"700.9", 1024, "700"}, {"0", 1024, "1024"}, {"1", 1, "1"},
		{"", 1024, ""}, {"much", 1024, ""}, {"-1", 1024, ""}, {"NaN", 1024, ""}, {"2048", 0, ""}, {"Inf", 1024, "1024"},
	} {
		for _, name := range []string{maxMemory, maxCPU} {
			limits := wire.Limits{MemoryMB: 77, CPUSeconds: 77}
			if name == maxMemory {
				limits.MemoryMB = tt.limit
			} else {
				limits.CPUSeconds = tt.limit
			}
			job := Job{Environ: []string{name + "=" + tt.value}}
			job.Config.Security.Isolation.EnvKeep = []string{"*"} // the caller's own is not in it as well
			got := ""
			for _, e := range environment(job, limits, "/w") {
				if value, ok := strings.CutPrefix(e, name+"="); ok {
					got += value
				}
			}
			if got != tt.want {
				t.Errorf("%s of %q with a limit of %v: %q, want %q", name, tt.value, tt.limit, got, tt.want)
			}
		}
	}
}

func TestGrace(t *testing.T) {
	t.Parallel()
	job := Job{Config: config.Default(), Dir: "/home/alice"}
	for _, s := range []float64{0.5, 0.001, 7} {
		job.Config.Security.GraceSeconds = s
		plan, err := Make(Plan{Job: job, Interpreter: python.Interpreter{Path: "/usr/bin/python3"}, Limits: wire.Limits{}}, Facts{RunID: aRunID})
		if err != nil || plan.Spec.Grace.Seconds() != s {
			t.Errorf("%v: %v, %v", s, plan.Spec.Grace, err)
		}
	}
}
