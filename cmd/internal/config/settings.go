package config

import (
	"strings"
	"time"
)

// A setting is all that is known about one key. The type of fallback is the
// type of the setting: float64, int, bool, string, []string or reasons.
type setting struct {
	key      string            // path in the file
	field    func(*Config) any // pointer to its place
	fallback any
	doc      string // for people, without unit and bounds

	// Numbers. Every number may also be 0, which means no limit, unless
	// unlimited is excluded.
	min, max float64
	noZero   bool
	unit     string

	// Strings. One of choices, if there are any; true and false may be
	// written for two of them.
	choices         []string
	later           []string // choices of versions to come
	onTrue, onFalse string

	// Strings, each item of a list, each name of a table.
	rule *rule

	// Numbers always can have a ceiling, and less is stricter. Others can if
	// one of their values is the strict one: as a ceiling it is enforced.
	strict any

	// Where less means that something is lost for others: the number can have a floor. 0, no limit, is the highest.
	floor bool

	// A variable of the gateway's own convention that lowers the number.
	tightenedBy string

	// What leaves it alone has another meaning than what says its default.
	onlyIfSet bool

	// Why it cannot differ from user to user, although a ceiling can bound it.
	forAll string

	// What it costs a run, as far as that was measured: see examples/bench/RESULTS.md.
	cost string

	// Why only the file itself changes it, and no page.
	byHand string
}

// reasons is a default for a map: a map literal would be built in every
// process that links this package.
type reasons [][2]string

// A rule is what a text must be like, said three times: to people, as a
// regular expression for the JSON Schema, and exactly.
type rule struct {
	says    string
	pattern string
	holds   func(string) bool
}

// Bounds of numbers that are not 0: below, they would come out as no byte and
// no time at all; above, bytes and nanoseconds would not fit in 63 bits.
const (
	minMB, maxMB           = 1e-6, 1 << 30
	minSeconds, maxSeconds = 1e-3, 1e9
	maxCount               = 1 << 30
	maxRuns                = 1000000 // within a minute or an hour
	maxAtOnce              = 4096    // runs of one user
)

