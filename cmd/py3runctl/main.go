// Command py3runctl is for those who look after py3run: it reads the audit log, answers questions
// about past runs, and tells of what is unusual.
package main

import (
	"os"

	"py3run/cmd/internal/ctl"
)

func main() { os.Exit(ctl.Main(os.Args[1:])) }
