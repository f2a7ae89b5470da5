package cmd

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/launch"
	"py3run/cmd/internal/warm"
	"py3run/cmd/internal/wire"
)

// newWarm returns two hidden commands that only programs use. One is what a template runs. With the other,
// py3runctl starts a template: a template belongs to the executable file that starts it, so that has to
// be py3run.
func newWarm(app *app) []*cobra.Command {
	serve := &cobra.Command{Use: warm.ServeCommand, Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return warm.Serve(app.in) }}
	start := &cobra.Command{Use: "warm-start", Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			loaded, err := config.Load(app.sources())
			if err != nil {
				return err
			}
			loaded.Config.Warm.Enabled = true
			request := wire.Request{Command: wire.CommandExecute, ResultFormat: "plain", ResultFrom: "auto", Filename: "main.py"}
			status, err := launch.StartTemplate(app.job(request, nil, loaded), 3*time.Minute)
			if err != nil {
				return fmt.Errorf("start template: %w", err)
			}
			return json.NewEncoder(app.out).Encode(status)
		}}
	return []*cobra.Command{serve, start}
}
