package cmd_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"py3run/internal/need"
)

// A run has a terminal whatever the isolation is.
func TestTerminalOfEachKind(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		options []string
		root    bool
	}{
		{"process", []string{"--set", "security.isolation.method=process"}, false},
		{"minimal dev", []string{"--set", "security.isolation.dev=minimal"}, false},
		{"places", []string{"--set", "security.isolation.read-dirs=[\\\"$PWD\\\"]", "--set", "security.isolation.write-dirs=[\\\"$PWD\\\"]"}, false},
		{"no network", []string{"--set", "security.isolation.network=none"}, false},
		{"run-as", []string{"--set", "security.isolation.run-as=nobody"}, true},
		{"no control group", []string{"--set", "security.isolation.cgroup-parent=none"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			if tt.root {
				need.That(t, "root", asRoot())
				p.env = append(p.env, "PY3RUN_PYTHON_INTERPRETER="+pythonForAll(t))
				for dir := p.dir; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
					os.Chmod(dir, 0o755)
				}
			}
			u := atShell(t, p)
			code := "import os\nname = os.ttyname(0)\nfor path in '/dev/tty', name:\n  with open(path, 'r+b', 0) as f: f.write(b'by name\\n')\nprint('got', input('up'))"
			u.runs(code, tt.options...)
			u.sees("by name\r\nby name\r\nup")
			u.raw()
			u.types("\x1a")
			u.sees("Stopped")
			u.prompt(148)
			u.types("fg\r")
			u.sees("py3run run")
			u.raw()
			u.types("this\r")
			u.sees("got this\r\n")
			u.prompt(0)
		})
	}
}

// Which streams are the run's terminal.
func TestWhichStreams(t *testing.T) {
	t.Parallel()
	const code = "import os, sys; print([os.isatty(n) for n in (0, 1, 2)], sys.stdin.isatty() or sys.stdin.read())"
	for _, tt := range []struct{ name, command, want string }{
		{"all", `py3run run -c "$CODE"`, "[True, True, True] True\r\n"},
		{"not wanted", `py3run run --no-tty -c "$CODE" < /dev/null`, "[False, False, False] \r\n"},
		{"input from a pipe", `printf in | py3run run -c "$CODE"`, "[False, False, False] in\r\n"},
		{"output to a pipe", `py3run run -c "$CODE" | cat`, "[True, False, False] True\r\n"},
		{"asked for, input from a pipe", `printf in | py3run run --tty -c "$CODE"`, "in[True, True, True] True\r"}, // with its echo
		{"asked for, output to a pipe", `py3run run -t -c "$CODE" | od -c`, `T   r   u   e  \r  \n`},
		{"asked for, nothing is one", `: | py3run run -t -c "$CODE" 2>&1 | od -c`, `T   r   u   e  \r  \n`},
		{"the code from standard input", `echo "$CODE" | py3run run -`, "[False, False, False] \r\n"},
		{"the terminal of another session", `setsid -w py3run run -c "$CODE"`, "[True, False, False] True\r\n"},
		{"both", `py3run run --tty --no-tty -c "$CODE"`, "py3run: error: --tty and --no-tty exclude each other\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.env = append(p.env, "CODE="+code)
			u := atShell(t, p)
			u.types(tt.command + "\r")
			u.sees(tt.want)
			u.sees(prompt)
			u.restored()
		})
	}
}

// Input that is no terminal is typed, and then its end.
func TestTypedFromPipe(t *testing.T) {
	t.Parallel()
	for _, input := range []string{"", "one\n", "one\ntwo", strings.Repeat(strings.Repeat("x", 99)+"\n", 1000)} {
		t.Run(fmt.Sprint(len(input)), func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			c := p.command("run", "--tty", "-c", "import sys; print(sys.stdin.isatty(), len(sys.stdin.read()))")
			c.Stdin = strings.NewReader(input)
			out, err := c.CombinedOutput()
			if want := fmt.Sprintf("True %d\r\n", len(input)); err != nil || !strings.HasSuffix(string(out), want) {
				t.Errorf("%v: ends with %q, want %q", err, out[max(0, len(out)-100):], want)
			}
		})
	}
}

// Signals that end py3run find the terminal in order. No shell hides what it left.
func TestTerminalAfterSignals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		signal syscall.Signal
		status string // empty: py3run itself is ended
	}{
		{unix.SIGTERM, "cancelled"}, {unix.SIGHUP, "cancelled"}, {unix.SIGQUIT, "cancelled"}, {unix.SIGINT, "cancelled"},
		{unix.SIGUSR1, ""}, {unix.SIGABRT, ""}, {unix.SIGALRM, ""},
	} {
		t.Run(tt.signal.String(), func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			u := sitDown(t, p.command("run", "-c", "import tty; tty.setraw(0); print('up'); input()"))
			u.sees("up")
			u.raw()
			u.cmd.Process.Signal(tt.signal)
			state := u.ends()
			u.restored()
			if tt.status == "" {
				if ws := state.Sys().(syscall.WaitStatus); ws.Signal() != tt.signal {
					t.Errorf("ended by %v", state)
				}
				return
			}
			u.sees("py3run: error: cancelled: the caller sent " + unix.SignalName(tt.signal) + "\r\n")
			if end := p.end(t); end.Status != tt.status {
				t.Errorf("recorded %+v", end)
			}
		})
	}
}

