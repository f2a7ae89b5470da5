package launch

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"py3run/audit"
	"py3run/cmd/internal/access"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/python"
	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

func TestEffective(t *testing.T) {
	t.Parallel()
	all := config.Security{ExecutionTimeoutSeconds: 600, MaxCPUSeconds: 300, MaxMemoryMB: 1024, MaxProcesses: 64, MaxOutputSizeMB: 10,
		MaxFileSizeMB: 100, MaxDiskMB: 2048, IdleTimeoutSeconds: 3600}
	same := wire.Limits{TimeoutSeconds: 600, CPUSeconds: 300, MemoryMB: 1024, Processes: 64, OutputMB: 10, FileMB: 100, DiskMB: 2048, IdleSeconds: 3600}
	tests := []struct {
		name     string
		config   config.Security
		asked    wire.Limits
		warnings []string
		want     wire.Limits
	}{
		{"nothing asked", all, wire.Limits{}, nil, same},
		{"nothing at all", config.Security{}, wire.Limits{}, nil, wire.Limits{}},
		{"the same", all, same, nil, same},
		{"all tighter", all, wire.Limits{TimeoutSeconds: 1, CPUSeconds: 2, MemoryMB: 3, Processes: 4, OutputMB: 5, FileMB: 6, DiskMB: 7, IdleSeconds: 8}, nil,
			wire.Limits{TimeoutSeconds: 1, CPUSeconds: 2, MemoryMB: 3, Processes: 4, OutputMB: 5, FileMB: 6, DiskMB: 7, IdleSeconds: 8}},
		{"all looser", all, wire.Limits{TimeoutSeconds: 601, CPUSeconds: 301, MemoryMB: 1025, Processes: 65, OutputMB: 11, FileMB: 101, DiskMB: 2049, IdleSeconds: 3601},
			[]string{"timeout_seconds: 601 asked, the configuration allows 600", "cpu_seconds: 301 asked, the configuration allows 300", "memory_mb: 1025 asked, the configuration allows 1024",
				"processes: 65 asked, the configuration allows 64", "output_mb: 11 asked, the configuration allows 10", "file_mb: 101 asked, the configuration allows 100",
				"disk_mb: 2049 asked, the configuration allows 2048", "idle_seconds: 3601 asked, the configuration allows 3600"}, same},
		{"one of each", all, wire.Limits{TimeoutSeconds: 0.5, MemoryMB: 1e9}, []string{"memory_mb: 1e+09 asked, the configuration allows 1024"},
			wire.Limits{TimeoutSeconds: 0.5, CPUSeconds: 300, MemoryMB: 1024, Processes: 64, OutputMB: 10, FileMB: 100, DiskMB: 2048, IdleSeconds: 3600}},
		{"no limit tightened", config.Security{}, wire.Limits{TimeoutSeconds: 1e9, DiskMB: 1e-9}, nil, wire.Limits{TimeoutSeconds: 1e9, DiskMB: 1e-9}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, warnings := Effective(tt.config, tt.asked)
			if got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
			var said []string
			for _, w := range warnings {
				if w.Code != "clamped_limit" {
					t.Errorf("warning %s", w.Code)
				}
				said = append(said, w.Message)
			}
			if !slices.Equal(said, tt.warnings) {
				t.Errorf("warnings %q, want %q", said, tt.warnings)
			}
		})
	}
}

const aRunID = "01940000-0000-7000-8000-0123456789ab"

