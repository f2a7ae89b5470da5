//go:build !linux

// Py3run needs Linux: its namespaces, control groups and limits exist nowhere else, and a launcher without them would only pretend.
package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	fmt.Fprintf(os.Stderr, "py3run: error: start: py3run needs Linux (amd64 or arm64), this is %s/%s\npy3run: hint: run it in a Linux virtual machine or container\n", runtime.GOOS, runtime.GOARCH)
	os.Exit(125)
}
