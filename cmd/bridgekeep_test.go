package cmd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// With --state=keep the requests of one user share an interpreter, whether a template had a worker for it or not.
func TestBridgeKeeps(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := newClient(t, p, nil, "--state=keep")
	ask := func(user, code string) bridgeReply {
		t.Helper()
		return c.ask(string(mustJSON(t, map[string]string{"user": user, "code": code})))
	}
	user := func(n int) string { return fmt.Sprint("user", n) }
	for warm, n := tryNamespaces() != nil, 0; !warm || n == 0; n++ { // with namespaces, until one was a worker
		if n == 500 {
			t.Fatal("no interpreter came from a template")
		}
		for _, step := range []struct{ code, result string }{{"x = result = 1", "1"}, {"x += 1; result = x", "2"}, {"import os; result = [x, os.getcwd() == os.environ['TMPDIR']]", "[2 true]"}} {
			if r := ask(user(n), step.code); !r.Success || fmt.Sprint(r.Result) != step.result || len(r.Warnings) > 0 {
				t.Fatalf("%s: %+v", step.code, r)
			}
		}
		warm = warm || p.end(t).Isolation.Warm
	}
	if r := ask("another", "result = 'x' in globals()"); r.Result != false {
		t.Errorf("another user: %+v", r)
	}
	if r := c.ask(`{"command": "clear_globals", "user": "another"}`); r.Result != "Globals cleared" {
		t.Errorf("%+v", r)
	}
	if r := ask("another", "import os; os._exit(3)"); r.Success || r.Failure.Code != "exit" || len(r.Warnings) != 1 || r.Warnings[0].Code != "state_lost" {
		t.Errorf("%+v", r)
	}
	if r := ask("another", "result = 1"); !r.Success || len(r.Warnings) != 1 || r.Warnings[0].Code != "state_lost" {
		t.Errorf("%+v", r)
	}
	if r := c.ask(`{"command": "evaluate", "expression": "1 + 1", "user": "another"}`); fmt.Sprint(r.Result) != "2" {
		t.Errorf("%+v", r)
	}
	all := processes(c.command.Process.Pid)
	c.ask(`{"command": "shutdown"}`)
	c.command.Wait()
	awaitGone(t, all)
	if left, _ := os.ReadDir(filepath.Join(p.dir, "audit", "runs")); len(left) > 0 {
		t.Errorf("runs without an end: %v", left)
	}
}

// A bridge that keeps interpreters ends them with itself, also while they are stopped.
func TestBridgeKeepsNothing(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"end of input", "kill"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, newPlace(t), nil, "--set", "bridge.state=keep")
			for _, user := range []string{"ann", "bob"} {
				if r := c.ask(`{"user": "` + user + `", "code": "import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()"}`); !r.Success {
					t.Fatalf("%+v", r)
				}
			}
			all := processes(c.command.Process.Pid)
			if how == "kill" {
				c.command.Process.Kill()
			} else {
				c.in.Close()
			}
			c.command.Wait()
			awaitGone(t, all)
		})
	}
}
