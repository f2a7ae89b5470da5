package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A served is a process that serves pages.
type served struct {
	*exec.Cmd
	address string // with the one-time token
	err     bytes.Buffer
}

// serve starts py3runctl serve as an ordinary user where the test is root's, and waits for its address.
func serve(t *testing.T, dir string, args ...string) *served {
	t.Helper()
	program := filepath.Join(dir, "py3runctl")
	s := &served{Cmd: exec.Command(program, append([]string{"--dir", filepath.Join(dir, "audit"), "serve"}, args...)...)}
	s.Env = []string{"HOME=" + dir, "PATH=/usr/bin:/bin", "TZ=Etc/UTC"}
	s.Stderr = &s.err
	if os.Geteuid() == 0 {
		s.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		s.Wait()
		t.Fatalf("%v: %s", err, s.err.String())
	}
	s.address = strings.TrimSpace(line)
	return s
}

// get asks as a browser does: over the socket, where one is named.
func (s *served) get(t *testing.T, address, socket string, cookies ...*http.Cookie) *http.Response {
	t.Helper()
	client := http.Client{}
	if socket != "" {
		client.Transport = &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) }}
	}
	r, err := http.NewRequest("GET", address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cookies {
		r.AddCookie(c)
	}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	return answer
}

// The token is in the address that is printed and nowhere else; the memory of the process is closed to
// others of its user; a signal ends the pages cleanly, and a kill leaves nothing in the way.
func TestServeProcess(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "pages") // the ordinary user has to get in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, err := exec.LookPath("py3runctl")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "py3runctl"), text, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "audit"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "audit", "audit.jsonl"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		for _, path := range []string{dir, dir + "/audit", dir + "/audit/audit.jsonl"} {
			if err := os.Chown(path, 65534, 65534); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := serve(t, dir)
	host, token, ok := strings.Cut(s.address, "/sign-in?token=")
	if !ok || !strings.HasPrefix(host, "http://127.0.0.1:") {
		t.Fatalf("%q", s.address)
	}
	proc := fmt.Sprint("/proc/", s.Process.Pid, "/")
	for _, name := range []string{"cmdline", "environ"} {
		if text, _ := os.ReadFile(proc + name); bytes.Contains(text, []byte(token)) {
			t.Errorf("the token is in %s", name)
		}
	}
	info, err := os.Stat(proc + "mem")
	if err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 { // proc(5): of root, when the process is not dumpable
		t.Errorf("the memory of the process is open to its user: %v, %v", info, err)
	}
	answer := s.get(t, s.address, "")
	if len(answer.Cookies()) != 1 {
		t.Fatalf("%d %v", answer.StatusCode, answer.Header)
	}
	page := s.get(t, host+"/history", "", answer.Cookies()...)
	if text, _ := io.ReadAll(page.Body); page.StatusCode != 200 || !bytes.Contains(text, []byte(`value="Etc/UTC"`)) {
		t.Errorf("%d %s", page.StatusCode, text)
	}
	log, err := os.ReadFile(filepath.Join(dir, "audit", "audit.jsonl"))
	if err != nil || !bytes.Contains(log, []byte("session-start")) || bytes.Contains(log, []byte(token)) || bytes.Contains(log, []byte(answer.Cookies()[0].Value)) {
		t.Errorf("%s, %v", log, err)
	}
	s.Process.Signal(syscall.SIGTERM)
	if err := s.Wait(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	if said := s.err.String(); strings.Contains(said, token) || strings.Contains(said, "warning") {
		t.Errorf("standard error: %s", said)
	}

	socket := filepath.Join(dir, "pages.sock")
	for round := range 2 {
		s := serve(t, dir, "--listen", "unix:"+socket, "--host", "plant-7")
		address := "http://plant-7/sign-in?" + strings.SplitN(s.address, "?", 2)[1]
		if answer := s.get(t, address, socket); answer.StatusCode != 200 || len(answer.Cookies()) != 1 {
			t.Errorf("round %d: %d", round, answer.StatusCode)
		}
		s.Process.Kill()
		s.Wait()
		if _, err := os.Stat(socket); err != nil {
			t.Error(err)
		}
	}
	s = serve(t, dir, "--idle", "50ms")
	ended := make(chan error)
	go func() { ended <- s.Wait() }()
	select {
	case err := <-ended:
		if err != nil || !strings.Contains(s.err.String(), "nobody has asked for 50ms") {
			t.Errorf("idle: %v, %s", err, s.err.String())
		}
	case <-time.After(time.Minute):
		t.Error("the pages do not end when they are idle")
	}
}
