package sandbox

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// The whole suite runs once more as a user without rights, with a copy of the binary that this user
// can read.
func TestAsOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("this is an ordinary user already")
	}
	const nobody = 65534
	dir := t.TempDir()
	temp := filepath.Join(dir, "tmp")
	if err := os.Mkdir(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755), os.Chown(temp, nobody, nobody)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	binary := filepath.Join(dir, "sandbox.test")
	copyFile(t, binary, self())

	args := []string{"-test.timeout=5m", "-test.count=1"}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	if testing.Verbose() {
		args = append(args, "-test.v")
	}
	c := exec.Command(binary, args...)
	c.Dir = temp
	required := slices.DeleteFunc(strings.Split(os.Getenv("PY3RUN_TEST_REQUIRE"), ","), func(s string) bool { return s == "root" || s == "memory-group" })
	c.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + temp, "TMPDIR=" + temp, "PY3RUN_TEST_REQUIRE=" + strings.Join(required, ",")}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // which the parent-death signal follows
	defer runtime.UnlockOSThread()
	text, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, text)
	} else {
		t.Logf("%s", text)
	}
}

func copyFile(t *testing.T, to, from string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = io.Copy(out, in); err == nil {
		err = out.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}
