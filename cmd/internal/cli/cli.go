// Package cli holds what the command lines of py3run and py3runctl have in common: what counts as a
// mistake, how messages look, how an error becomes an exit code, that no lost output goes
// unnoticed, and the version.
package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// The exit codes that all commands share. Commands with more of them say so in their help.
const (
	ExitFailed = 1 // findings or failure
	ExitUsage  = 2
)

// An ExitCode is an error that only carries a code: everything has been said.
type ExitCode int

func (e ExitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// A UsageError is a mistake on the command line.
type UsageError struct {
	Text string
	Hint string // what was perhaps meant; may be empty
}

func (e *UsageError) Error() string { return e.Text }

// Usagef makes a UsageError without a hint.
func Usagef(format string, args ...any) error {
	return &UsageError{Text: fmt.Sprintf(format, args...)}
}

// IsUsage recognises mistakes on the command line. Cobra's own have no type, only their texts.
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

// OneOf checks the value of a flag against those that it can have.
func OneOf(flag, given string, allowed ...string) error {
	if slices.Contains(allowed, given) {
		return nil
	}
	last := len(allowed) - 1
	return Usagef("invalid argument %q for --%s: want %s or %s", given, flag, strings.Join(allowed[:last], ", "), allowed[last])
}

// Messages are what a program says about itself on standard error: `PROGRAM: error: STEP OBJECT:
// CAUSE` and the like, in lower case and without a full stop.
type Messages struct {
	Program string
	Say     func(line []byte)
}

// Errorf says why something did not succeed.
func (m Messages) Errorf(format string, args ...any) { m.say("error: ", format, args) }

// Hintf says what to do about it.
func (m Messages) Hintf(format string, args ...any) { m.say("hint: ", format, args) }

// Warnf says what was done otherwise than asked.
func (m Messages) Warnf(format string, args ...any) { m.say("warning: ", format, args) }

func (m Messages) say(kind, format string, args []any) {
	m.Say(fmt.Appendf(nil, m.Program+": "+kind+format+"\n", args...))
}

// Exit turns what a command line has ended with into messages and an exit code. hint is what helps
// with an error; it may be empty.
func (m Messages) Exit(root *cobra.Command, args []string, err error, hint func(error) string) int {
	var own ExitCode
	switch {
	case errors.Is(err, syscall.EPIPE): // the reader has seen enough
		return 0
	case errors.As(err, &own):
		return int(own)
	case err != nil && IsUsage(err):
		m.Errorf("%v", err)
		m.Hintf("%s", Hint(root, args, err))
		return ExitUsage
	case err == nil:
		if err = lost(root.OutOrStdout()); err == nil {
			return 0
		}
	}
	m.Errorf("%v", err)
	if h := hint(err); h != "" {
		m.Hintf("%s", h)
	}
	return ExitFailed
}

func lost(out io.Writer) error {
	if o, ok := out.(*Output); ok {
		return o.Lost()
	}
	return nil
}
