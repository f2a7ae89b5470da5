package wire

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestSignalNames(t *testing.T) {
	t.Parallel()
	for number, name := range signals {
		if number > 0 && int(unix.SignalNum(name)) != number {
			t.Errorf("%s is %d here, want %d", name, unix.SignalNum(name), number)
		}
	}
}
