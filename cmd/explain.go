package cmd

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/launch"
	"py3run/cmd/internal/wire"
	"py3run/sandbox"
)

func newExplain(app *app) *cobra.Command {
	var format string
	var o runOptions
	c := &cobra.Command{
		Use:   "explain [FILE [ARG...]]",
		Short: "Show what a run would be given here; run nothing",
		Long: `Plans a run on this host and prints the plan: interpreter, limits, isolation, files, environment, and what is missing.
It really tries the isolation, with nothing but "python -V" in it. A request on standard input is planned as exec would
do it, a FILE or a stored script (--script) as run would; its code does not run.`,
		Example: "  py3run explain\n  py3run explain report.py\n  py3run explain --format json < request.json\n  py3run explain --set security.isolation.network=none",
		Args:    cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if format != "text" && format != "json" {
				return usagef("--format %q: want text or json", format)
			}
			switch {
			case c.Flags().Changed("script") && o.script == "":
				return usagef("--script: want the name of a stored script")
			case c.Flags().Changed("variables") && o.script == "":
				return usagef("--variables: want --script with it")
			}
			o.args = args
			return app.explain(format, o)
		},
	}
	c.Flags().SetInterspersed(false)
	app.runFlags(c)
	app.keyFlags(c)
	c.Flags().StringVar(&format, "format", "text", "form of the output: `text|json`")
	c.Flags().StringVar(&o.script, "script", "", "plan a run of this stored `script`, NAME or NAME@VERSION")
	c.RegisterFlagCompletionFunc("script", app.completeScripts)
	c.Flags().StringVar(&o.variables, "variables", "", "variables of that run: an `object` of JSON, or - for standard input")
	c.Flags().StringVar(&o.user, "user", "", "plan for this `name` of a user, as the caller asserts it")
	return c
}

func (app *app) explain(format string, o runOptions) error {
	if err := o.misplacedKey(); err != nil {
		return err
	}
	loaded, err := config.Load(app.sources())
	if err != nil {
		return err
	}
	request := wire.Request{Command: wire.CommandExecute, ResultFormat: "plain", ResultFrom: "auto"}
	var warnings []wire.Warning
	var live *launch.Live
	var source []byte
	switch {
	case len(o.args) > 0 || o.script != "":
		if request, live, source, err = app.script(o); err != nil {
			return err
		}
		if o.variables != "" {
			if request.Variables, err = app.variables(o.variables, loaded.Config.Input.MaxRequestMB); err != nil {
				return err
			}
		}
		loaded.OnlyIfSet("security.max-output-size-mb")
	case !app.inIsTerminal:
		data, err := io.ReadAll(io.LimitReader(app.in, int64(loaded.Config.Input.MaxRequestMB*(1<<20))+1))
		if err != nil {
			return fmt.Errorf("read request: %w", cause(err))
		}
		if len(strings.TrimSpace(string(data))) > 0 {
			if request, warnings, err = wire.Decode(data); err != nil {
				return err
			}
		}
	}
	if o.user != "" {
		request.User = o.user
	}
	if err := app.withKey(&request, patienceOf(loaded.Config.Input)); err != nil {
		return err
	}
	job := app.job(request, warnings, loaded)
	job.Origins, job.Live, job.Source = loaded.Origins, live, source
	e := launch.Explain(job)
	if format == "json" {
		if err := app.encode(e); err != nil {
			return err
		}
	} else {
		app.explainText(e)
	}
	if e.Refused != nil {
		return exitCode(1)
	}
	return nil
}