// settings is in the order of the file: keys of one section stand together.
// It holds constants and functions only, so that the linker lays it out and no
// process spends time on it.
var settings = [...]setting{
	{
		key: "security.max-memory-mb", field: func(c *Config) any { return &c.Security.MaxMemoryMB },
		fallback: 1024.0, min: minMB, max: maxMB, unit: "MB", tightenedBy: "PYTHON3_MAX_MEMORY_MB",
		doc: "memory of the whole process tree",
	},
	{
		key: "security.max-cpu-seconds", field: func(c *Config) any { return &c.Security.MaxCPUSeconds },
		fallback: 300.0, min: minSeconds, max: maxSeconds, unit: "seconds", tightenedBy: "PYTHON3_MAX_CPU_SECONDS",
		doc: "processor time of the whole process tree",
	},
	{
		key: "security.max-output-size-mb", field: func(c *Config) any { return &c.Security.MaxOutputSizeMB },
		fallback: 10.0, min: minMB, max: maxMB, unit: "MB",
		doc: "printed output of each stream, and the result; run limits its output only where this is set", onlyIfSet: true,
	},
	{
		key: "security.max-processes", field: func(c *Config) any { return &c.Security.MaxProcesses },
		fallback: 64, min: 1, max: maxCount,
		doc: "processes and threads of the whole tree",
	},
	{
		key: "security.max-open-files", field: func(c *Config) any { return &c.Security.MaxOpenFiles },
		fallback: 1024, min: 64, max: maxCount,
		doc: "open files of each process, at least 64",
	},
	{
		key: "security.max-file-size-mb", field: func(c *Config) any { return &c.Security.MaxFileSizeMB },
		fallback: 1024.0, min: minMB, max: maxMB, unit: "MB",
		doc: "size of each file that is written",
	},
	{
		key: "security.max-disk-mb", field: func(c *Config) any { return &c.Security.MaxDiskMB },
		fallback: 2048.0, min: minMB, max: maxMB, unit: "MB",
		doc: "size of everything in the working directory",
	},
	{
		key: "security.max-cpus", field: func(c *Config) any { return &c.Security.MaxCPUs },
		fallback: 0.0, min: 0.01, max: maxCount,
		doc: "processor time per second of the whole process tree, in processors; needs a control group",
	},
	{
		key: "security.max-read-mb-per-second", field: func(c *Config) any { return &c.Security.MaxReadMBPerSecond },
		fallback: 0.0, min: minMB, max: maxMB, unit: "MB",
		doc:  "reading from each block device, per second; needs a control group",
		cost: "with it or max-write-mb-per-second a start takes about 1.6 ms longer",
	},
	{
		key: "security.max-write-mb-per-second", field: func(c *Config) any { return &c.Security.MaxWriteMBPerSecond },
		fallback: 0.0, min: minMB, max: maxMB, unit: "MB",
		doc: "writing to each block device, per second; needs a control group",
	},
	{
		key: "security.execution-timeout-seconds", field: func(c *Config) any { return &c.Security.ExecutionTimeoutSeconds },
		fallback: 600.0, min: minSeconds, max: maxSeconds, unit: "seconds",
		doc: "wall-clock time of one run",
	},
	{
		key: "security.grace-seconds", field: func(c *Config) any { return &c.Security.GraceSeconds },
		fallback: 0.5, min: minSeconds, max: 600, noZero: true, unit: "seconds",
		doc: "time between the signal that asks a run to end, at a limit or from the caller, and the one that kills it",
	},
	{
		key: "security.idle-timeout-seconds", field: func(c *Config) any { return &c.Security.IdleTimeoutSeconds },
		fallback: 3600.0, min: minSeconds, max: maxSeconds, unit: "seconds",
		doc: "longest time without processor use and without output",
	},
	{
		key: "security.isolation.method", field: func(c *Config) any { return &c.Security.Isolation.Method },
		fallback: "auto", choices: []string{"auto", "namespace", "process"}, later: []string{"container"},
		doc: "how a run is isolated; auto: the strongest method that works here",
	},
	{
		key: "security.isolation.on-missing", field: func(c *Config) any { return &c.Security.Isolation.OnMissing },
		fallback: "warn", choices: []string{"warn", "refuse"}, strict: "refuse",
		doc: "what to do if the host cannot give a protection",
	},
	{
		key: "security.isolation.network", field: func(c *Config) any { return &c.Security.Isolation.Network },
		fallback: "host", choices: []string{"host", "none"}, strict: "none",
		doc: "the network that the code sees",
	},
	{
		key: "security.isolation.working-dir", field: func(c *Config) any { return &c.Security.Isolation.WorkingDir },
		fallback: DefaultWorkingDir, rule: &runDirectory,
		doc: "the directory that each run gets; ${uid}, ${userId} and ${executionId} are filled in. Let py3run make the directory above it, or other runs can remove this one",
	},
	{
		key: "security.isolation.shm", field: func(c *Config) any { return &c.Security.Isolation.Shm },
		fallback: "private", choices: []string{"private", "host"}, strict: "private",
		doc: "the /dev/shm of the code; private: its own, as large as its memory limit and counted there; host: the host's, where shared memory stays until it is unlinked",
	},
	{
		key: "security.isolation.cleanup-on-exit", field: func(c *Config) any { return &c.Security.Isolation.CleanupOnExit },
		fallback: true,
		doc:      "remove the working directory after the run",
	},
	{
		key: "security.isolation.hide", field: func(c *Config) any { return &c.Security.Isolation.Hide },
		fallback: []string(nil), rule: &absolutePath,
		doc: "more paths that the code does not see; it never sees the audit log and key files",
	},
	{
		key: "security.isolation.read-dirs", field: func(c *Config) any { return &c.Security.Isolation.ReadDirs },
		fallback: []string(nil), rule: &absolutePath,
		doc:  "if not empty, the code reads only these, what Python needs, and what it can write",
		cost: "a start takes about 1 ms longer",
	},
	{
		key: "security.isolation.write-dirs", field: func(c *Config) any { return &c.Security.Isolation.WriteDirs },
		fallback: []string(nil), rule: &absolutePath,
		doc: "if not empty, the code writes only these, the working directory, PYTHON3_DATA_DIR and /dev/null zero full tty shm ptmx pts; it can still change modes, owners, times and extended attributes",
	},
	{
		key: "security.isolation.dev", field: func(c *Config) any { return &c.Security.Isolation.Dev },
		fallback: "host", choices: []string{"host", "minimal"}, strict: "minimal",
		doc: "the /dev that the code sees; minimal: null, zero, full, random, urandom, tty, and a shm and pts of its own",
	},
	{
		key: "security.isolation.seccomp", field: func(c *Config) any { return &c.Security.Isolation.Seccomp },
		fallback: "default", choices: []string{"default", "off"}, strict: "default",
		doc: "system calls that the code cannot make; default: those that matter only to the host (modules, kexec, swap, clock, reboot, keyring …); off: none are refused",
	},
	{
		key: "security.isolation.no-new-privileges", field: func(c *Config) any { return &c.Security.Isolation.NoNewPrivileges },
		fallback: false, strict: true,
		doc: "programs gain no rights by set-user-ID bits or file capabilities (sudo does not work)",
	},
	{
		key: "security.isolation.run-as", field: func(c *Config) any { return &c.Security.Isolation.RunAs },
		fallback: "", rule: &userName,
		doc:    "as root: the user to become; empty: none",
		byHand: "it decides with which rights of the host code runs",
	},
	{
		key: "security.isolation.keep-capabilities", field: func(c *Config) any { return &c.Security.Isolation.KeepCapabilities },
		fallback: []string(nil), rule: &capabilityName,
		doc:    `as root: capabilities that the code keeps although they can undo the sandbox, such as "CAP_SYS_NICE"`,
		byHand: "it decides with which rights of the host code runs",
	},
	{
		key: "security.isolation.cgroup-parent", field: func(c *Config) any { return &c.Security.Isolation.CgroupParent },
		fallback: "auto", rule: &groupPath,
		doc: `the control group below which runs get theirs, such as "/py3run.slice"; auto: the launcher's own or the nearest that will do; none: no control groups`,
	},
	{
		key: "security.isolation.id-map", field: func(c *Config) any { return &c.Security.Isolation.IDMap },
		fallback: "own", choices: []string{"own", "subids"},
		doc:  "the users and groups in the user namespace of an ordinary user's run; own: this user and its group; subids: also those of /etc/subuid and /etc/subgid, through newuidmap and newgidmap; a start takes some milliseconds longer then, and is never warm",
		cost: "subids: a start takes some milliseconds longer, and is never warm",
	},
	{
		key: "security.isolation.env-keep", field: func(c *Config) any { return &c.Security.Isolation.EnvKeep },
		fallback: []string{"LANG", "LC_*", "TZ", "PATH", "HOME", "USER", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_*", "REQUESTS_CA_BUNDLE"},
		rule:     &variablePattern,
		doc:      "environment variables that the code gets",
	},
	{
		key: "security.audit.enabled", field: func(c *Config) any { return &c.Security.Audit.Enabled },
		fallback: true, strict: true,
		doc:  "write a record before and after each run",
		cost: "the two records, which are on the disk before and after the run, take about 2 ms",
	},
	{
		key: "security.audit.dir", field: func(c *Config) any { return &c.Security.Audit.Dir },
		fallback: "", rule: &absolutePathOrNone,
		doc:    "where the log is; empty: /var/log/py3run as root, else $XDG_STATE_HOME/py3run/audit",
		byHand: "the record of the change would stay in the log that is left",
	},
	{
		key: "security.audit.log-code", field: func(c *Config) any { return &c.Security.Audit.LogCode },
		fallback: false, strict: true,
		doc: "keep the code beside the log, in code/SHA256, readable for those who may read the log; false: record its SHA-256 and size",
	},
	{
		key: "security.audit.log-variables", field: func(c *Config) any { return &c.Security.Audit.LogVariables },
		fallback: "names", choices: []string{"names", "off", "hmac"}, onTrue: "names", onFalse: "off",
		doc: "what is recorded of the variables: names with types and sizes; hmac: also a keyed hash of each value's JSON, which proves a known value",
	},
	{
		key: "security.audit.log-output", field: func(c *Config) any { return &c.Security.Audit.LogOutput },
		fallback: "sizes", choices: []string{"sizes", "hash", "head"}, onFalse: "sizes",
		doc: "what is recorded of stdout, stderr and the result: sizes; hash: SHA-256 too; head: the first 512 bytes too, secrets included",
	},
	{
		key: "security.audit.group", field: func(c *Config) any { return &c.Security.Audit.Group },
		fallback: "", rule: &groupName,
		doc: "the group, by name or number, whose members may read the log and the kept code; empty: only its owner can",
	},
	{
		key: "security.audit.retention-days", field: func(c *Config) any { return &c.Security.Audit.RetentionDays },
		fallback: 90, min: 1, max: maxCount, unit: "days", floor: true,
		doc:    "age from which on py3runctl audit prune removes records (py3run itself removes none)",
		forAll: "all users share one log",
	},
	{
		key: "security.audit.on-failure", field: func(c *Config) any { return &c.Security.Audit.OnFailure },
		fallback: "refuse", choices: []string{"refuse", "warn"},
		doc: "what to do if the log cannot be written",
	},
	{
		key: "security.audit.native", field: func(c *Config) any { return &c.Security.Audit.Native },
		fallback: "auto", choices: []string{"auto", "on", "off"}, strict: "on",
		doc:  "also record what libraries and child programs connect to, send to, bind and start, as the kernel sees it (not: io_uring, sockets that were connected before); on: a host that cannot is treated as on-missing says",
		cost: "about 2 ms for each run; about 8 µs for each watched call, 20 µs for each program that is started",
	},
	{
		key: "security.audit.files", field: func(c *Config) any { return &c.Security.Audit.Files },
		fallback: "auto", choices: []string{"auto", "on", "off"}, strict: "on",
		doc:  "with security.audit.native: also record which files they write, make, rename and delete; each such call takes some microseconds more, Python's own too; on: as there",
		cost: "about 8 µs for each call that changes files: some seconds for a build that writes 100,000",
	},
	{
		key: "security.audit.reads", field: func(c *Config) any { return &c.Security.Audit.Reads },
		fallback: false, strict: true,
		doc:  "record also which files are opened for reading, but for modules and libraries; each opening takes some microseconds more",
		cost: "some microseconds for each file that is opened for reading",
	},
	{
		key: "security.rate-limit.per-user-per-minute", field: func(c *Config) any { return &c.Security.RateLimit.PerUserPerMinute },
		fallback: 60, min: 1, max: maxRuns,
		doc: "runs of one user that begin within any 60 seconds; users are those that a key proves or the request names",
	},
	{
		key: "security.rate-limit.per-user-per-hour", field: func(c *Config) any { return &c.Security.RateLimit.PerUserPerHour },
		fallback: 1000, min: 1, max: maxRuns,
		doc: "runs of one user that begin within any hour",
	},
	{
		key: "security.rate-limit.global-per-minute", field: func(c *Config) any { return &c.Security.RateLimit.GlobalPerMinute },
		fallback: 500, min: 1, max: maxRuns,
		doc: "runs of all these users together that begin within any 60 seconds",
	},
	{
		key: "security.rate-limit.concurrent-per-user", field: func(c *Config) any { return &c.Security.RateLimit.ConcurrentPerUser },
		fallback: 8, min: 1, max: maxAtOnce,
		doc: "runs of one user that are under way at once",
	},
	{
		key: "security.rate-limit.os-users", field: func(c *Config) any { return &c.Security.RateLimit.OSUsers },
		fallback: false, strict: true,
		doc: "also count and limit the operating-system user, if nobody else is named; false: it is counted by none of these, because a gateway, and a shell's loop, is one such user. Only a ceiling keeps a caller from switching it off",
	},
	{
		key: "input.max-request-mb", field: func(c *Config) any { return &c.Input.MaxRequestMB },
		fallback: 32.0, min: 1, max: 1024, noZero: true, unit: "MB",
		doc:    "size of a request",
		forAll: "a request is read before its user is known",
	},
	{
		key: "input.timeout-seconds", field: func(c *Config) any { return &c.Input.TimeoutSeconds },
		fallback: 10.0, min: minSeconds, max: maxSeconds, unit: "seconds",
		doc:    "longest wait for a byte on standard input",
		forAll: "a request is read before its user is known",
	},
	{
		key: "identity.require", field: func(c *Config) any { return &c.Identity.Require },
		fallback: false, strict: true,
		doc:    "deny a run unless its user is known: in the policy, and proved by an API key or by the operating system",
		forAll: "it is decided before the limits of a user are known",
	},
	{
		key: "python.interpreter", field: func(c *Config) any { return &c.Python.Interpreter },
		fallback: "auto", rule: &notEmpty,
		doc:    `which Python: auto, a path, a version as "3.12", or a venv directory`,
		byHand: "it names a program",
	},
	{
		key: "python.path", field: func(c *Config) any { return &c.Python.Path },
		fallback: []string(nil), rule: &absolutePath,
		doc: "directories to import from, besides the interpreter's own",
	},
	{
		key: "python.site", field: func(c *Config) any { return &c.Python.Site },
		fallback: "eager", choices: []string{"eager", "lazy"},
		doc:  "when Python looks at site-packages and .pth files; eager: at the start; lazy: when the code imports what the standard library does not have, which saves a quarter of the start",
		cost: "a start takes 1.7 of bare Python's time with eager, and 1.4 with lazy",
	},
	{
		key: "python.flag-imports", field: func(c *Config) any { return &c.Python.FlagImports },
		fallback: reasons{
			{"subprocess", "system command execution"},
			{"os", "operating system interface"},
			{"ctypes", "low-level memory access"},
			{"multiprocessing", "process creation"},
		},
		rule: &moduleName,
		doc:  "modules whose import the record flags, and why; a table here replaces the whole default",
	},
	{
		key: "python.outlive-caller", field: func(c *Config) any { return &c.Python.OutliveCaller },
		fallback: false,
		doc:      "let py3run python, and links to py3run, go on when the process that has started them ends",
	},
	{
		key: "warm.enabled", field: func(c *Config) any { return &c.Warm.Enabled },
		fallback: false,
		doc:      "keep interpreters ready, each in a sandbox of its own, so that runs start faster; the first run starts them, and they end after security.idle-timeout-seconds without a run",
		cost:     "a warm start takes as long as bare Python's, a cold one 1.7 of that; a template holds about 11 MB, and each waiting interpreter 5 MB",
	},
	{
		key: "warm.preload", field: func(c *Config) any { return &c.Warm.Preload },
		fallback: []string(nil), rule: &moduleName,
		doc:  `modules that the ready interpreters have imported, such as ["pandas"]`,
		cost: "with pandas preloaded, a job that imports it takes 0.06 s instead of 0.55 s; the template holds what the modules take",
	},
	{
		key: "warm.spares", field: func(c *Config) any { return &c.Warm.Spares },
		fallback: 2, min: 1, max: 64, noZero: true,
		doc:    "how many interpreters wait for a run",
		forAll: "users share the ready interpreters",
		cost:   "each holds about 5 MB, and takes 40 ms of processor time to make",
	},
	{
		key: "bridge.timeout-seconds", field: func(c *Config) any { return &c.Bridge.TimeoutSeconds },
		fallback: 25.0, min: minSeconds, max: maxSeconds, unit: "seconds",
		doc:    "wall-clock time of one request to a bridge, if security.execution-timeout-seconds is not less",
		forAll: "security.execution-timeout-seconds of a user holds for requests to a bridge, too",
	},
	{
		key: "bridge.state", field: func(c *Config) any { return &c.Bridge.State },
		fallback: "fresh", choices: []string{"fresh", "keep"}, strict: "fresh",
		doc:    "state of a bridge: with fresh each request has a new interpreter; with keep the requests of one user share one, and globals and modules stay",
		forAll: "a bridge chooses it before it knows a user",
	},
	{
		key: "alerts.denials", field: func(c *Config) any { return &c.Alerts.Denials },
		fallback: 5, min: 1, max: maxCount,
		doc:    "refusals of one user within alerts.denials-within-minutes that are an alert",
		forAll: "it is for the operator, not for a run",
	},
	{
		key: "alerts.denials-within-minutes", field: func(c *Config) any { return &c.Alerts.DenialsWithinMinutes },
		fallback: 5.0, min: 0.01, max: maxCount, noZero: true, unit: "minutes",
		doc:    "the time within which alerts.denials and alerts.rate-limits count",
		forAll: "it is for the operator, not for a run",
	},
	{
		key: "alerts.rate-limits", field: func(c *Config) any { return &c.Alerts.RateLimits },
		fallback: 30, min: 1, max: maxCount,
		doc:    "refusals of one user by security.rate-limit within alerts.denials-within-minutes that are an alert",
		forAll: "it is for the operator, not for a run",
	},
	{
		key: "alerts.keys", field: func(c *Config) any { return &c.Alerts.Keys },
		fallback: true,
		doc:      "alert at the use of an API key that is unknown, expired or revoked, or whose secret is wrong",
	},
	{
		key: "alerts.policy", field: func(c *Config) any { return &c.Alerts.Policy },
		fallback: true,
		doc:      "alert at roles that are granted, keys that may name any user, and a policy that was edited beside py3runctl",
	},
	{
		key: "alerts.limits-in-a-row", field: func(c *Config) any { return &c.Alerts.LimitsInARow },
		fallback: 3, min: 1, max: maxCount,
		doc:    "runs of one user and script in a row that end at a limit, which are an alert",
		forAll: "it is for the operator, not for a run",
	},
	{
		key: "alerts.new-modules", field: func(c *Config) any { return &c.Alerts.NewModules },
		fallback: true,
		doc:      "alert at a user's first import of a module of python.flag-imports",
	},
	{
		key: "alerts.new-hosts", field: func(c *Config) any { return &c.Alerts.NewHosts },
		fallback: true,
		doc:      "alert at the first connection to a host",
	},
	{
		key: "alerts.quiet-hours", field: func(c *Config) any { return &c.Alerts.QuietHours },
		fallback: "", rule: &hours,
		doc: `alert at runs that start in these hours, local time, such as "22:00-06:00"; empty: never`,
	},
	{
		key: "alerts.tampering", field: func(c *Config) any { return &c.Alerts.Tampering },
		fallback: true,
		doc:      "alert at repairs of the log, lost or early pruned records, clock jumps, orphaned runs, acknowledgements, damaged scripts and limits",
	},
	{
		key: "alerts.command", field: func(c *Config) any { return &c.Alerts.Command },
		fallback: []string(nil), rule: &notEmpty,
		doc:    "program and arguments that get each alert as JSON on standard input",
		byHand: "it names a program, which runs outside of any sandbox",
	},
	{
		key: "alerts.webhook", field: func(c *Config) any { return &c.Alerts.Webhook },
		fallback: "", rule: &webAddress,
		doc:    "address, http or https, that each alert is posted to as JSON",
		byHand: "such an address often holds a secret",
	},
}

// KeyFileVariable names the file with the API key, for callers that cannot give an option.
const KeyFileVariable = "PY3RUN_API_KEY_FILE"

// otherVariables start with PY3RUN_ and are read elsewhere.
var otherVariables = [...]string{
	"PY3RUN_CONFIG",
	KeyFileVariable,
	"PY3RUN_TEST_*",
	"PY3RUN_CASES*",
}

var (
	notEmpty = rule{
		says: "must not be empty", pattern: `.`,
		holds: func(s string) bool { return s != "" },
	}
	hours = rule{
		says: `must be like "22:00-06:00" or empty`, pattern: `^(([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9])?$`,
		holds: isHours,
	}
	webAddress = rule{
		says: "must be an http or https address or empty", pattern: `^(https?://.+)?$`,
		holds: func(s string) bool {
			rest, secure := strings.CutPrefix(s, "https://")
			if !secure {
				rest, _ = strings.CutPrefix(s, "http://")
			}
			return s == "" || rest != s && rest != ""
		},
	}
	absolutePath = rule{
		says: "must be an absolute path", pattern: `^/`,
		holds: isAbsolute,
	}
	absolutePathOrNone = rule{
		says: "must be an absolute path or empty", pattern: `^(/.*)?$`,
		holds: func(s string) bool { return s == "" || isAbsolute(s) },
	}
	runDirectory = rule{
		says:    `must be an absolute path with ${executionId} in it, no other variable than ${userId} and ${uid}, and no ".." between slashes`,
		pattern: `^/.*\$\{executionId\}`,
		holds:   isRunDirectory,
	}
	groupPath = rule{
		says: `must be auto, none, or an absolute path without ".."`, pattern: `^(auto|none|/.*)$`,
		holds: func(s string) bool {
			return s == "auto" || s == "none" || isAbsolute(s) && !strings.Contains(s+"/", "/../")
		},
	}
	userName = rule{
		says: "must be the name of a user", pattern: `^[^\s/:]*$`,
		holds: func(s string) bool { return !strings.ContainsAny(s, " \t\n/:") },
	}
	groupName = rule{
		says: "must be the name or the number of a group", pattern: `^[^\s/:]*$`,
		holds: func(s string) bool { return !strings.ContainsAny(s, " \t\n/:") },
	}
	capabilityName = rule{
		says: "must be the name of a capability, such as CAP_SYS_NICE", pattern: `^CAP_[A-Z_]+$`,
		holds: func(s string) bool {
			return strings.HasPrefix(s, "CAP_") && len(s) > 4 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") == ""
		},
	}
	variablePattern = rule{
		says: "must be the name of a variable, with a * at most at its end", pattern: `^([^=*?\[\]\s]+\*?|\*)$`,
		holds: func(s string) bool {
			return s != "" && !strings.ContainsAny(strings.TrimSuffix(s, "*"), "=*?[] \t")
		},
	}
	moduleName = rule{
		says: "must be the name of a module", pattern: `^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`,
		holds: isModuleName,
	}
)

func isAbsolute(path string) bool { return strings.HasPrefix(path, "/") }

// isRunDirectory wants ${executionId} so that two executions never share a
// directory. It looks for ".." with the variables filled in because a user id
// can be empty once it is cleaned.
func isRunDirectory(path string) bool {
	filled := strings.NewReplacer("${userId}", "", "${uid}", "0").Replace(path)
	filled = strings.ReplaceAll(filled, "${executionId}", "x")
	return isAbsolute(path) && strings.Contains(path, "${executionId}") &&
		!strings.Contains(filled, "$") && !strings.Contains(filled+"/", "/../")
}

func isModuleName(name string) bool {
	for part := range strings.SplitSeq(name, ".") {
		for i, r := range part {
			letter := r == '_' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
			if !letter && (i == 0 || r < '0' || r > '9') {
				return false
			}
		}
		if part == "" {
			return false
		}
	}
	return true
}

// Default returns the configuration of a host that says nothing.
func Default() Config {
	var c Config
	for i := range settings {
		settings[i].set(&c, settings[i].fallback)
	}
	return c
}

func settingAt(key string) *setting {
	for i := range settings {
		if settings[i].key == key {
			return &settings[i]
		}
	}
	return nil
}

func (s *setting) hasCeiling() bool {
	switch s.fallback.(type) {
	case float64, int:
		return true
	}
	return s.strict != nil
}

// section and leaf split a key at its last dot.
func section(key string) string { return key[:max(0, strings.LastIndexByte(key, '.'))] }
func leaf(key string) string    { return key[strings.LastIndexByte(key, '.')+1:] }

// isSection reports whether keys stand below this one.
func isSection(key string) bool {
	for i := range settings {
		if strings.HasPrefix(settings[i].key, key+".") {
			return true
		}
	}
	return false
}

const variablePrefix = "PY3RUN_"

// variable returns the environment variable that sets a key.
func variable(key string) string {
	return variablePrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(key))
}

// settingOf finds the setting that a variable sets, without building the names
// of all.
func settingOf(name string) *setting {
	name = strings.TrimPrefix(name, variablePrefix)
	for i := range settings {
		if spellsAsVariable(settings[i].key, name) {
			return &settings[i]
		}
	}
	return nil
}

func spellsAsVariable(key, name string) bool {
	if len(key) != len(name) {
		return false
	}
	for i := range len(key) {
		c := key[i]
		switch {
		case c == '.' || c == '-':
			c = '_'
		case 'a' <= c && c <= 'z':
			c -= 'a' - 'A'
		}
		if c != name[i] {
			return false
		}
	}
	return true
}

func isHours(s string) bool {
	from, to, both := strings.Cut(s, "-")
	isTime := func(s string) bool {
		_, err := time.Parse("15:04", s)
		return err == nil && len(s) == 5
	}
	return s == "" || both && isTime(from) && isTime(to)
}
