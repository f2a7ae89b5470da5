//go:build linux

//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Py3run runs Python code under limits, isolated, with a record of who ran what.
package main

import (
	"os"

	"py3run/cmd"
)

func main() { os.Exit(cmd.Main()) }