// explainText prints an explanation, a line for each part that there is.
func (app *app) explainText(e launch.Explanation) {
	table := tabwriter.NewWriter(app.out, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(table, "%s\t%s\n", name, value)
		}
	}
	if id := e.Identity; id != nil {
		line("user", describeIdentity(id))
		line("roles", strings.Join(id.Roles, ", "))
		line("groups", strings.Join(id.Groups, ", "))
		line("policy", cmp.Or(id.Policy, "none"))
		line("rule", id.Rule)
	}
	if s := e.Script; s != nil {
		line("stored script", s.Name+"@"+s.Version)
	}
	if p := e.Python; p != nil {
		line("python", p.Version+" at "+p.Executable)
		line("virtual environment", p.Venv)
		line("through", strings.Join(e.Shims, ", "))
	}
	for _, s := range e.PassedOver {
		line("passed over", s.Path+" ("+s.From+"): "+s.Why)
	}
	if l := e.Limits; l != nil {
		var limits []string
		for _, name := range wire.LimitNames() {
			value, _ := l.Get(name)
			if value == 0 {
				limits = append(limits, name+" none")
			} else {
				limits = append(limits, fmt.Sprintf("%s %v", name, value))
			}
		}
		line("limits", strings.Join(limits, ", "))
	}
	for _, from := range e.LimitsFrom {
		line("limit from", from.Limit+": "+from.From)
	}
	line("working directory", e.WorkingDir)
	line("current directory", e.CurrentDir)
	if n := len(e.Files); n > 0 {
		names := strings.Join(e.Files[:min(n, 10)], ", ")
		if n > 10 {
			names += ", …"
		}
		line("files put in", fmt.Sprintf("%d files, %d bytes: %s", n, e.FileBytes, names))
	}
	line("files collected", strings.Join(e.Collect, ", "))
	line("network", e.Network)
	line("rate limits", ratesText(e.Rates))
	line("hidden", strings.Join(e.Hidden, ", "))
	line("read-only", strings.Join(e.ReadOnly, ", "))
	line("readable", strings.Join(e.ReadDirs, ", "))
	line("writable", strings.Join(e.WriteDirs, ", "))
	line("runs as", e.RunAs)
	line("environment", strings.Join(e.Environment, ", "))
	if e.AuditDir == "" && e.Refused == nil {
		line("audit log", "none: security.audit.enabled is false")
	}
	line("audit log", e.AuditDir)
	if i := e.Isolation; i != nil {
		line("method", i.Method)
		line("enforced", strings.Join(i.Enforced, ", "))
		for _, m := range i.Missing {
			line("missing", m.Name+": "+m.Why)
		}
		for _, effect := range e.Effects {
			line("effect", effect)
		}
	}
	table.Flush()
	for _, w := range e.Warnings {
		app.warnf("%s", w.Message)
	}
	if f := e.Refused; f != nil {
		app.errorf("this run would not start: %s", f.Message)
		if f.Hint != "" {
			app.hintf("%s", f.Hint)
		}
	}
}

// ratesText lists the rate limits of an explanation.
func ratesText(r *launch.Rates) string {
	if r == nil {
		return ""
	}
	if !r.Counted {
		return "none: runs of the operating-system user are not counted"
	}
	var list []string
	for _, limit := range []struct {
		name string
		most int
	}{{"per-user-per-minute", r.PerUserPerMinute}, {"per-user-per-hour", r.PerUserPerHour}, {"global-per-minute", r.GlobalPerMinute}, {"concurrent-per-user", r.ConcurrentPerUser}} {
		if limit.most > 0 {
			list = append(list, fmt.Sprintf("%s %d", limit.name, limit.most))
		}
	}
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// describeIdentity says who a run is for, and how that is known.
func describeIdentity(id *launch.Identity) string {
	text := id.User + ", " + map[string]string{"api-key": "by the API key " + id.KeyID, "os-user": "of the operating system", "asserted": "asserted, not proved", "none": "anonymous"}[id.Method]
	if id.Holder != "" {
		text += ", named by " + id.Holder
	}
	switch {
	case id.Policy == "" || id.Known:
	case id.Method == "asserted":
		text += ": the policy's roles and shares do not count"
	default:
		text += ", not known to the policy"
	}
	return text
}

func newDoctor(app *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Try each protection on this host; name the repair for what does not work",
		Long: `Really tries each protection on this host, for this user, and what else a run needs: interpreter, working directory,
audit log. For each that is missing it prints the cause and the command that repairs it. The exit code is 1 if one is
missing.`,
		Example: "  py3run doctor\n  py3run doctor --format json | jq '.[] | select(.ok | not)'",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if format != "text" && format != "json" {
				return usagef("--format %q: want text or json", format)
			}
			return app.doctor(format)
		},
	}
	c.Flags().StringVar(&format, "format", "text", "form of the output: `text|json`")
	return c
}

func (app *app) doctor(format string) error {
	loaded, err := config.Load(app.sources())
	if err != nil {
		return err
	}
	checks := launch.Doctor(app.job(wire.Request{}, nil, loaded))
	code := exitCode(0)
	for _, c := range checks {
		if !c.OK {
			code = 1
		}
	}
	if format == "json" {
		type check struct {
			Name    string `json:"name"`
			OK      bool   `json:"ok"`
			Finding string `json:"finding"`
			Cause   string `json:"cause,omitempty"`
			Repair  string `json:"repair,omitempty"`
		}
		list := make([]check, len(checks))
		for i, c := range checks {
			list[i] = check(c)
		}
		if err := app.encode(list); err != nil {
			return err
		}
	} else {
		app.doctorText(checks)
	}
	if code != 0 {
		return code
	}
	return nil
}

// encode prints a value as one line of JSON.
func (app *app) encode(value any) error {
	encoder := json.NewEncoder(app.out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

func (app *app) doctorText(checks []sandbox.Check) {
	for _, c := range checks {
		word := "ok"
		if !c.OK {
			word = "--"
		}
		fmt.Fprintf(app.out, "%s  %-15s %s\n", word, c.Name, c.Finding)
		if c.Cause != "" {
			fmt.Fprintf(app.out, "%20scause: %s\n", "", c.Cause)
		}
		if c.Repair != "" {
			fmt.Fprintf(app.out, "%20srepair: %s\n", "", c.Repair)
		}
	}
}
