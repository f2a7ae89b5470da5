package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/mattn/go-isatty"
)

// IsTerminal reports whether a file is a terminal.
func IsTerminal(f *os.File) bool { return isatty.IsTerminal(f.Fd()) }

// An Output remembers whether something that was written to it was lost: most commands, and cobra's
// help, print without looking.
type Output struct {
	File   *os.File
	Closed bool // it was closed when the program started; File leads to something that the caller does not have
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

// Lost is why something was lost. It is nil where the reader has only seen enough.
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
