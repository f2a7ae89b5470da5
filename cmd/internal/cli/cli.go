// Package cli is what the command lines of py3run and py3runctl have in common: what is a mistake in them, and that nothing is lost silently.
package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// A UsageError is a mistake on the command line.
type UsageError struct{ Text string }

func (e *UsageError) Error() string { return e.Text }

// IsUsage recognises such mistakes, cobra's own too, which have no type.
func IsUsage(err error) bool {
	if _, ok := errors.AsType[*UsageError](err); ok {
		return true
	}
	for _, start := range []string{"unknown ", "flag needed", "flag needs", "invalid argument", "accepts ", "requires ", "bad flag", "required flag"} {
		if strings.HasPrefix(err.Error(), start) {
			return true
		}
	}
	return false
}

// An Output remembers that something of it was lost: most commands, and cobra's help, only print.
type Output struct {
	File   *os.File
	Closed bool // it was closed when the program started: what File leads to now is nothing that the caller has
	lost   error
}

// Stdout is standard output.
func Stdout() *Output { return &Output{File: os.Stdout, Closed: Closed(1)} }

func (o *Output) Write(p []byte) (n int, err error) {
	if o.Closed {
		err = syscall.EBADF
	} else {
		n, err = o.File.Write(p)
	}
	if o.lost == nil {
		o.lost = err
	}
	return n, err
}

// Lost is why something was lost; nil also when the reader had seen enough.
func (o *Output) Lost() error {
	if o.lost == nil || errors.Is(o.lost, syscall.EPIPE) {
		return nil
	}
	err := o.lost
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err
	}
	return fmt.Errorf("write standard output: %w", err)
}

// AddHelp gives a command line the commands help and completion, which tell of what there is not.
func AddHelp(root *cobra.Command) {
	root.SetHelpCommand(&cobra.Command{
		Use: "help [COMMAND|TOPIC]", Short: "Help about a command or a topic",
		RunE: func(c *cobra.Command, args []string) error {
			of, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return &UsageError{fmt.Sprintf("help: no command and no topic %q", strings.Join(args, " "))}
			}
			return of.Help()
		},
	})
	root.InitDefaultCompletionCmd()
	if c, _, err := root.Find([]string{"completion"}); err == nil && c != root {
		c.Args, c.RunE = nil, func(*cobra.Command, []string) error {
			return &UsageError{"completion: want bash, fish, powershell or zsh"}
		}
	}
}