func TestWorkdir(t *testing.T) {
	t.Parallel()
	const template = "/tmp/p-${userId}-${executionId}"
	tests := []struct {
		name, template, user string
		want                 string
	}{
		{"plain", template, "alice", "/tmp/p-alice-80000123456789ab"},
		{"all that stays", template, "Az09-_", "/tmp/p-Az09-_-80000123456789ab"},
		{"mail address", template, "alice@example.org", "/tmp/p-aliceexampleorg-80000123456789ab"},
		{"too long", template, strings.Repeat("x", 100), "/tmp/p-xxxxxxxxxxxxxxxx-80000123456789ab"},
		{"empty", template, "", "/tmp/p-user-80000123456789ab"},
		{"nothing stays", template, "../../..", "/tmp/p-user-80000123456789ab"},
		{"another place", template, "/../../etc", "/tmp/p-etc-80000123456789ab"},
		{"a place of its own", "/tmp/${userId}/${executionId}", "..", "/tmp/user/80000123456789ab"},
		{"this place", "/tmp/${userId}/${executionId}", ".", "/tmp/user/80000123456789ab"},
		{"letters of others", template, "ünïcödé/𝔞", "/tmp/p-ncd-80000123456789ab"},
		{"NUL and newline", template, "a\x00b\nc", "/tmp/p-abc-80000123456789ab"},
		{"no UTF-8", template, "a\xffb", "/tmp/p-ab-80000123456789ab"},
		{"a name in the template's words", template, "${executionId}", "/tmp/p-executionId-80000123456789ab"},
		{"no user in the template", "/run/${executionId}", "alice", "/run/80000123456789ab"},
		{"untidy template", "//tmp/./x/../${executionId}/", "alice", "/tmp/80000123456789ab"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := workdir(tt.template, Facts{RunID: aRunID}, 1000, tt.user).Path; got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// The root, which all runs of a user share, is the part of the path before the first name that differs.
func TestRootOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ template, chosen, root, path string }{
		{config.DefaultWorkingDir, "", "/tmp/py3run-1000", "/tmp/py3run-1000/python3-al-80000123456789ab"},
		{config.DefaultWorkingDir, "/tmp/py3run-1000-1", "/tmp/py3run-1000-1", "/tmp/py3run-1000-1/python3-al-80000123456789ab"},
		{"/tmp/p-${userId}-${executionId}", "", "/tmp", "/tmp/p-al-80000123456789ab"},
		{"/srv/${userId}/a/${executionId}/w", "", "/srv", "/srv/al/a/80000123456789ab/w"},
		{"/srv/runs/x${executionId}", "", "/srv/runs", "/srv/runs/x80000123456789ab"},
		{"/${executionId}", "", "/", "/80000123456789ab"},
		{"//srv/./runs/../r/${executionId}/", "", "/srv/r", "/srv/r/80000123456789ab"},
	} {
		d := workdir(tt.template, Facts{RunID: aRunID, Root: tt.chosen}, 1000, "al")
		if d.Root != tt.root || d.Path != tt.path {
			t.Errorf("%s: %s in %s, want %s in %s", tt.template, d.Path, d.Root, tt.path, tt.root)
		}
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	keep := []string{"PATH", "LC_*", "HOME"}
	tests := []struct {
		name    string
		keep    []string
		limits  wire.Limits
		environ []string
		want    []string
	}{
		{"nothing", nil, wire.Limits{Processes: 4}, nil, []string{"TMPDIR=/w", "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "MKL_NUM_THREADS=1"}},
		{"what is kept", keep, wire.Limits{Processes: 4}, []string{"PATH=/bin", "LC_ALL=C", "LC_=x", "LC=y", "HOME=", "HOMER=z", "XPATH=1", "path=/"},
			[]string{"PATH=/bin", "LC_ALL=C", "LC_=x", "HOME=", "TMPDIR=/w", "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "MKL_NUM_THREADS=1"}},
		{"secrets and what steers the loader", keep, wire.Limits{Processes: 4}, []string{"PY3RUN_API_KEY_FILE=/k", "LD_PRELOAD=/x", "PYTHONPATH=/x", "PYTHONSTARTUP=/x", "AWS_SECRET_ACCESS_KEY=x"},
			[]string{"TMPDIR=/w", "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "MKL_NUM_THREADS=1"}},
		{"the data directory", nil, wire.Limits{Processes: 4}, []string{"PYTHON3_DATA_DIR=/data", "PYTHON3_MAX_MEMORY_MB=1"},
			[]string{"PYTHON3_DATA_DIR=/data", "TMPDIR=/w", "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "MKL_NUM_THREADS=1"}},
		{"the caller's TMPDIR", []string{"*"}, wire.Limits{Processes: 4}, []string{"TMPDIR=/evil", "A=1"}, []string{"A=1", "TMPDIR=/w", "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "MKL_NUM_THREADS=1"}},
		{"a name twice", keep, wire.Limits{Processes: 4}, []string{"PATH=/first", "PATH=/second"}, []string{"PATH=/first", "TMPDIR=/w", "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "MKL_NUM_THREADS=1"}},
		{"values with signs", keep, wire.Limits{Processes: 4}, []string{"PATH=a=b\nc"}, []string{"PATH=a=b\nc", "TMPDIR=/w", "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "MKL_NUM_THREADS=1"}},
		{"the caller's threads", nil, wire.Limits{Processes: 4, MemoryMB: 1}, []string{"OMP_NUM_THREADS=7", "MALLOC_ARENA_MAX=9"},
			[]string{"OMP_NUM_THREADS=7", "MALLOC_ARENA_MAX=9", "TMPDIR=/w", "OPENBLAS_NUM_THREADS=1", "MKL_NUM_THREADS=1"}},
		{"a memory limit", nil, wire.Limits{Processes: 1, MemoryMB: 1}, nil, []string{"TMPDIR=/w", "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "MKL_NUM_THREADS=1", "MALLOC_ARENA_MAX=2"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			job := Job{Environ: tt.environ}
			job.Config.Security.Isolation.EnvKeep = tt.keep
			if got := environment(job, tt.limits, "/w"); !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// Only a run with a terminal learns what the caller's terminal is. With a minimal /dev it can write to
// the terminal by the name that it has there.
func TestTerminalInPlan(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, dev     string
		live          *Live
		term, console bool
	}{
		{"exec", "minimal", nil, false, false},
		{"run with pipes", "minimal", &Live{}, false, false},
		{"run at a terminal", "host", &Live{Terminal: new(sandbox.Terminal)}, true, false},
		{"run at a terminal, minimal /dev", "minimal", &Live{Terminal: new(sandbox.Terminal)}, true, true},
	} {
		job := Job{Config: config.Default(), Live: tt.live, Request: wire.Request{Command: wire.CommandExecute}, Environ: []string{"TERM=xterm", "TERMCAP=x"}}
		job.Config.Security.Isolation.Dev, job.Config.Security.Isolation.WriteDirs = tt.dev, []string{"/srv"}
		p, err := Make(Plan{Job: job, Interpreter: python.Interpreter{Path: "/usr/bin/python3"}, Limits: wire.Limits{}}, Facts{RunID: aRunID})
		if err != nil {
			t.Fatal(err)
		}
		if term := slices.Contains(p.Spec.Env, "TERM=xterm"); term != tt.term || slices.Contains(p.Spec.Env, "TERMCAP=x") {
			t.Errorf("%s: environment %q", tt.name, p.Spec.Env)
		}
		if console := slices.Contains(p.Spec.WriteDirs, "/dev/console"); console != tt.console {
			t.Errorf("%s: can write %q", tt.name, p.Spec.WriteDirs)
		}
	}
}

func TestMake(t *testing.T) {
	t.Parallel()
	ip := python.Interpreter{Path: "/usr/bin/python3"}
	text := "x"
	base := func() Job {
		var c config.Config
		c.Security.Isolation = config.Isolation{Method: "auto", OnMissing: "refuse", Network: "host", WorkingDir: "/tmp/p-${userId}-${executionId}", CleanupOnExit: true}
		c.Security.MaxOpenFiles = 256
		c.Python.Path = []string{"/opt/lib"}
		c.Python.FlagImports = map[string]string{"os": "why"}
		return Job{Config: c, Dir: "/home/alice", Caller: Caller{1000, "alice", ""},
			Request: wire.Request{Command: wire.CommandExecute, Code: "1+1", Filename: "main.py", Argv: []string{"a", "b"}, Stdin: &text, ResultFormat: "plain", ResultFrom: "auto"}}
	}
	const work = "/tmp/p-alice-80000123456789ab"
	type seen struct {
		Workdir, CodeFile, Dir, Path, Shown, Code string
		Text, Show                                bool
		Argv, ImportPath, Hide                    []string
		OnMissing                                 sandbox.OnMissing
		DenyNetwork                               bool
	}
	inExec := seen{Workdir: work, CodeFile: work + ".py", Dir: work, Path: work + ".py", Shown: "main.py", Code: "1+1", Text: true,
		Argv: []string{work + ".py", "a", "b"}, ImportPath: []string{"/opt/lib"}, Hide: []string{"/var/log/py3run", "/var/cache/py3run"}, OnMissing: sandbox.Refuse}
	with := func(s seen, change func(*seen)) seen { change(&s); return s }
	tests := []struct {
		name   string
		change func(*Job)
		want   seen
	}{
		{"exec", func(j *Job) {}, inExec},
		{"exec for a user", func(j *Job) { j.Request.User = "../bob" }, with(inExec, func(s *seen) {
			s.Workdir, s.CodeFile = "/tmp/p-bob-80000123456789ab", "/tmp/p-bob-80000123456789ab.py"
			s.Dir, s.Path, s.Argv = s.Workdir, s.CodeFile, []string{s.CodeFile, "a", "b"}
		})},
		{"exec without a network", func(j *Job) { j.Config.Security.Isolation.Network = "none" }, with(inExec, func(s *seen) { s.DenyNetwork = true })},
		{"exec with an untidy hidden path", func(j *Job) { j.Config.Security.Isolation.Hide = []string{"/srv/./x/..//"} }, with(inExec, func(s *seen) { s.Hide = append([]string{"/srv"}, s.Hide...) })},
		{"exec with hidden paths", func(j *Job) { j.Config.Security.Isolation.Hide = []string{"/srv"} }, with(inExec, func(s *seen) { s.Hide = append([]string{"/srv"}, s.Hide...) })},
		{"evaluate", func(j *Job) {
			j.Request.Command, j.Request.Code, j.Request.Expression = wire.CommandEvaluate, "", "2+2"
		}, with(inExec, func(s *seen) { s.Code = "2+2" })},
		{"call", func(j *Job) {
			j.Request.Command, j.Request.Code, j.Request.Module, j.Request.Function = wire.CommandCallModule, "", "math", "sqrt"
		}, with(inExec, func(s *seen) { s.Code = "math.sqrt" })},
		{"check", func(j *Job) { j.Request.Command = wire.CommandCheckSyntax }, with(inExec, func(s *seen) { s.OnMissing = sandbox.Warn })},
		{"modules", func(j *Job) { j.Request.Command = wire.CommandListModules }, with(inExec, func(s *seen) { s.OnMissing = sandbox.Warn })},
		{"run a file", func(j *Job) {
			j.Source = []byte("\xff")
			j.Live = &Live{File: "/home/alice/src/job.py", Argv0: "src/job.py"}
		}, with(inExec, func(s *seen) {
			s.CodeFile, s.Dir, s.Path, s.Shown, s.Code, s.Text, s.Show = "", "/home/alice", "/home/alice/src/job.py", "src/job.py", "\xff", false, true
			s.Argv, s.ImportPath = []string{"src/job.py", "a", "b"}, []string{"/home/alice/src", "/opt/lib"}
		})},
		{"run an empty file", func(j *Job) {
			j.Request.Code, j.Source = "", []byte{}
			j.Live = &Live{File: "/home/alice/job.py", Argv0: "job.py"}
		}, with(inExec, func(s *seen) {
			s.CodeFile, s.Dir, s.Path, s.Shown, s.Code, s.Text, s.Show = "", "/home/alice", "/home/alice/job.py", "job.py", "", false, true
			s.Argv, s.ImportPath = []string{"job.py", "a", "b"}, []string{"/home/alice", "/opt/lib"}
		})},
		{"run code of an option", func(j *Job) { j.Live = &Live{Argv0: "-c"} }, with(inExec, func(s *seen) {
			s.Dir, s.Show = "/home/alice", true
			s.Argv, s.ImportPath = []string{"-c", "a", "b"}, []string{"/home/alice", "/opt/lib"}
		})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			job := base()
			tt.change(&job)
			before := slices.Clone(job.Config.Python.Path)
			p, err := Make(Plan{Job: job, Interpreter: ip, Limits: wire.Limits{TimeoutSeconds: 1.5, MemoryMB: 2, OutputMB: 0.5, Processes: 8}, Policy: []audit.ConfigFile{{Path: access.SystemFile}}}, Facts{RunID: aRunID, AuditDir: "/var/log/py3run", CacheDir: "/var/cache/py3run", FileMax: 1 << 20})
			if err != nil {
				t.Fatal(err)
			}
			got := seen{p.Dir.Path, p.CodeFile, p.Spec.Dir, p.Python.Path, p.Python.Shown, string(p.Python.Code), p.Python.Text, p.Python.PrintError,
				p.Python.Argv, p.Python.ImportPath, p.Spec.Hide, p.Spec.OnMissing, p.Spec.DenyNetwork}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("\n%+v, want\n%+v", got, tt.want)
			}
			if l := p.Spec.Limits; l.Wall != 1500*time.Millisecond || l.Memory != 2<<20 || l.Processes != 8 || l.OpenFiles != 256 || l.CPU != 0 || p.Python.OutputMost != 1<<19 {
				t.Errorf("limits %+v, output %d", l, p.Python.OutputMost)
			}
			if p.Spec.Path != ip.Path || p.Spec.FirstFile != 256 || p.Spec.DumpSignal != 63 || p.Spec.Method != sandbox.Auto || p.Python.Command != job.Request.Command {
				t.Errorf("%+v", p.Spec)
			}
			if !slices.Equal(job.Config.Python.Path, before) {
				t.Error("the plan has changed the configuration")
			}
		})
	}
}

// Each value of security.audit.native, and of files, is one that the sandbox knows. A command that runs no code of the
// user asks for no activity.
func TestMakeTrail(t *testing.T) {
	t.Parallel()
	tests := []struct {
		command wire.Command
		value   string
		want    sandbox.Requirement
	}{
		{wire.CommandExecute, "auto", sandbox.BestEffort},
		{wire.CommandExecute, "on", sandbox.Required},
		{wire.CommandExecute, "off", sandbox.NotRequested},
		{wire.CommandCheckSyntax, "on", sandbox.NotRequested},
	}
	for _, tt := range tests {
		job := Job{Config: config.Default(), Request: wire.Request{Command: tt.command}}
		job.Config.Security.Audit.Native = tt.value
		job.Config.Security.Audit.Files, job.Config.Security.Audit.Reads = tt.value, tt.value == "on"
		p, err := Make(Plan{Job: job, Interpreter: python.Interpreter{Path: "/usr/bin/python3"}, Limits: wire.Limits{}}, Facts{RunID: aRunID})
		if err != nil || p.Spec.Activity != tt.want || p.Spec.Files != tt.want || p.Spec.Reads != (tt.value == "on") || p.Python.Reads != p.Spec.Reads {
			t.Errorf("%s, %s: %q, %q, %t, %t, %v; want %q", tt.command, tt.value, p.Spec.Activity, p.Spec.Files, p.Spec.Reads, p.Python.Reads, err, tt.want)
		}
	}
}

func TestMakeHidden(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		hide     string
		audit    string
		template string
		file     string // the script of run; empty: exec
		want     string // the path that is needed and hidden; empty: Make returns a plan
	}{
		{"elsewhere", "/srv", "/var/log", "/tmp/${executionId}", "", ""},
		{"a path that only begins alike", "/tmp/80000123456789a", "", "/tmp/${executionId}", "", ""},
		{"below the working directory", "/tmp/80000123456789ab/x", "", "/tmp/${executionId}", "", ""},
		{"two dots in a name", "/usr/bin/python3/..x", "", "/tmp/${executionId}", "", ""},
		{"the place of the working directories", "/tmp", "", "/tmp/${executionId}", "", "/tmp/80000123456789ab"},
		{"the root", "/", "", "/tmp/${executionId}", "", "/tmp/80000123456789ab"},
		{"untidy", "/usr//./tmp/../../tmp/", "", "/tmp/${executionId}", "", "/tmp/80000123456789ab"},
		{"the interpreter", "/usr/bin/python3", "", "/tmp/${executionId}", "", "/usr/bin/python3"},
		{"above the interpreter", "/usr", "", "/tmp/${executionId}", "", "/usr/bin/python3"},
		{"the code's file", "/tmp/80000123456789ab.py", "", "/tmp/${executionId}", "", "/tmp/80000123456789ab.py"},
		{"work in the audit log", "", "/var/log/py3run", "/var/log/py3run/${executionId}", "", "/var/log/py3run/80000123456789ab"},
		{"the script", "/home/alice/secret", "", "/tmp/${executionId}", "/home/alice/secret/job.py", "/home/alice/secret/job.py"},
		{"the caller's directory", "/home", "", "/tmp/${executionId}", "/srv/job.py", "/home/alice"},
		{"the caller's directory, in exec", "/home", "", "/tmp/${executionId}", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			job := Job{Dir: "/home/alice", Request: wire.Request{Command: wire.CommandExecute}}
			job.Config.Security.Isolation.WorkingDir = tt.template
			if tt.hide != "" {
				job.Config.Security.Isolation.Hide = []string{tt.hide}
			}
			if tt.file != "" {
				job.Live = &Live{File: tt.file, Argv0: tt.file}
			}
			_, err := Make(Plan{Job: job, Interpreter: python.Interpreter{Path: "/usr/bin/python3"}, Limits: wire.Limits{}}, Facts{RunID: aRunID, AuditDir: tt.audit})
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var c *config.Error
			if !errors.As(err, &c) || c.Key != "isolation.hide" && c.Key != "security.isolation.hide" || !strings.Contains(err.Error(), " and "+tt.want+", which it needs") {
				t.Errorf("%v, want one about %s", err, tt.want)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	const most = math.MaxInt64 / 2
	tests := []struct {
		in             float64
		seconds, bytes int64
	}{
		{0, 0, 0},
		{-1, 0, 0},
		{1, 1e9, 1 << 20},
		{1.5, 15e8, 3 << 19},
		{1e-9, 1, 1},
		{1e-300, 1, 1},
		{math.SmallestNonzeroFloat64, 1, 1},
		{0.1, 1e8, 104858},
		{1e9, 1e18, 1048576e9},
		{1e12, most, 1048576e12},
		{1e13, most, most},
		{math.MaxFloat64, most, most},
		{math.Inf(1), most, most},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.in), func(t *testing.T) {
			t.Parallel()
			if got := seconds(tt.in); got != time.Duration(tt.seconds) {
				t.Errorf("%d ns, want %d", got, tt.seconds)
			}
			if got := megabytes(tt.in); got != tt.bytes {
				t.Errorf("%d bytes, want %d", got, tt.bytes)
			}
		})
	}
}

func TestDescriptors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		asked, hard int
		limit       int
		first       int
	}{
		{"room enough", 1024, 1 << 20, 1024, 1024},
		{"no limit", 0, 1 << 20, 0, 1024},
		{"a small limit", 10, 1 << 20, 10, 64},
		{"a table is not made endless", 1 << 20, 1 << 20, 1 << 20, 1 << 16},
		{"the hard limit is the limit", 1024, 1024, 1008, 1008},
		{"a hard limit below", 1024, 256, 240, 240},
		{"no limit under a hard one", 0, 256, 0, 240},
		{"hardly any", 1024, 12, 8, 8},
	}
	for _, tt := range tests {
		if limit, first := descriptors(tt.asked, tt.hard); limit != tt.limit || first != tt.first {
			t.Errorf("%s: limit %d, first %d, want %d, %d", tt.name, limit, first, tt.limit, tt.first)
		}
	}
}

// A run id is a UUID of version 7 (RFC 9562). It begins with the time, so that ids sort by time, and no
// two are equal.
func TestNewRunID(t *testing.T) {
	t.Parallel()
	shape := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	tests := []struct {
		name string
		at   time.Time
		want string
	}{
		{"the RFC's example", time.UnixMilli(0x017F22E279B0), "017f22e2-79b0-7"},
		{"the epoch", time.UnixMilli(0), "00000000-0000-7"},
		{"a nanosecond before the next", time.UnixMilli(1).Add(999999), "00000000-0001-7"},
		{"the last", time.UnixMilli(1<<48 - 1), "ffffffff-ffff-7"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			seen := map[string]bool{}
			for range 1000 {
				id := newRunID(tt.at)
				if !shape.MatchString(id) || !strings.HasPrefix(id, tt.want) || seen[id] {
					t.Fatalf("%s, want %s…", id, tt.want)
				}
				seen[id] = true
			}
		})
	}
}

func TestDirectories(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		environ []string
		want    string // the cache directory; empty: none, or the system's for root
	}{
		{"XDG", []string{"HOME=/h", "XDG_CACHE_HOME=/c"}, "/c/py3run"},
		{"XDG, relative", []string{"XDG_CACHE_HOME=c"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := CacheDir(tt.environ)
			if got != tt.want && (tt.want != "" || got != "/var/cache/py3run") {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
	var c config.Config
	c.Security.Audit.Dir = "/a"
	if dir, err := c.AuditDir(nil); dir != "/a" || err != nil {
		t.Errorf("%q, %v, want /a", dir, err)
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		in   any
		size int64
		want string
	}{
		{"null", nil, 4, "NoneType"},
		{"true", true, 5, "bool"},
		{"text", "abc", 5, "str"},
		{"integer", wire.Number("-12"), 3, "int"},
		{"float", wire.Number("1e5"), 3, "float"},
		{"list", &wire.Raw{Text: `[null, "a"]`, Size: 10}, 10, "list"},
		{"dict", &wire.Raw{Text: `{"k": 1}`, Size: 7}, 7, "dict"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, size := describe(tt.in); got != tt.want || size != tt.size {
				t.Errorf("%s of %d, want %s of %d", got, size, tt.want, tt.size)
			}
		})
	}
}

// With read-dirs or write-dirs, a run can use the directories that these name and those that Python
// needs. Without them nothing is restricted.
func TestPermitted(t *testing.T) {
	t.Parallel()
	job := Job{Environ: []string{"PYTHON3_DATA_DIR=/data", "PATH=/bin"}, Config: config.Default()}
	ip := python.Interpreter{Path: "/opt/py/bin/python3", Prefixes: []string{"/opt/py"}}
	permitted := func(importPath ...string) (r, w []string) {
		return permitted(Plan{Job: job, Interpreter: ip, Dir: sandbox.Dir{Path: "/tmp/w"}}, codePlace{file: "/tmp/w.py", importPath: importPath})
	}
	if r, w := permitted(); r != nil || w != nil {
		t.Errorf("%q, %q", r, w)
	}
	job.Config.Security.Isolation.WriteDirs = []string{"/out"}
	r, w := permitted()
	if r != nil || !slices.Contains(w, "/out") || !slices.Contains(w, "/tmp/w") || !slices.Contains(w, "/data") || !slices.Contains(w, "/dev/null") || slices.Contains(w, "/dev") {
		t.Errorf("%q, %q", r, w)
	}
	job.Config.Security.Isolation.WriteDirs, job.Config.Security.Isolation.ReadDirs = nil, []string{"/in"}
	r, w = permitted("/lib/mine")
	if w != nil {
		t.Errorf("%q", w)
	}
	for _, want := range []string{"/in", "/tmp/w", "/tmp/w.py", "/data", "/opt/py", "/opt/py/bin", "/usr", "/lib/mine"} {
		if !slices.Contains(r, want) {
			t.Errorf("%s is not readable: %q", want, r)
		}
	}
}

func TestAbsent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink("nowhere", link)); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		in   config.Isolation
		want []string
	}{
		{"nothing named", config.Isolation{}, nil},
		{"all there", config.Isolation{Hide: []string{dir}, ReadDirs: []string{file}, WriteDirs: []string{dir + "/."}}, nil},
		{"not there", config.Isolation{Hide: []string{dir + "/absent", dir}, ReadDirs: []string{file + "/below"}, WriteDirs: []string{link}},
			[]string{"security.isolation.hide: " + dir + "/absent does not exist", "security.isolation.read-dirs: " + file + "/below does not exist",
				"security.isolation.write-dirs: " + link + " does not exist", "python.path: " + dir + "/absent.zip does not exist"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, w := range absentPaths(config.Config{Security: config.Security{Isolation: tt.in}, Python: config.Python{Path: []string{dir, dir + "/absent.zip"}[:min(len(tt.want), 2)]}}) {
				if w.Code != "absent_path" {
					t.Errorf("code %s", w.Code)
				}
				got = append(got, w.Message)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestRunAsEnvironment(t *testing.T) {
	t.Parallel()
	job := Job{Environ: []string{"HOME=/root", "USER=root", "LANG=C"}, Config: config.Default()}
	job.Request.Command = wire.CommandExecute
	plan, err := Make(Plan{Job: job, Interpreter: python.Interpreter{Path: "/usr/bin/python3"}, Limits: wire.Limits{}}, Facts{RunID: "01900000-0000-7000-8000-0123456789ab", RunAs: &account{sandbox.User{UID: 7, GID: 8}, "plant", "/home/plant"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"HOME=/home/plant", "USER=plant", "LANG=C"} {
		if !slices.Contains(plan.Spec.Env, want) {
			t.Errorf("no %s in %q", want, plan.Spec.Env)
		}
	}
	if slices.Contains(plan.Spec.Env, "HOME=/root") || plan.Spec.RunAs.UID != 7 {
		t.Errorf("%q, %+v", plan.Spec.Env, plan.Spec.RunAs)
	}
}

func TestKeepCapabilities(t *testing.T) {
	t.Parallel()
	job := Job{Config: config.Default()}
	job.Config.Security.Isolation.KeepCapabilities = []string{"CAP_CHOWN"}
	var conf *config.Error
	if _, err := Make(Plan{Job: job, Interpreter: python.Interpreter{Path: "/p"}, Limits: wire.Limits{}}, Facts{RunID: "01900000-0000-7000-8000-0123456789ab"}); !errors.As(err, &conf) || conf.Key != "isolation.keep-capabilities" {
		t.Errorf("%v", err)
	}
}

// If each run sees only its own files in the root, a script there cannot run. Otherwise it can.
func TestRunFromTheRoot(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, template, file, dir string
		covered, refused          bool
	}{
		{"elsewhere", "/srv/runs/p-${executionId}", "/home/x.py", "/home", true, false},
		{"a file in it", "/srv/runs/p-${executionId}", "/srv/runs/x.py", "/home", true, true},
		{"the directory in it", "/srv/runs/p-${executionId}", "/home/x.py", "/srv/runs/kept", true, true},
		{"a file beside others", "/tmp/p-${executionId}", "/tmp/x.py", "/tmp", false, false},
	} {
		job := Job{Config: config.Default(), Request: wire.Request{Command: wire.CommandExecute}, Dir: tt.dir, Live: &Live{File: tt.file, Argv0: tt.file}}
		job.Config.Security.Isolation.WorkingDir = tt.template
		_, err := Make(Plan{Job: job, Interpreter: python.Interpreter{Path: "/usr/bin/python3"}, Limits: wire.Limits{}}, Facts{RunID: aRunID, RootPrivate: tt.covered, FileMax: 1 << 20})
		if (err != nil) != tt.refused {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// makeOwn returns the directories that it could not make although the code could. It does nothing in a
// home that does not exist.
func TestMakeOwn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(dir, "absent")
	p := Plan{Own: []string{filepath.Join(dir, "a", "b"), filepath.Join(file, "state")}, Config: []string{filepath.Join(home, ".config", "py3run")}}
	if open := p.makeOwn(home); !slices.Equal(open, []string{filepath.Join(file, "state")}) {
		t.Errorf("open %q", open)
	}
	if _, err := os.Stat(home); err == nil {
		t.Error("a home was made")
	}
	if info, err := os.Stat(filepath.Join(dir, "a", "b")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
}

// If a run needs a path in /dev/shm, it gets no private one: that would hide the path.
func TestShmOfTheHost(t *testing.T) {
	t.Parallel()
	for template, private := range map[string]bool{"/srv/w/${executionId}": true, "/dev/shm/w/${executionId}": false, "/dev/shmw/${executionId}": true} {
		job := Job{Config: config.Default(), Request: wire.Request{Command: wire.CommandExecute}}
		job.Config.Security.Isolation.WorkingDir = template
		p, err := Make(Plan{Job: job, Interpreter: python.Interpreter{Path: "/usr/bin/python3"}, Limits: wire.Limits{}}, Facts{RunID: aRunID, FileMax: 1 << 20})
		if err != nil || p.Spec.PrivateShm != private {
			t.Errorf("%s: %t, %v", template, p.Spec.PrivateShm, err)
		}
	}
}
