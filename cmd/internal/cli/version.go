package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Release is the version of py3run and py3runctl. The linker sets it for a release:
//
//	go build -ldflags "-X py3run/cmd/internal/cli.Release=1.2.3" . ./cmd/py3runctl
var Release = "0.1.0-dev"

// Version is the line that a program prints about itself.
func Version(program string) string {
	revision := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value[:min(len(s.Value), 7)]
			}
		}
	}
	return fmt.Sprintf("%s %s (%s, %s)", program, Release, runtime.Version(), revision)
}

// NewVersion is the command that prints the version of root's program. The JSON form has these
// members as well.
func NewVersion(program string, members map[string]any) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Example: fmt.Sprintf("  %[1]s version\n  %[1]s version --format json", program),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := OneOf("format", format, "text", "json"); err != nil {
				return err
			}
			if format == "text" {
				fmt.Fprintln(c.OutOrStdout(), Version(program))
				return nil
			}
			all := map[string]any{"version": Release, "go": runtime.Version()}
			for name, value := range members {
				all[name] = value
			}
			return json.NewEncoder(c.OutOrStdout()).Encode(all)
		},
	}
	c.Flags().StringVar(&format, "format", "text", "`text|json`")
	return c
}