// When the terminal goes away, everything of the run ends.
func TestTerminalGoesAway(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]string{
		"at once":           "input('up')",
		"SIGHUP is ignored": "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\nprint('up')\nwhile True: signal.pause()",
		"while it prints":   "print('up')\nwhile True: print('x' * 1000)",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			u := sitDown(t, p.command("run", "-c", code))
			u.sees("up")
			u.raw()
			u.slave.Close()
			u.master.Close()
			<-u.over
			u.ends()
			if end := p.end(t); end.Status != "cancelled" {
				t.Errorf("recorded %+v", end)
			}
		})
	}
}

// A run whose caller ignores SIGHUP outlives the terminal: its input has an end.
func TestTerminalGoesAwayIgnored(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := exec.Command("sh", "-c", `trap "" HUP; exec py3run run -c "$CODE"`)
	c.Dir, c.Env = p.dir, append(p.env, "CODE=import os, sys; print('up'); os.mkdir('ended with %r' % sys.stdin.read())")
	u := sitDown(t, c)
	u.sees("up\r\n")
	u.raw()
	u.types("in\r")
	u.sees("in\r\n")
	u.slave.Close()
	u.master.Close()
	u.ends()
	if _, err := os.Stat(filepath.Join(p.dir, `ended with 'in\n'`)); err != nil {
		t.Error(err)
	}
	if end := p.end(t); end.Status != "ok" {
		t.Errorf("recorded %+v", end)
	}
}

// What the terminal shows is counted and hashed as standard output.
func TestTerminalIsRecorded(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	u := sitDown(t, p.command("run", "-c", "import sys; print('out'); print('err', file=sys.stderr)"))
	u.ends()
	u.sees("out\r\nerr\r\n")
	if end := p.end(t); end.Status != "ok" || end.Process.StdoutBytes != 10 || end.Process.StderrBytes != 0 {
		t.Errorf("recorded %+v", end)
	}
}

// A terminal that shows nothing any more, as after Ctrl-S, keeps nobody from ending.
func TestTerminalThatHangs(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	_, slave := openTerminal(t)
	before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	c := p.command("run", "--timeout-seconds=1", "-c", "while True: print('x' * 1000)")
	c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	c.Run()
	if code := c.ProcessState.ExitCode(); code != 124 {
		t.Errorf("exit code %d", code)
	}
	if now, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS); err != nil || *now != *before {
		t.Errorf("settings %+v, before %+v, %v", now, before, err)
	}
	if end := p.end(t); end.Status != "timeout" {
		t.Errorf("recorded %+v", end)
	}
}

// A program that does not read keeps nobody from ending.
func TestTypedAndNotRead(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.command("run", "-c", "import os, time\nprint('up')\nwhile not os.path.exists('go'): time.sleep(0.01)")
	c.Dir = p.dir
	u := sitDown(t, c)
	u.sees("up\r\n")
	u.raw()
	typed := make(chan struct{})
	go func() {
		defer close(typed)
		u.master.Write([]byte(strings.Repeat("a line\r", 100000)))
	}()
	waitUntil(t, "the terminal takes no more", func() bool {
		n, err := unix.IoctlGetInt(int(u.slave.Fd()), unix.TIOCINQ)
		return err == nil && n > 1000
	})
	if err := os.WriteFile(filepath.Join(p.dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	u.ends()
	u.restored()
	u.master.Close() // ends the writing
	<-typed
}

// What is typed while py3run starts is for the run, with its end.
func TestTypedAhead(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ keys, want string }{{"\x04", "['']"}, {"one\r\x04", `['one\n']`}, {"one\rtwo\x04\x04", `['one\ntwo']`}} {
		p := newPlace(t)
		u := sitDown(t, p.command("run", "-c", "import sys; print([sys.stdin.read()])"), tt.keys)
		u.sees(tt.want + "\r\n")
		u.ends()
		u.restored()
	}
}

// Nobody could continue a run whose group is orphaned, so Ctrl-Z does not stop it.
func TestStopWithoutShell(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	u := sitDown(t, p.command("run", "-c", "print('got', input('up'))"))
	u.sees("up")
	u.raw()
	u.types("\x1a")
	u.sees("^Z")
	u.raw()
	u.types("this\r")
	u.sees("got this\r\n")
	u.ends()
	u.restored()
}

// A template does not serve a run with a terminal.
func TestTerminalIsNeverWarm(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.warm(t)
	u := sitDown(t, p.command("run", "-c", "print('got', input('up'))"))
	u.sees("up")
	u.raw()
	u.types("this\r")
	u.sees("got this\r\n")
	u.ends()
	if end := p.end(t); end.Isolation.Warm || end.Status != "ok" {
		t.Errorf("recorded %+v", end)
	}
}

// After kill -9 nobody restores the terminal, but nothing of the run is left.
func TestKilledAtTerminal(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	u := sitDown(t, p.command("run", "-c", "import subprocess; c = subprocess.Popen(['sleep', '60']); print('up'); c.wait()"))
	u.sees("up\r\n")
	u.raw()
	run := children(u.cmd.Process.Pid)
	if len(run) == 0 {
		t.Fatal("the run has no process")
	}
	u.cmd.Process.Kill()
	u.ends()
	waitUntil(t, "the run has ended", func() bool {
		for _, pid := range run {
			if state, err := os.ReadFile("/proc/" + pid + "/stat"); err == nil && !strings.Contains(string(state), ") Z ") {
				return false
			}
		}
		return true
	})
}
