package cmd_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"py3run/internal/need"
)

// What users do at the terminal of a shell. After each session the terminal is as it was before.
var sessions = []struct {
	name string
	do   func(u *user)
}{
	{"input", func(u *user) {
		u.runs("import os\nprint([os.isatty(n) for n in (0, 1, 2)], os.ttyname(0).startswith('/dev/'), os.environ['TERM'], *os.get_terminal_size())\n" +
			"open('/dev/tty', 'w').write('by name\\n')\nprint(os.getpgrp() == os.tcgetpgrp(0), os.getsid(0) != os.getpid())\nprint('hello', input('name? '))")
		u.sees("[True, True, True] True xterm 80 24\r\nby name\r\nTrue True\r\nname? ")
		u.raw()
		u.types("bob\r")
		u.sees("bob\r\nhello bob\r\n")
		u.prompt(0)
	}},
	{"exit code", func(u *user) {
		u.runs("import sys; sys.exit(3)")
		u.prompt(3)
	}},
	{"interrupt", func(u *user) {
		u.runs("import time\nprint('up')\nwhile True: time.sleep(60)")
		u.sees("up\r\n")
		u.raw()
		u.types("\x03")
		u.sees("^CTraceback")
		u.sees("\r\nKeyboardInterrupt\r\n")
		u.prompt(130)
	}},
	{"interrupt ends a loop", func(u *user) {
		u.writes("import time; print('up'); time.sleep(60)")
		u.types("while :; do py3run run a.py; done\r")
		u.sees("up\r\n")
		u.raw()
		u.types("\x03")
		u.prompt(130)
	}},
	{"interrupt that the program handles", func(u *user) {
		u.runs("import time\ntry:\n  print('up')\n  while True: time.sleep(60)\nexcept KeyboardInterrupt: print('caught', input('and? '))")
		u.sees("up\r\n")
		u.raw()
		u.types("\x03")
		u.sees("and? ")
		u.types("so\r")
		u.sees("caught so\r\n")
		u.prompt(0)
	}},
	{"quit", func(u *user) {
		u.runs("input('up')")
		u.sees("up")
		u.raw()
		u.types("\x1c")
		u.sees("py3run: error: signal: ended by SIGQUIT\r\n")
		u.prompt(131)
	}},
	{"end of file", func(u *user) {
		u.runs("import sys; print('up'); print([sys.stdin.read()])")
		u.sees("up\r\n")
		u.raw()
		u.types("a\rb\r\x04")
		u.sees(`['a\nb\n']`)
		u.prompt(0)
	}},
	{"stop and continue", func(u *user) {
		u.runs("print('got', input('up'))")
		u.sees("up")
		for range 3 {
			u.raw()
			u.types("\x1a")
			u.sees("Stopped")
			u.prompt(148)
			u.types("echo she''ll\r")
			u.sees("\r\nshell\r\n")
			u.prompt(0)
			u.resize(30, 90)
			u.types("fg\r")
			u.sees("py3run run")
		}
		u.raw()
		u.types("this\r")
		u.sees("got this\r\n")
		u.prompt(0)
	}},
	{"stop and end", func(u *user) {
		u.runs("print('got', input('up'))")
		u.sees("up")
		u.raw()
		u.types("\x1a")
		u.sees("Stopped")
		u.prompt(148)
		u.types("kill %1\r") // without wait, which may find it still stopped
		u.sees("py3run: error: cancelled: the caller sent SIGTERM")
		waitUntil(u.T, "py3run has ended", func() bool { return len(children(u.cmd.Process.Pid)) == 0 })
		u.restored()
	}},
	{"background", func(u *user) {
		u.runs("import os, time\nprint('up')\nwhile not os.path.exists('go'): time.sleep(0.01)\nprint('got', input('and? '))")
		u.sees("up\r\n")
		u.raw()
		u.types("\x1a")
		u.sees("Stopped")
		u.prompt(148)
		u.types("bg\r")
		u.prompt(0)
		u.types("touch go\r")
		u.sees("and? ") // it goes on, and waits for its input
		u.types("echo she''ll\r")
		u.sees("\r\nshell\r\n")
		u.restored()
		u.types("fg\r")
		u.sees("py3run run")
		u.raw()
		u.types("this\r")
		u.sees("got this\r\n")
		u.prompt(0)
	}},
	{"started in the background", func(u *user) {
		u.writes("print('got', input('up'))")
		u.types("py3run run --tty a.py &\r")
		u.sees("up")
		u.restored()
		u.types("echo she''ll\r")
		u.sees("\r\nshell\r\n")
		u.types("fg\r")
		u.sees("py3run run")
		u.raw()
		u.types("this\r")
		u.sees("got this\r\n")
		u.prompt(0)
	}},
	{"in the background to its end", func(u *user) {
		u.writes("print('up')")
		u.types("py3run run --tty a.py & wait $!\r")
		u.sees("up\r") // and \r\n, because the shell's settings are in force
		u.prompt(0)
	}},
	{"stopped by a signal", func(u *user) {
		u.runs("import os, signal\nprint('got', os.kill(os.getpid(), signal.SIGSTOP), input('up'))")
		u.sees("Stopped")
		u.prompt(148)
		u.types("fg\r")
		u.sees("up")
		u.raw()
		u.types("this\r")
		u.sees("got None this\r\n")
		u.prompt(0)
	}},
	{"the group in front ends without giving the terminal back", func(u *user) {
		u.runs("import os, signal, time\nchild = os.fork()\nif child == 0:\n  os.setpgid(0, 0)\n  signal.signal(signal.SIGTTOU, signal.SIG_IGN)\n" +
			"  os.tcsetpgrp(0, os.getpid())\n  os._exit(0)\nos.waitpid(child, 0)\nprint('got', input('up'))")
		u.sees("up")
		u.sees("Stopped")
		u.prompt(148)
		u.types("fg\r")
		u.sees("py3run run")
		u.raw()
		u.types("this\r")
		u.sees("got this\r\n")
		u.prompt(0)
	}},
	{"a shell in the run", func(u *user) {
		u.runs("import subprocess; print(subprocess.call(['bash', '--norc', '--noprofile', '--noediting', '-i'], env={'PS1': 'inner> '}))")
		u.sees("inner> ")
		u.raw()
		u.types("sh -c 'echo in''side; exec sleep 60'\r")
		u.sees("\r\ninside\r\n")
		u.types("\x1a")
		u.sees("Stopped")
		u.sees("inner> ")
		u.types("fg\r")
		u.sees("sleep 60")
		u.types("\x03")
		u.sees("inner> ")
		u.types("exit 5\r")
		u.sees("\r\n5\r\n")
		u.prompt(0)
	}},
	{"size of the window", func(u *user) {
		u.runs("import os, signal\nsignal.signal(signal.SIGWINCH, lambda *_: os.write(1, b'%d %d\\n' % os.get_terminal_size()))\nprint('up')\nwhile True: signal.pause()")
		u.sees("up\r\n")
		u.raw()
		u.resize(31, 101)
		u.sees("101 31\r\n")
		u.resize(32, 102)
		u.sees("102 32\r\n")
		u.types("\x03")
		u.prompt(130)
	}},
	{"size of the window, changed while it was stopped", func(u *user) {
		u.runs("import os\nprint('got', input('up'), *os.get_terminal_size())")
		u.sees("up")
		u.raw()
		u.types("\x1a")
		u.prompt(148)
		u.resize(31, 101)
		u.types("fg\r")
		u.sees("py3run run")
		u.raw()
		u.types("this\r")
		u.sees("got this 101 31\r\n")
		u.prompt(0)
	}},
	{"getpass", func(u *user) {
		u.runs("import getpass; print(getpass.getpass('word: ')[::-1])", "2>err")
		u.sees("word: ")
		u.raw()
		u.types("abc\r")
		u.sees("cba\r\n")
		u.prompt(0)
		if strings.Contains(string(u.shown), "abc") {
			u.Errorf("the terminal has shown the word: %q", u.shown)
		}
	}},
	{"pdb", func(u *user) {
		u.runs("x = 6\nimport pdb; pdb.set_trace()\nx = x * 7\nprint('x is', x)")
		u.sees("(Pdb) ")
		u.raw()
		u.types("p x\r")
		u.sees("\r\n6\r\n(Pdb) ")
		u.types("c\r")
		u.sees("x is 42\r\n")
		u.prompt(0)
	}},
	{"console of Python", func(u *user) {
		u.runs("import code; code.interact(banner='hi', exitmsg='')")
		u.sees(">>> ")
		u.raw()
		u.types("1 +\x7f+ 1\r")
		u.sees("2\r\n>>> ")
		u.interrupts("KeyboardInterrupt\r\n>>> ")
		u.types("\x04")
		u.prompt(0)
	}},
	{"line editing", func(u *user) {
		needModule(u.T, "readline")
		u.runs("import readline\nprint('got', input('up> '))")
		u.sees("up> ")
		u.raw()
		u.types("ac\x1b[Db\r") // cursor to the left
		u.sees("got abc\r\n")
		u.prompt(0)
	}},
	{"standard error elsewhere", func(u *user) {
		u.runs("import os, sys\nprint(*[os.isatty(n) for n in (0, 1, 2)])\nprint('err', file=sys.stderr)\ninput('up')", "2>err")
		u.sees("True True False\r\n")
		u.raw()
		u.types("\r")
		u.prompt(0)
		text, _ := os.ReadFile(filepath.Join(u.cmd.Dir, "err"))
		if !strings.HasPrefix(string(text), "err\n") {
			u.Errorf("the file has %q", text)
		}
	}},
	{"pager", func(u *user) {
		_, err := exec.LookPath("less")
		need.That(u.T, "less", err)
		u.runs("import subprocess\nopen('long', 'w').writelines('line %d\\n' % n for n in range(500))\nprint('ended with', subprocess.call(['less', 'long']))")
		u.sees("line 22")
		u.sees("\x1b[K") // its prompt
		u.raw()
		u.types(" ")
		u.sees("line 40")
		u.sees("\x1b[K")
		u.types("\x1a")
		u.sees("Stopped")
		u.prompt(148)
		u.types("fg\r")
		u.sees("py3run run")
		u.sees("line 40")
		u.sees("\x1b[K")
		u.types("q")
		u.sees("ended with 0\r\n")
		u.prompt(0)
	}},
	{"curses", func(u *user) {
		needModule(u.T, "curses")
		u.runs("import curses\ndef main(screen):\n  screen.addstr(0, 0, 'up'); screen.refresh()\n  seen = []\n  while True:\n    seen.append(screen.getch())\n" +
			"    if seen[-1] == curses.KEY_RESIZE: screen.addstr(1, 0, 'size %d %d' % screen.getmaxyx()); screen.refresh()\n    if seen[-1] == ord('q'): return seen\n" +
			"print([n in (113, curses.KEY_UP, curses.KEY_RESIZE) for n in curses.wrapper(main)])")
		u.sees("up")
		u.raw()
		u.resize(31, 101)
		u.sees("size 31 101")
		u.types("\x1bOAq")
		u.sees("[True, True, True]\r\n")
		u.prompt(0)
	}},
	{"time limit", func(u *user) {
		u.runs("import tty; tty.setraw(0); print('up', end=''); input()", "--timeout-seconds=1")
		u.sees("up")
		u.sees("py3run: error: timeout: stopped: the wall-clock limit was reached (timeout_seconds = 1)\r\npy3run: hint: ")
		u.prompt(124)
	}},
	{"idle limit", func(u *user) {
		u.runs("input('up')", "--idle-seconds=0.5")
		u.sees("up")
		u.sees("py3run: error: idle_timeout: ")
		u.prompt(124)
	}},
	{"memory limit", func(u *user) {
		u.runs("import os; os.write(1, b'up'); x = bytearray(1 << 30); x = b'x' * (1 << 30)", "--memory-mb=100")
		u.sees("up")
		u.sees("\r\npy3run: ")
		u.sees(prompt)
		u.restored()
	}},
	{"output limit", func(u *user) {
		u.runs("print('x' * 3000)", "--output-mb=0.001")
		u.sees(strings.Repeat("x", 1049) + "py3run: error: output_limit: ")
		u.prompt(123)
	}},
	{"the last output", func(u *user) {
		u.runs("import sys; sys.stdout.write('x' * 300000 + 'end')")
		u.sees(strings.Repeat("x", 1000) + "end")
		u.prompt(0)
	}},
	{"a grandchild that holds the terminal", func(u *user) {
		u.runs("import subprocess; subprocess.Popen(['sleep', '60']); print('up')")
		u.sees("up\r\n")
		u.sees("py3run: warning: ")
		u.prompt(0)
	}},
	{"what is typed later is the shell's", func(u *user) {
		u.writes("print('up')")
		u.types("py3run run a.py; read x; echo \"<$x>\"\r")
		u.sees("up\r\n")
		waitUntil(u.T, "the run is over", func() bool { return u.settings() == u.cooked && len(children(u.cmd.Process.Pid)) == 0 })
		u.types("mine\r")
		u.sees("<mine>\r\n")
		u.prompt(0)
	}},
}

func TestSessions(t *testing.T) {
	t.Parallel()
	for _, s := range sessions {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.do(atShell(t, newPlace(t)))
		})
	}
}

// needModule passes a test over if the interpreter lacks a module.
func needModule(t *testing.T, name string) {
	t.Helper()
	need.That(t, name, exec.Command(findPython(t), "-c", "import "+name).Run())
}
