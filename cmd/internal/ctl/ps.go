package ctl

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"py3run/audit"
	"py3run/cmd/internal/store"
)

func (a *app) ps() *cobra.Command {
	var f filter
	var format string
	c := &cobra.Command{
		Use: "ps", Short: "Show the runs that are alive on this host", Args: cobra.NoArgs,
		Long: `Shows the runs of this log whose launchers live, the oldest first: what runs, for whom, since when, and
what it uses so far. The permissions of the log decide who sees them. A run that leaves no records
(security.audit.enabled = false) is not shown. What a run uses is known from its first tenth of a
second on, if its control group or its processes can be seen from here.`,
		Example: "  py3runctl ps\n  py3runctl ps --format json | jq 'select(.age_seconds > 3600) | .run_id'",
		RunE: a.seeing(func(d logContext) error {
			if err := oneOf("format", format, "text", "json", "csv"); err != nil {
				return err
			}
			return d.ps(f, format, time.Now())
		}),
	}
	f.identity(c, a)
	f.times(c)
	formatFlag(c, &format, "text", "json", "csv")
	return c
}

// shownLive is a run that is alive as ps prints it in JSON. The names are those of history.
type shownLive struct {
	RunID      string            `json:"run_id"`
	Started    string            `json:"started"`
	Age        float64           `json:"age_seconds"`
	User       string            `json:"user"`
	Auth       string            `json:"auth,omitempty"`
	OSUser     string            `json:"os_user,omitempty"`
	KeyID      string            `json:"key_id,omitempty"`
	Holder     string            `json:"holder,omitempty"`
	Client     string            `json:"client_ip,omitempty"`
	Host       string            `json:"host,omitempty"`
	Script     string            `json:"script,omitempty"`
	Version    string            `json:"script_version,omitempty"`
	Source     string            `json:"script_source,omitempty"`
	Path       string            `json:"script_path,omitempty"`
	Invocation string            `json:"invocation,omitempty"` // exec, run, python or bridge
	Command    string            `json:"command,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Code       string            `json:"code_sha256,omitempty"`
	CodeBytes  int64             `json:"code_bytes"`
	CPU        *float64          `json:"cpu_seconds,omitempty"`
	Memory     *int64            `json:"memory_bytes,omitempty"` // anonymous and shared
	Processes  *int              `json:"processes,omitempty"`    // and threads
	UseFrom    string            `json:"use_from,omitempty"`     // group or processes
	Launcher   int               `json:"launcher,omitempty"`     // process id
	Cancelled  string            `json:"cancelled_by,omitempty"` // who wants it to end
	StartSeq   uint64            `json:"start_seq"`
}

func (d logContext) ps(f filter, format string, now time.Time) error {
	wanted, err := f.query(now.In(d.local()))
	if err != nil {
		return err
	}
	runs, err := d.live()
	if err != nil {
		return err
	}
	wanted.Owner = d.only
	all := len(runs)
	runs = slices.DeleteFunc(runs, func(run audit.LiveRun) bool { return !wanted.Matches(store.RunOf(run.Start)) })
	out := bufio.NewWriter(d.out)
	switch d.formatOf(format) {
	case "csv":
		list := make([]shownLive, len(runs))
		for i, run := range runs {
			list[i] = shownAlive(run, time.Now())
		}
		return printList(d, format, list, liveColumns, liveCells)
	case "json":
		for _, run := range runs {
			if err := writeJSON(out, shownAlive(run, time.Now())); err != nil {
				return err
			}
		}
		return out.Flush()
	}
	if len(runs) == 0 {
		if all > 0 && d.only == "" {
			d.say("no such run is alive, and %s", counted(all, "other"))
		} else {
			d.say("no run is alive")
		}
		return nil
	}
	t := d.newTable(false, column{title: "user", least: 8, keep: assertedMark}, column{title: "script", least: 16}, column{title: "command", rank: 2}, column{title: "age", right: true},
		column{title: "cpu", right: true}, column{title: "memory", right: true}, column{title: "processes", right: true, rank: 3}, column{title: "launcher", right: true, rank: 1},
		column{title: "run", short: endOfRun})
	for _, run := range runs {
		s := shownAlive(run, time.Now())
		cpu, memory, processes, launcher := "", "", "", ""
		if s.CPU != nil {
			cpu = shortTime(time.Duration(*s.CPU * float64(time.Second)))
		}
		if s.Memory != nil {
			memory = shortSize(*s.Memory)
		}
		if s.Processes != nil {
			processes = fmt.Sprint(*s.Processes)
		}
		if s.Launcher > 0 {
			launcher = fmt.Sprint(s.Launcher)
		}
		t.add(named(s.User, store.Asserted(run.Start)), scriptOf(s.Script, s.Version), cmp.Or(s.Invocation, s.Command), shortTime(time.Duration(s.Age*float64(time.Second))),
			cpu, memory, processes, launcher, s.RunID)
	}
	if err := t.write(out); err != nil {
		return err
	}
	return out.Flush()
}

// liveColumns are the columns of ps as CSV. They stay; new ones come at the end.
var liveColumns = []string{"run_id", "started", "age_seconds", "user", "script", "cpu_seconds", "memory_bytes", "processes", "launcher", "start_seq",
	"auth", "os_user", "key_id", "holder", "client_ip", "host", "script_version", "script_source", "script_path", "invocation", "command", "labels", "code_sha256", "code_bytes", "use_from", "cancelled_by"}

func liveCells(s shownLive) []string {
	cpu, memory, processes, launcher := "", "", "", ""
	if s.CPU != nil {
		cpu = decimal(*s.CPU)
	}
	if s.Memory != nil {
		memory = strconv.FormatInt(*s.Memory, 10)
	}
	if s.Processes != nil {
		processes = strconv.Itoa(*s.Processes)
	}
	if s.Launcher > 0 {
		launcher = strconv.Itoa(s.Launcher)
	}
	return []string{s.RunID, s.Started, decimal(s.Age), s.User, s.Script, cpu, memory, processes, launcher, strconv.FormatUint(s.StartSeq, 10),
		s.Auth, s.OSUser, s.KeyID, s.Holder, s.Client, s.Host, s.Version, s.Source, s.Path, s.Invocation, s.Command, store.LabelText(s.Labels), s.Code, strconv.FormatInt(s.CodeBytes, 10), s.UseFrom, s.Cancelled}
}

// live are the runs that are alive. It says so if there are more than this user may see.
func (d logContext) live() ([]audit.LiveRun, error) {
	log, err := audit.OpenReader(d.dir)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	runs, unseen, err := log.LiveRuns()
	if unseen > 0 {
		d.warnf("this user may not see %d more runs of this log", unseen)
	}
	return runs, err
}

func shownAlive(run audit.LiveRun, now time.Time) shownLive {
	r := run.Start
	started, _ := time.Parse(time.RFC3339Nano, r.Timestamp)
	s := shownLive{RunID: r.RunID, Started: started.UTC().Format(time.RFC3339Nano), Age: secondsOf(age(r, started, now)), User: r.User.Name, Auth: string(r.Auth.Method), OSUser: r.Auth.OSUser, KeyID: r.Auth.KeyID, Holder: r.Auth.Holder,
		Client: r.Client.IP, Host: r.Host.Name, Script: r.Script.Name, Version: r.Script.Version, Source: string(r.Script.Source), Path: r.Script.Path, Command: r.Command, Labels: r.Labels, Code: r.Code.SHA256, CodeBytes: r.Code.Bytes, StartSeq: r.Seq}
	if r.Invoked != nil {
		s.Invocation = r.Invoked.Command
	}
	if run.Cancel != nil {
		s.Cancelled = run.Cancel.User.Name
	}
	if l := run.Live; l != nil && l.Namespace == ownNamespace() {
		s.Launcher = l.Launcher
		use, from := useOf(*l)
		s.UseFrom = from
		if use.CPU >= 0 && from != "" {
			cpu := secondsOf(use.CPU)
			s.CPU = &cpu
		}
		if use.Memory >= 0 && from != "" {
			s.Memory = &use.Memory
		}
		if use.Processes >= 0 && from != "" {
			s.Processes = &use.Processes
		}
	}
	return s
}

// ownNamespace is the pid namespace in which this process sees process ids.
func ownNamespace() string {
	name, _ := os.Readlink("/proc/self/ns/pid")
	return name
}

// age is how long ago a run has started, by the clock that nobody sets if it is the same boot.
func age(start audit.Record, started, now time.Time) time.Duration {
	var up unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &up)
	if start.Host.Boot != "" && start.Host.Boot == audit.ThisHost().Boot && start.Host.UptimeMS > 0 {
		return max(0, time.Duration(up.Nano())-time.Duration(start.Host.UptimeMS)*time.Millisecond)
	}
	return max(0, now.Sub(started))
}

// oneLive is the live run that a text means: its id, or how it begins or ends.
func (d logContext) oneLive(what string, runs []audit.LiveRun) (audit.LiveRun, error) {
	var found []audit.LiveRun
	var list []candidate
	for _, run := range runs {
		if !meansRun(what, run.Start.RunID) {
			continue
		}
		started, _ := time.Parse(time.RFC3339Nano, run.Start.Timestamp)
		found = append(found, run)
		list = append(list, candidate{run.Start.RunID, started, named(run.Start.User.Name, store.Asserted(run.Start)), "running"})
	}
	if err := d.ambiguous(what, list); err != nil {
		return audit.LiveRun{}, err
	}
	if len(found) == 1 {
		return found[0], nil
	}
	return audit.LiveRun{}, d.notAlive(what)
}
