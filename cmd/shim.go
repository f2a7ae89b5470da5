package cmd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"py3run/cmd/internal/config"
	"py3run/cmd/internal/python"
)

func newShim(app *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "shim install|remove DIR",
		Short: "Make or remove the links that stand in for python3",
		Long: `install makes links to py3run in a directory, with the names of interpreters: python, python3, and python3.N for each that is
found in PATH. Put the directory first in PATH, or name a link where a program wants the path of an interpreter.
remove removes them. Neither touches what is not a link to this py3run. See py3run help drop-in.`,
		Example: "  py3run shim install ~/.local/py3run/bin\n  py3run shim remove ~/.local/py3run/bin",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return usagef("shim: want install DIR or remove DIR") },
	}
	dir := func(args []string) (string, error) {
		if len(args) != 1 || args[0] == "" { // an empty one is a variable that is not set
			return "", usagef("shim: want one DIR")
		}
		return filepath.Abs(args[0])
	}
	c.AddCommand(
		&cobra.Command{Use: "install DIR", Short: "Make the links", Example: "  py3run shim install ~/.local/py3run/bin", RunE: func(_ *cobra.Command, args []string) error {
			path, err := dir(args)
			if err != nil {
				return err
			}
			return app.installShims(path)
		}},
		&cobra.Command{Use: "remove DIR", Short: "Remove the links", Example: "  py3run shim remove ~/.local/py3run/bin", RunE: func(_ *cobra.Command, args []string) error {
			path, err := dir(args)
			if err != nil {
				return err
			}
			return app.removeShims(path)
		}},
	)
	return c
}

// installShims makes the links. It makes all that it can, and then returns what it could not make.
func (app *app) installShims(dir string) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the path of py3run: %w", err)
	}
	want := python.Want{Interpreter: "auto", Environ: app.environ}
	loaded, err := config.Load(app.sources())
	if err != nil {
		return err
	}
	want.Interpreter = loaded.Config.Python.Interpreter
	var names []string
	for minor := python.Oldest; minor < 100; minor++ {
		names = append(names, fmt.Sprintf("python3.%d", minor))
	}
	found := map[string]string{} // name -> interpreter
	for _, name := range append(names, "python3", "python") {
		if path, _, err := python.PathFor(want, python.Link{Name: name}); err == nil && (path != "" || name == "python3" || name == "python") {
			if path == "" { // the configured one
				ip, _, err := python.FindFor(want, python.Link{Name: name})
				if err != nil {
					return err
				}
				path = ip.Path
				ip.Close()
			}
			found[name] = path
		}
	}
	if len(found) == 0 {
		return &config.Error{Where: "shim", Problem: "no interpreter in PATH that a link could stand for", Hint: "install Python 3.8 or newer, or name it with python.interpreter"}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		app.errorf("mkdir %s: %v", dir, cause(err))
		app.hintf("name a directory that you may make or write to")
		return exitCode(1)
	}
	code := exitCode(0)
	for _, name := range sortedNames(found) {
		path := filepath.Join(dir, name)
		switch err := makeLink(program, path); {
		case err != nil:
			app.errorf("link %s: %v", path, err)
			code = 1
		default:
			fmt.Fprintf(app.out, "%s -> %s\n", path, found[name])
		}
	}
	if code != 0 {
		app.hintf("a file that is no link to py3run stays: remove it, or name another directory")
		return code
	}
	return nil
}

// makeLink makes a link to the program, unless it is there already. It replaces nothing else than a link
// to a py3run that is gone.
func makeLink(program, path string) error {
	err := os.Symlink(program, path)
	if !errors.Is(err, fs.ErrExist) {
		return linkCause(err)
	}
	to, err := os.Readlink(path)
	switch {
	case err != nil:
		return errors.New("there is a file that is no link")
	case python.IsItself(path):
		return nil
	case filepath.Base(to) != filepath.Base(program):
		return errors.New("there is a link to " + to)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return errors.New("there is a link to another py3run, " + to)
	}
	if err := os.Remove(path); err != nil {
		return cause(err)
	}
	return linkCause(os.Symlink(program, path))
}

func linkCause(err error) error {
	if l, ok := errors.AsType[*os.LinkError](err); ok {
		return l.Err
	}
	return err
}

// removeShims removes the links to this py3run, and to one that is gone.
func (app *app) removeShims(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		app.errorf("read %s: %v", dir, cause(err))
		app.hintf("name the directory that py3run shim install has made the links in")
		return exitCode(1)
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the path of py3run: %w", err)
	}
	code, removed := exitCode(0), 0
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if !python.IsLinkName(e.Name()) {
			continue
		}
		to, err := os.Readlink(path)
		_, gone := os.Stat(path)
		if err != nil || !python.IsItself(path) && !(errors.Is(gone, syscall.ENOENT) && to == program) {
			app.warnf("%s stays: it is no link to this py3run", path)
			continue
		}
		if err := os.Remove(path); err != nil {
			app.errorf("remove %s: %v", path, cause(err))
			code = 1
			continue
		}
		removed++
		fmt.Fprintln(app.out, "removed "+path)
	}
	switch {
	case code != 0:
		return code
	case removed == 0:
		app.warnf("no link to this py3run in %s", dir)
	}
	return nil
}

// sortedNames lists names of interpreters by their version: python, python3, python3.8, python3.10.
func sortedNames(found map[string]string) (names []string) {
	for name := range found {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	return names
}
