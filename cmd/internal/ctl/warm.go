package ctl

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"py3run/cmd/internal/cli"
	"py3run/cmd/internal/warm"
)

func (a *app) warm() *cobra.Command {
	root := &cobra.Command{
		Use:   "warm",
		Short: "Start, stop and show templates: processes that keep interpreters ready",
		Long: `With warm.enabled = true in the configuration, a run takes an interpreter that is already started,
in a sandbox of its own. A template keeps some of them ready. There is one template for each
interpreter, policy and list of modules (warm.preload). The first run that needs it starts it,
unless "warm start" has done so. It ends when it was unused for security.idle-timeout-seconds. Runs
do not depend on templates: without one, a run starts an interpreter itself.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			c.Help()
			return cli.ExitCode(exitUsage)
		},
	}
	var format string
	status := &cobra.Command{Use: "status", Short: "Show the templates of this user", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			return a.warmStatus(format)
		}}
	status.Flags().StringVar(&format, "format", "", "text or json (default: text on a terminal, else json)")
	var set []string
	start := &cobra.Command{Use: "start", Short: "Start the template for runs with this configuration, and wait until it is ready", Args: cobra.NoArgs,
		Example: `  py3runctl warm start --set 'warm.preload=["pandas"]'`,
		RunE:    func(*cobra.Command, []string) error { return a.warmStart(set) }}
	start.Flags().StringArrayVar(&set, "set", nil, "set a configuration key for this call, as `key=value`; only runs with the same settings use the template")
	stop := &cobra.Command{Use: "stop [KEY...]", Short: "End all templates, or the named ones; runs under way go on",
		RunE: func(_ *cobra.Command, keys []string) error { return a.warmStop(keys) }}
	root.AddCommand(start, stop, status)
	return root
}

func (a *app) warmDir() (string, error) {
	if dir := warm.Dir(a.environ); dir != "" {
		return dir, nil
	}
	return "", errors.New("find the directory of templates: XDG_RUNTIME_DIR is not set")
}

// warmStart lets py3run start the template: a template serves only runs of the program that started it.
func (a *app) warmStart(set []string) error {
	args := []string{"warm-start"}
	if a.configFile != "" {
		args = append(args, "--config", a.configFile)
	}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	c := exec.Command(a.launcher(), args...)
	var failed strings.Builder
	c.Env, c.Stderr = a.environ, &failed
	out, err := c.Output()
	if err != nil {
		if text := failed.String(); text != "" {
			for line := range strings.Lines(text) {
				own, _ := strings.CutPrefix(line, "py3run: ")
				fmt.Fprint(a.err, "py3runctl: "+own)
			}
			return cli.ExitCode(exitFailed)
		}
		if errors.Is(err, exec.ErrNotFound) {
			err = errNoProgram
		}
		return fmt.Errorf("start template: %w", err)
	}
	var s warm.Status
	if err := json.Unmarshal(out, &s); err != nil {
		return fmt.Errorf("start template: %w", err)
	}
	fmt.Fprintf(a.out, "%s  %s  process %d\n", s.Key, s.Interpreter, s.Process)
	return nil
}

// launcher is the py3run beside this program, or the one in PATH.
func (a *app) launcher() string {
	const name = "py3run"
	if a.py3run != "" {
		return a.py3run
	}
	if own, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(own), name); isProgram(beside) {
			return beside
		}
	}
	return name
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

var (
	errNoTemplate = errors.New("there is none of this name")
	errNoProgram  = errors.New("py3run is neither beside py3runctl nor in PATH")
)

func (a *app) warmStop(keys []string) error {
	dir, err := a.warmDir()
	if err != nil {
		return err
	}
	list, err := warm.All(dir)
	if err != nil {
		return err
	}
	var live []string
	for _, s := range list {
		if s.Failed == "" {
			live = append(live, s.Key)
		}
	}
	if len(keys) == 0 {
		keys = live
	}
	var errs []error
	for _, key := range keys {
		if !slices.Contains(live, key) {
			errs = append(errs, fmt.Errorf("stop template %s: %w", key, errNoTemplate))
			continue
		}
		errs = append(errs, warm.Stop(dir, key))
	}
	return errors.Join(errs...)
}

func (a *app) warmStatus(format string) error {
	dir, err := a.warmDir()
	if err != nil {
		return err
	}
	list, err := warm.All(dir)
	if err != nil {
		return err
	}
	if formatOf(format, a.outIsTerminal) == "json" {
		for _, s := range list {
			if err := json.NewEncoder(a.out).Encode(s); err != nil {
				return err
			}
		}
		return nil
	}
	if len(list) == 0 {
		fmt.Fprintln(a.err, "py3runctl: no templates")
		return nil
	}
	d := logContext{width: cli.Width(a.environ, a.out)}
	t := d.newTable(false, column{title: "key"}, column{title: "process", right: true, rank: 4}, column{title: "interpreter", least: 12}, column{title: "preload", least: 10, rank: 2},
		column{title: "ready", right: true}, column{title: "running", right: true}, column{title: "served", right: true, rank: 1}, column{title: "memory", right: true}, column{title: "unused", right: true, rank: 3})
	var failed [][2]string
	for _, s := range list {
		unused := time.Since(s.LastUse).Round(time.Second).String()
		if s.Failed != "" {
			failed = append(failed, [2]string{s.Key, "not started " + unused + " ago: " + s.Failed})
			continue
		}
		t.add(s.Key, fmt.Sprint(s.Process), s.Interpreter, strings.Join(s.Preload, ","), fmt.Sprint(s.Ready), fmt.Sprint(s.Running), fmt.Sprint(s.Served), fmt.Sprintf("%d MB", s.MemoryBytes>>20), unused)
	}
	if len(t.rows) > 0 {
		if err := t.write(a.out); err != nil {
			return err
		}
	}
	return d.fields(a.out, failed)
}
