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

// A Template is an interpreter that waits and forks workers: see runtime/template.py.
type Template struct {
	Process *exec.Cmd
	Control *os.File // a message with the descriptors of two sockets and of control groups asks for a worker
	Pages   [2]int   // pages that init and the program of a worker make their own before they are taken; 0: unknown
}

// A TemplateJob says how to make a template.
type TemplateJob struct {
	Setup         []byte // the syscall list that makes a worker: sandbox.PoolKey.Setup
	Practice      []byte // a syscall list that changes nothing: sandbox.Practice
	UserNamespace bool   // each worker has a user namespace, and writes its id maps itself
	First         int    // the files of a run begin after this descriptor
	Environ       []string
	Preload       []string // modules to import
	ImportPath    []string // directories that they are looked for in first
	Flagged       []string // modules whose import is an event: the template notes which preloaded module imports them

	Quit <-chan struct{} // when it is closed, StartTemplate gives up; nil: never
}

// practice is what a template runs once, to learn which memory a run touches: a little of
// everything.
const practice = "import sys\nprint('.')\nresult = {'text': sys.platform, 'list': [1, 2.5, None, True]}\n"

// StartTemplate starts a template and waits until its modules are imported, at most for as long as
// patience. The error names the module that failed. The template ends with the thread that calls
// this.
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
	// A pipe, as in a run: the interpreter looks at its streams when it starts. What it prints is
	// part of the error if it fails, and is read on so that it never waits.
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
	theirs.Close() // else nobody would see the template's end
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
	answered := make(chan struct{})
	defer close(answered)
	go func() {
		select {
		case <-job.Quit:
			control.SetReadDeadline(time.Unix(1, 0))
		case <-answered:
		}
	}()
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
	case <-time.After(time.Second): // a process that it has started holds the pipe
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return nil, errors.New("start template: it has ended: " + lines[len(lines)-1])
}

// End lets the template end as an interpreter does, with what its modules have registered for the
// end, and kills it after patience. Its workers go on, without what those functions remove.
func (t *Template) End(patience time.Duration) {
	t.Control.Close()
	late := time.AfterFunc(patience, func() { t.Process.Process.Kill() })
	defer late.Stop()
	t.Process.Wait()
}

// Close kills the template. Its workers go on.
func (t *Template) Close() {
	t.Process.Process.Kill() // before the end of the control socket, which asks for an end in peace
	t.Control.Close()
	t.Process.Wait()
}
