package warm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"py3run/internal/need"
)

const strangerDir = "PY3RUN_TEST_STRANGER" // the directory in which TestStrangerListens does

// A run that could write where templates listen could listen in a template's place. It is in a pid namespace of its own, which the kernel
// tells the launcher: nothing is taken from it, and it is told nothing. Without that namespace the same process is taken for a template.
func TestFalseTemplate(t *testing.T) {
	t.Parallel()
	id := []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
	group := []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
	tests := []struct {
		name    string
		spaces  uintptr
		refused bool
	}{
		{"no namespaces of its own", 0, false},
		{"a pid namespace", unix.CLONE_NEWUSER | unix.CLONE_NEWPID, true},
		{"pid and mount namespaces", unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNS, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.Chmod(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			stranger := exec.Command(self, "-test.run=^TestStrangerListens$")
			stranger.Env = append(os.Environ(), strangerDir+"="+dir)
			if tt.spaces != 0 {
				stranger.SysProcAttr = &syscall.SysProcAttr{Cloneflags: tt.spaces, UidMappings: id, GidMappings: group}
			}
			stdin, err := stranger.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			stdout, err := stranger.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := stranger.Start(); tt.spaces != 0 && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC)) {
				need.That(t, "userns", err)
			} else if err != nil {
				t.Fatal(err)
			}
			said := bufio.NewReader(stdout)
			if line, _ := said.ReadString('\n'); line != "listens\n" {
				rest, _ := io.ReadAll(said)
				t.Fatalf("the stranger says %s%s", line, rest)
			}
			lease, err := Take(dir, "key")
			if err == nil {
				lease.Close()
			}
			if tt.refused && (err == nil || !strings.Contains(err.Error(), "namespace")) || !tt.refused && err != nil {
				t.Errorf("%v; refused is wanted: %t", err, tt.refused)
			}
			stdin.Close()
			heard, _ := io.ReadAll(said)
			stranger.Wait()
			if tt.refused != strings.HasPrefix(string(heard), "heard 0 bytes") {
				t.Errorf("it %s", heard)
			}
		})
	}
}

// TestStrangerListens is the stranger of TestFalseTemplate: the test binary starts itself for it.
func TestStrangerListens(t *testing.T) {
	dir := os.Getenv(strangerDir)
	if dir == "" {
		return
	}
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := listen(d, "key"+socketSuffix)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("listens")
	io.Copy(io.Discard, os.Stdin) // until the launcher has done what it does
	unix.SetNonblock(listener, true)
	heard := 0
	if fd, _, err := unix.Accept(listener); err == nil {
		heard, _, _ = unix.Recvfrom(fd, make([]byte, 100), 0)
	}
	fmt.Println("heard", heard, "bytes")
}
