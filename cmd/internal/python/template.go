package python

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"py3run/cmd/internal/wire"
)

// A Template is an interpreter that waits, and forks workers: see template.py.
type Template struct {
	Process *exec.Cmd
	Control *os.File // takes a message with the descriptors of a worker's sockets and control groups
	Pages   [2]int   // how many pages init and the program of a worker make their own ahead of time; 0: it could not be learned
}

// A TemplateJob is what a template is made by.
type TemplateJob struct {
	Setup         []byte // syscall list of the calls that make a worker: sandbox.Base.Setup
	Practice      []byte // syscall list of calls that do nothing: sandbox.Practice
	UserNamespace bool   // a worker has one, and maps its own user in it
	First         int    // descriptor after which a worker finds its files
	Environ       []string
	Preload       []string // modules that are imported
	ImportPath    []string // where they are looked for first
	Flagged       []string // modules whose import is told: who of those that are imported now imports them is kept
}

// practice is what a template runs once, to learn what a run touches: a little of everything.
const practice = "import sys\nprint('.')\nresult = {'text': sys.platform, 'list': [1, 2.5, None, True]}\n"

// StartTemplate starts one and waits until its modules are imported, at most for as long as patience. The error says which module failed.
// The template ends with the calling thread.
func StartTemplate(ip Interpreter, job TemplateJob, patience time.Duration) (_ *Template, err error) {
	code, err := ip.code.open()
	if err != nil {
		return nil, err
	}
	defer code.Close()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	unix.SetNonblock(ends[0], true)
	control, theirs := os.NewFile(uintptr(ends[0]), "template"), os.NewFile(uintptr(ends[1]), "template")
	defer func() { theirs.Close() }()
	// A pipe, as the streams of a run are: the interpreter looks at them when it starts. What it says is told if it fails, and else read so that it does not wait.
	read, write, err := os.Pipe()
	if err != nil {
		control.Close()
		return nil, err
	}
	said := make(chan []byte, 1)
	go func() {
		defer read.Close()
		text, _ := io.ReadAll(io.LimitReader(read, 64<<10))
		said <- text
		io.Copy(io.Discard, read)
	}()
	defer func() { write.Close() }()
	const atControl, atCode = 3, 4
	c := exec.Command(ip.Path, "-I", "-X", "utf8", "-c", fmt.Sprintf(templateStub, atCode, ip.code.length(), job.First, atControl))
	c.Env, c.Dir, c.ExtraFiles = job.Environ, "/", []*os.File{theirs, code}
	c.Stdout, c.Stderr = write, write
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		control.Close()
		return nil, fmt.Errorf("start %s: %w", ip.Path, err)
	}
	theirs.Close() // else its end would not be seen
	write.Close()
	t := &Template{Process: c, Control: control}
	defer func() {
		if err != nil {
			t.Close()
		}
	}()
	practice := Job{Command: wire.CommandExecute, Code: []byte(practice), Text: true, Path: "/practice.py", Shown: "/practice.py", Environ: job.Environ, ResultFormat: "plain", ResultFrom: "auto"}
	hello := marshal(nil, map[string]any{"setup": job.Setup, "practice": []any{marshal(nil, practice.request(1<<20)), job.Practice}, "user_namespace": job.UserNamespace, "preload": job.Preload, "import_path": job.ImportPath, "flagged": job.Flagged})
	if _, err := control.Write(hello); err != nil {
		return nil, fmt.Errorf("start template: %w", err)
	}
	control.SetReadDeadline(time.Now().Add(patience))
	answer := make([]byte, 4096)
	n, err := control.Read(answer)
	switch text := string(answer[:n]); {
	case strings.HasPrefix(text, "ready "):
		fmt.Sscanf(text, "ready %d %d", &t.Pages[0], &t.Pages[1])
		control.SetReadDeadline(time.Time{})
		return t, nil
	case strings.HasPrefix(text, "failed "):
		return nil, fmt.Errorf("import %s (in %s)", text[len("failed "):], ip.Path)
	case err == nil || errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("start template: no answer within %v", patience)
	}
	var text []byte
	select {
	case text = <-said:
	case <-time.After(time.Second): // what it has started holds the pipe
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return nil, errors.New("start template: it has ended: " + lines[len(lines)-1])
}

// End lets the template end as interpreters do, with what its modules have registered for that, and kills it when that takes longer than patience.
// Its workers stay, and miss what those functions remove.
func (t *Template) End(patience time.Duration) {
	t.Control.Close()
	late := time.AfterFunc(patience, func() { t.Process.Process.Kill() })
	defer late.Stop()
	t.Process.Wait()
}

// Close kills the template. Its workers stay.
func (t *Template) Close() {
	t.Process.Process.Kill() // before the end of the control socket, which asks for an end in peace
	t.Control.Close()
	t.Process.Wait()
}
