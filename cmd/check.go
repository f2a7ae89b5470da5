package cmd

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/launch"
	"py3run/cmd/internal/wire"
)

func newCheck(app *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "check FILE|-",
		Short: "Check the syntax of a script; run nothing of it",
		Long: `Compiles a script with the interpreter that would run it. Prints a line for each finding, FILE:LINE:COLUMN: error: TEXT,
and ends with code 1 if there is an error.`,
		Example: `  py3run check job.py
  py3run check --format json - < job.py`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if format != "text" && format != "json" {
				return usagef("--format %q: want text or json", format)
			}
			return app.check(args[0], format == "json")
		},
	}
	app.runFlags(c)
	c.Flags().StringVar(&format, "format", "text", "form of the output: `text|json`")
	return c
}

func (app *app) check(name string, asJSON bool) error {
	text, _, err := readScript(name, app.in)
	if err != nil {
		app.errorf("%v", err)
		return exitCode(2)
	}
	shown := name
	if name == "-" {
		shown = "<stdin>"
	}
	loaded, err := config.Load(app.sources())
	if err != nil {
		return err
	}
	job := app.job(wire.Request{Command: wire.CommandCheckSyntax, Filename: shown, ResultFormat: "plain", ResultFrom: "auto"}, nil, loaded)
	job.Source = append([]byte{}, text...) // not nil, also for an empty file: nil would mean Request.Code
	result := launch.Run(job).Result
	if result.Status != wire.StatusOK {
		return app.tell(result)
	}
	var found struct {
		Errors []struct {
			Line     int    `json:"line"`
			Column   int    `json:"column"`
			Message  string `json:"message"`
			Severity string `json:"severity"`
		} `json:"errors"`
	}
	if err := json.Unmarshal(result.Result, &found); err != nil {
		return fmt.Errorf("check %s: %w", shown, err)
	}
	if asJSON {
		fmt.Fprintf(app.out, "%s\n", result.Result)
	}
	code := exitCode(0)
	for _, f := range found.Errors {
		if f.Severity == "error" {
			code = 1
		}
		if !asJSON {
			fmt.Fprintf(app.out, "%s:%d:%d: %s: %s\n", shown, f.Line, f.Column, f.Severity, f.Message)
		}
	}
	if code != 0 {
		return code
	}
	return nil
}
