package python

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// A host is an interpreter that has started, imported what it was told to, and then forks itself for each case. The bootstrap and the code
// run in the fork as they do behind "python -c", which takes a fifth of the time of a start. The end of a case is in its wait status.
//
// Not the same as behind a start: what the host has imported is there, a stack has one more frame of <string>, the hash seed is the host's.
type host struct {
	mu     sync.Mutex
	cmd    *exec.Cmd
	asks   *os.File
	answer *bufio.Reader
}

// serve is the program of a host. A message is its length in 8 digits and a marshalled dict.
const serve = `
import marshal, os, posix
posix.write(4, b"ready\n")
while True:
    size = posix.read(3, 8)
    if not size:
        posix._exit(0)
    case = b""
    while len(case) < int(size):
        case += posix.read(3, int(size) - len(case))
    case = marshal.loads(case)
    child = posix.fork()
    if child == 0:
        break
    posix.write(4, b"%d\n" % posix.waitpid(child, 0)[1])
posix.close(3)
posix.close(4)
for number, path, flags in case["files"]:
    file = posix.open(path, flags)
    posix.dup2(file, number)
    posix.close(file)
posix.chdir(case["dir"])
os.environ.update(HOME=case["dir"], TMPDIR=case["dir"])
exec(case["code"])
`

// errNotThere says that an interpreter lacks a module that its host has to import.
type errNotThere struct{ module string }

func (e errNotThere) Error() string { return "no module " + e.module }

// startHost starts an interpreter that has these modules. It ends when its requests do, which is with this process at the latest.
func startHost(ip Interpreter, modules []string) (*host, error) {
	askedOf, asks, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	answers, answer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer askedOf.Close()
	defer answer.Close()
	var imports strings.Builder
	for _, module := range modules {
		fmt.Fprintf(&imports, "try: import %[1]s\nexcept ImportError:\n    import os\n    os.write(4, b'no %[1]s\\n')\n    os._exit(0)\n", module)
	}
	h := &host{asks: asks, answer: bufio.NewReader(answers)}
	h.cmd = exec.Command(ip.Path, "-I", "-X", "utf8", "-c", imports.String()+serve)
	h.cmd.Env = append(environ(), "OPENBLAS_NUM_THREADS=1") // a fork has one thread
	h.cmd.Stderr = os.Stderr
	h.cmd.ExtraFiles = []*os.File{askedOf, answer}
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := h.answer.ReadString('\n')
	if module, lacks := strings.CutPrefix(strings.TrimSpace(line), "no "); lacks {
		h.close()
		return nil, errNotThere{module}
	}
	return h, err
}

func (h *host) close() {
	h.asks.Close()
	h.cmd.Wait()
}

// run forks the host. The fork opens the files by their names in /proc: its own descriptors for them, as a child has.
func (h *host) run(p process) (syscall.WaitStatus, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	named := func(number int, f *os.File, flags int) []any {
		return []any{number, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()), flags}
	}
	files := []any{[]any{0, os.DevNull, os.O_RDONLY}, named(1, p.stdout, os.O_WRONLY), named(2, p.stderr, os.O_WRONLY)}
	for i, f := range p.files {
		flags := os.O_RDWR // of memory
		switch len(p.files) - i {
		case 3: // events of forked children, as Open makes it
			flags = os.O_WRONLY | syscall.O_NONBLOCK
		case 2: // the gate
			flags = os.O_RDONLY
		case 1: // the dump pipe
			flags = os.O_WRONLY
		}
		files = append(files, named(firstInTests+i, f, flags))
	}
	message := marshal(nil, map[string]any{"code": p.args[len(p.args)-1], "dir": p.dir, "files": files})
	if _, err := h.asks.Write(append(fmt.Appendf(nil, "%08d", len(message)), message...)); err != nil {
		return 0, err
	}
	line, err := h.answer.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("the host has ended: %w", err)
	}
	status, err := strconv.Atoi(strings.TrimSpace(line))
	return syscall.WaitStatus(status), err
}
