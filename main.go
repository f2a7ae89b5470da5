//go:build linux

// Py3run runs Python code under limits, isolated, with a complete record of who ran what.
package main

import (
	"os"

	"py3run/cmd"
)

func main() { os.Exit(cmd.Main()) }
