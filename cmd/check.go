package cmd

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/launch"
	"py3run/cmd/internal/wire"
)

func newCheck(app *app) *cobra.Command {
	var format string
	var stored storedCheck
	c := &cobra.Command{
		Use:   "check FILE|-",
		Short: "Check the syntax of a script, or a request for a stored one; run nothing of it",
		Long: `Compiles a script with the interpreter that would run it. Prints a line for each finding, FILE:LINE:COLUMN: error: TEXT,
and ends with code 1 if there is an error.

With --script it checks a request for a stored script: whether the script exists, whether this user may run it, whether
the variables are those that it declares, and its syntax. No record is written.`,
		Example: `  py3run check job.py
  py3run check --format json - < job.py
  py3run check --script tank/daily@3 --variables '{"tank_id": 17}'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if format != "text" && format != "json" {
				return usagef("--format %q: want text or json", format)
			}
			asked := c.Flags().Changed("script")
			switch {
			case asked && len(args) > 0:
				return usagef("--script: want no file beside it")
			case asked:
				return app.checkStored(stored, format == "json")
			case c.Flags().Changed("variables"):
				return usagef("--variables: want --script with it")
			case len(args) == 0:
				return usagef("requires a file, - or --script")
			}
			return app.check(args[0], format == "json")
		},
	}
	app.runFlags(c)
	app.keyFlags(c)
	c.Flags().StringVar(&format, "format", "text", "form of the output: `text|json`")
	c.Flags().StringVar(&stored.script, "script", "", "check a request for this stored `script`, NAME or NAME@VERSION")
	c.RegisterFlagCompletionFunc("script", app.completeScripts)
	c.Flags().StringVar(&stored.variables, "variables", "", "variables of that request: an `object` of JSON, or - for standard input")
	c.Flags().StringVar(&stored.user, "user", "", "check for this `name` of a user, as the caller asserts it")
	return c
}

// syntax is what the command check_syntax finds.
type syntax struct {
	Errors []struct {
		Line     int    `json:"line"`
		Column   int    `json:"column"`
		Message  string `json:"message"`
		Severity string `json:"severity"`
	} `json:"errors"`
}

func (app *app) check(name string, asJSON bool) error {
	if err := wire.MisplacedKey("FILE", name); err != nil {
		return err
	}
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
	var found syntax
	if err := json.Unmarshal(result.Result, &found); err != nil {
		return fmt.Errorf("check %s: %w", shown, err)
	}
	if asJSON {
		fmt.Fprintf(app.out, "%s\n", result.Result)
	} else {
		app.tellSyntax(shown, found)
	}
	return found.exit()
}

func (app *app) tellSyntax(shown string, found syntax) {
	for _, f := range found.Errors {
		fmt.Fprintf(app.out, "%s:%d:%d: %s: %s\n", shown, f.Line, f.Column, f.Severity, f.Message)
	}
}

// exit is the exit code of what was found.
func (s syntax) exit() error {
	for _, f := range s.Errors {
		if f.Severity == "error" {
			return exitCode(1)
		}
	}
	return nil
}

// A storedCheck is a request for a stored script, as the flags of check have it.
type storedCheck struct{ script, variables, user string }

// storedRequest is what exec would have read, so that the same rules hold.
func (app *app) storedRequest(s storedCheck, most float64) (wire.Request, error) {
	variables := []byte("{}")
	switch {
	case s.variables == "-":
		text, err := io.ReadAll(io.LimitReader(app.in, int64(most*(1<<20))+1))
		if err != nil {
			return wire.Request{}, fmt.Errorf("read variables: %w", cause(err))
		}
		variables = text
	case s.variables != "":
		variables = []byte(s.variables)
	}
	if _, err := wire.Parse(variables, depthMost); err != nil { // alone: it must not go on as another field
		return wire.Request{}, fmt.Errorf("--variables: %w", err)
	}
	text := wire.AppendJSON([]byte(`{"script":`), s.script)
	text = append(append(text, `,"variables":`...), variables...)
	if s.user != "" {
		text = wire.AppendJSON(append(text, `,"user":`...), s.user)
	}
	request, _, err := wire.Decode(append(text, '}'))
	return request, err
}

// variables reads the variables of a request by themselves.
func (app *app) variables(text string, most float64) (*wire.Object, error) {
	request, err := app.storedRequest(storedCheck{script: "any", variables: text}, most)
	return request.Variables, err
}

// depthMost is how deep variables may nest: as in a request, less its own object.
const depthMost = 63

// A checkedRequest is the answer to a check of a request in JSON.
type checkedRequest struct {
	OK      bool            `json:"ok"`
	Script  *wire.Script    `json:"script,omitempty"`
	Status  wire.Status     `json:"status,omitempty"` // that the request would have; absent: nothing keeps it from running
	Failure *wire.Failure   `json:"failure,omitempty"`
	Syntax  json.RawMessage `json:"syntax,omitempty"` // as of the command check_syntax
}

// checkStored checks a request for a stored script.
func (app *app) checkStored(s storedCheck, asJSON bool) error {
	loaded, err := config.Load(app.sources())
	if err != nil {
		return err
	}
	request, err := app.storedRequest(s, loaded.Config.Input.MaxRequestMB)
	if err == nil {
		err = app.withKey(&request, patienceOf(loaded.Config.Input))
	}
	if err != nil {
		return err
	}
	result := launch.Check(app.job(request, nil, loaded))
	answer := checkedRequest{OK: result.Status == wire.StatusOK, Script: result.Script}
	var found syntax
	if answer.OK {
		answer.Syntax = result.Result
		if err := json.Unmarshal(result.Result, &found); err != nil {
			return fmt.Errorf("check %s: %w", s.script, err)
		}
		answer.OK = found.exit() == nil
	} else {
		answer.Status, answer.Failure = result.Status, result.Failure
	}
	switch {
	case asJSON:
		err = app.encode(answer)
	case answer.Failure != nil:
		app.tell(result)
	case answer.Script != nil:
		app.tellSyntax(answer.Script.Name+"@"+answer.Script.Version, found)
	}
	if err == nil && !answer.OK {
		err = exitCode(1)
	}
	return err
}
