package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Suggest makes a command line name the flag that was perhaps meant by an unknown one, and say what value
// a flag wants.
func Suggest(root *cobra.Command) {
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok && errors.As(err, new(*strconv.NumError)) {
			return Usagef("invalid argument %q for --%s: want %s", bad.GetValue(), bad.GetFlag().Name, kindOf(bad.GetFlag().Value.Type()))
		}
		unknown, ok := errors.AsType[*pflag.NotExistError](err)
		if !ok {
			return err
		}
		e := &UsageError{Text: err.Error()}
		if near := nearFlags(c, unknown.GetSpecifiedName()); len(near) > 0 {
			e.Hint = fmt.Sprintf("did you mean %s? see %s --help", strings.Join(near, " or "), c.CommandPath())
		}
		return e
	})
}

// kindOf is a type of flags in words.
func kindOf(flagType string) string {
	switch {
	case flagType == "bool":
		return "true or false"
	case strings.HasPrefix(flagType, "float"):
		return "a number"
	}
	return "a whole number"
}

// nearFlags are at most three flags that begin with the name or differ from it in a few letters.
func nearFlags(c *cobra.Command, name string) (near []string) {
	if len(name) < 2 {
		return nil
	}
	// Cobra finds similar names only for commands, so the flags become commands here.
	names := &cobra.Command{SuggestionsMinimumDistance: max(2, len(name)/3)}
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
		}
	})
	begin := func(flag string) bool { return strings.HasPrefix(flag, name+"-") }
	for _, flag := range names.SuggestionsFor(name) {
		if begin(flag) { // usually the unit was left out
			return []string{"--" + flag}
		}
		near = append(near, "--"+flag)
	}
	return near[:min(len(near), 3)]
}

// Hint is what helps with a mistake on the command line: what was perhaps meant, or the help of the
// command.
func Hint(root *cobra.Command, args []string, err error) string {
	if e, ok := errors.AsType[*UsageError](err); ok && e.Hint != "" {
		return e.Hint
	}
	c, _, notFound := root.Find(args)
	if notFound != nil {
		c = root
	}
	return "see " + c.CommandPath() + " --help"
}
