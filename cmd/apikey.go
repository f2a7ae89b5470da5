package cmd

import (
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"py3run/cmd/internal/access"
	"py3run/cmd/internal/config"
	"py3run/cmd/internal/wire"
	"py3run/internal/envvar"
	"py3run/sandbox"
)

// An API key comes with the request, in a file, or through a descriptor. It never stands in an
// argument or in the environment, where other processes could read it.
//
//	api_key in the request  >  --api-key-fd, --api-key-file  >  PY3RUN_API_KEY_FILE
//
// What was read of it is overwritten once it was used. That does not reach copies that the kernel has,
// in a pipe or in its cache of files, nor those that Go made when a buffer for a request grew. The
// memory of a launcher is undumpable from the moment on in which it has a key: no other process of
// its user can read it, and it leaves no core dump.

// keySource is where the API key comes from, apart from a request.
type keySource struct {
	file string
	fd   int         // -1: none
	held wire.Secret // what was read from fd: it can be read only once
}

// keyFlags adds the options for an API key.
func (app *app) keyFlags(c *cobra.Command) {
	app.key.fd = -1
	c.Flags().StringVar(&app.key.file, "api-key-file", "", "read the API key from this `file`, which only its owner can read")
	c.Flags().IntVar(&app.key.fd, "api-key-fd", -1, "read the API key from this `descriptor`, from 3 on")
	before := c.PreRunE
	c.PreRunE = func(c *cobra.Command, args []string) error {
		if before != nil {
			if err := before(c, args); err != nil {
				return err
			}
		}
		file, fd := c.Flags().Changed("api-key-file"), c.Flags().Changed("api-key-fd")
		switch {
		case file && fd:
			return usagef("--api-key-file and --api-key-fd exclude each other")
		case file && app.key.file == "": // a variable that is not set
			return usagef("--api-key-file: want the name of a file")
		case fd && app.key.fd < 3:
			return usagef("--api-key-fd %d: want a descriptor from 3 on", app.key.fd)
		}
		return nil
	}
}

// keyFile is the file with the API key, absolute; empty: there is none.
func (app *app) keyFile() string {
	name := app.key.file
	if name == "" && app.key.fd < 3 {
		name = envvar.Lookup(app.environ, config.KeyFileVariable)
	}
	if name == "" {
		return ""
	}
	path, err := filepath.Abs(name)
	if err != nil {
		return name
	}
	return path
}

// keyPlace is the file with the API key that no run may see; empty: there is none. What stands for a
// descriptor is no such file.
func (app *app) keyPlace() string {
	file := app.keyFile()
	if strings.HasPrefix(file, "/dev/") || strings.HasPrefix(file, "/proc/") {
		return ""
	}
	return file
}

// withKey gives a request the API key of this process, unless it has one of its own. The error is a
// *config.Error.
func (app *app) withKey(request *wire.Request, patience time.Duration) error {
	if len(request.Key) > 0 {
		sandbox.Conceal()
		return nil
	}
	var err error
	switch file := app.keyFile(); {
	case app.key.fd >= 3:
		sandbox.Conceal()
		if app.key.held == nil {
			app.key.held, err = access.ReadKeyFrom(app.key.fd, patience)
		}
		request.Key = append(wire.Secret{}, app.key.held...)
	case file != "":
		sandbox.Conceal()
		if request.Key, err = access.ReadKeyFile(file, patience); err != nil {
			err = app.fromKeyFile(err)
		}
	}
	return err
}

// fromKeyFile says who has named the file with the key: whoever has not may not know of it.
func (app *app) fromKeyFile(err error) error {
	from := "--api-key-file"
	if app.key.file == "" {
		from = config.KeyFileVariable
	}
	if e, ok := errors.AsType[*config.Error](err); ok {
		e.Where = from + ": " + e.Where
	}
	return err
}
