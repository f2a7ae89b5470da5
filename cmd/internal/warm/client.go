package warm

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"py3run/sandbox"
)

const (
	leasePatience  = 250 * time.Millisecond // of a launcher, for a handoff
	queuePatience  = 100 * time.Millisecond // of a template, for a worker that is being made
	failedPatience = time.Second            // before a template that could not be started is tried again
	importPause    = time.Minute            // likewise, if a module is missing
	stopPatience   = 10 * time.Second
	startPatience  = 2 * time.Second // for the lock file of a new template
	writePatience  = 5 * time.Second // for a new template, to read what it is to be
	lockSuffix     = ".lock"
	socketSuffix   = ".sock"
	failedPrefix   = "failed " // of a line in the lock file
)

// A Lease is a worker for the time of a run.
type Lease struct {
	Handoff *sandbox.Handoff
	fd      int    // a connection to the template; -1: the template is one of Own
	done    func() // of a template of Own: it removes what is left of the run
}

// Take asks for a worker. Any error means that there is none to be had now.
func Take(dir, key string) (*Lease, error) {
	fd, err := connect(dir, key)
	if err != nil {
		return nil, err
	}
	c := &Lease{fd: fd}
	if err := unix.Sendmsg(fd, []byte("lease"), nil, nil, unix.MSG_NOSIGNAL); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Receive waits for the handoff, not for long. Any error means that there is none.
func (c *Lease) Receive() error {
	if c.done != nil { // it came with the lease
		return nil
	}
	text, descriptors, err := receive(c.fd, leasePatience)
	if err == nil {
		c.Handoff, err = sandbox.ReadHandoff(text, descriptors)
	}
	return err
}

// Alive tells whether the template is still there, which removes what is left of the run.
func (c *Lease) Alive() bool {
	if c.done != nil {
		return true
	}
	p := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return n == 0 && err == nil
}

// GiveUp is Close for a worker that no run has taken.
func (c *Lease) GiveUp() {
	if c.Handoff != nil {
		c.Handoff.Close()
	}
	c.Close()
}

// Close tells the template that the run is over.
func (c *Lease) Close() {
	if c.done != nil {
		c.done()
		return
	}
	unix.Close(c.fd)
}

// connect connects to a template of this user.
func connect(dir, key string) (int, error) {
	d, err := openDir(dir, false)
	if err != nil {
		return -1, err
	}
	defer d.Close()
	// Not blocking: a template that hangs does not take connections, and there is room for so many only.
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	// By the directory's descriptor: an address holds 108 bytes, a path may be longer.
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/" + key + socketSuffix})
	if err == nil {
		err = sameUser(fd)
	}
	if err == nil && !samePids(fd) { // a run of the same user would listen here, and get what other runs are given
		err = errors.New("what listens is in another pid namespace: no template of ours")
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// sameUser asks the kernel who is at the other end.
func sameUser(fd int) error {
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err == nil && int(peer.Uid) != os.Geteuid() {
		err = unix.EACCES
	}
	return err
}

// receive receives one message with its descriptors.
func receive(fd int, patience time.Duration) (text []byte, descriptors []int, err error) {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for end := time.Now().Add(patience); ; {
		n, err := pollBriefly(p, time.Until(end))
		if n > 0 {
			break
		}
		if err == nil {
			return nil, nil, unix.ETIMEDOUT
		}
		if err != unix.EINTR {
			return nil, nil, err
		}
	}
	buffer, rights := make([]byte, 16<<10), make([]byte, unix.CmsgSpace(4*8))
	n, nr, flags, _, err := unix.Recvmsg(fd, buffer, rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, nil, err
	}
	messages, _ := unix.ParseSocketControlMessage(rights[:nr])
	for _, m := range messages {
		list, _ := unix.ParseUnixRights(&m)
		descriptors = append(descriptors, list...)
	}
	switch {
	case flags&unix.MSG_CTRUNC != 0: // this process has no free descriptor for some of them, and the kernel has dropped those
		err = unix.EMFILE
	case n == 0:
		err = unix.ECONNRESET
	}
	if err != nil {
		for _, d := range descriptors {
			unix.Close(d)
		}
		return nil, nil, err
	}
	return buffer[:n], descriptors, nil
}

// pollBriefly is poll(2) without telling the runtime: to hand over to another thread takes longer
// than a handoff does.
func pollBriefly(p []unix.PollFd, most time.Duration) (int, error) {
	t := unix.NsecToTimespec(int64(max(0, most)))
	n, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), uintptr(unsafe.Pointer(&t)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// Start starts the template of a Setup in the background, unless it is there. After a failure it
// tries again only after some time, or if the caller insists.
func Start(s Setup, insist bool) error {
	key := s.Key()
	d, err := openDir(s.Dir, true)
	if err != nil {
		return err
	}
	defer d.Close()
	path := filepath.Join(s.Dir, key+lockSuffix)
	if lock, err := os.OpenFile(path, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err == nil {
		free := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
		why, again := failure(lock)
		if free && insist && why != "" {
			lock.Truncate(0)
			why = ""
		}
		lock.Close() // the template wants it
		if !free {
			return nil // it lives
		}
		if why != "" && time.Now().Before(again) {
			return errors.New(why)
		}
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	defer write.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	// Nothing of the caller's goes with it: neither its environment nor its directory, its terminal
	// or its streams.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unix.Prctl(unix.PR_SET_TIMERSLACK, sandbox.UsualTimerSlack, 0, 0, 0) // a launcher's may be longer (package startup), and what the template starts would inherit it
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"py3run", ServeCommand}, &syscall.ProcAttr{
		Dir: "/", Env: []string{"PATH=/usr/bin:/bin"}, Files: []uintptr{read.Fd(), null.Fd(), null.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		return fmt.Errorf("start template: %w", err)
	}
	go collect(pid)
	write.SetWriteDeadline(time.Now().Add(writePatience)) // it reads at once, or does not live
	_, err = write.Write(text)
	return err
}

// collect waits for the end of a template that this process has started, which would otherwise stay as a zombie. Nobody awaits this
// goroutine: a template outlives most of the processes that start one.
func collect(pid int) {
	for {
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != syscall.EINTR {
			return
		}
	}
}

// ServeCommand is the argument by which a program is a template.
const ServeCommand = "warm-template"

// failure is why the last template of this lock could not start, and when to try again: a module
// that cannot be imported will not be there a moment later.
func failure(lock *os.File) (why string, again time.Time) {
	text := make([]byte, 4096)
	n, _ := lock.ReadAt(text, 0)
	for line := range strings.Lines(string(text[:n])) {
		if rest, ok := strings.CutPrefix(line, failedPrefix); ok {
			why = strings.TrimSpace(rest)
		}
	}
	if info, err := lock.Stat(); err == nil {
		again = info.ModTime().Add(failedPatience)
		if strings.HasPrefix(why, "import ") {
			again = info.ModTime().Add(importPause)
		}
	}
	return why, again
}

// Wait waits until a template answers. It starts another one in the place of a template that was just ending when [Start] saw it.
func Wait(s Setup, patience time.Duration) (Status, error) {
	key, began := s.Key(), time.Now()
	for end := began.Add(patience); ; time.Sleep(5 * time.Millisecond) {
		status, err := Ask(s.Dir, key)
		if err == nil && (status.Ready > 0 || status.Failed != "") {
			return status, nil
		}
		lock, e := os.Open(filepath.Join(s.Dir, key+lockSuffix))
		switch {
		case e == nil:
			why, _ := failure(lock)
			lock.Close()
			if why != "" {
				return Status{}, errors.New(why)
			}
		case errors.Is(e, os.ErrNotExist) && time.Since(began) > startPatience: // a new one makes this file at once
			if err := Start(s, true); err != nil {
				return status, err
			}
			began = time.Now()
		}
		if time.Now().After(end) {
			return status, fmt.Errorf("the template does not answer within %v", patience)
		}
	}
}

// Ask asks a template how it is.
func Ask(dir, key string) (s Status, err error) {
	fd, err := connect(dir, key)
	if err != nil {
		return s, err
	}
	defer unix.Close(fd)
	if err := unix.Sendmsg(fd, []byte("status"), nil, nil, unix.MSG_NOSIGNAL); err != nil {
		return s, err
	}
	text, _, err := receive(fd, 5*time.Second)
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	return s, err
}

// All asks all templates of a directory. It also lists those that could not start, with the reason.
func All(dir string) (list []Status, err error) {
	d, err := openDir(dir, false)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		key, ok := strings.CutSuffix(name, lockSuffix)
		if !ok {
			continue
		}
		if s, err := Ask(dir, key); err == nil {
			list = append(list, s)
			continue
		}
		if lock, err := os.Open(filepath.Join(dir, name)); err == nil {
			if why, _ := failure(lock); why != "" {
				s := Status{Key: key, Failed: why}
				if info, err := lock.Stat(); err == nil {
					s.LastUse = info.ModTime()
				}
				list = append(list, s)
			}
			lock.Close()
		}
	}
	return list, nil
}

// Stop ends a template and waits for its end. Runs under way go on.
func Stop(dir, key string) error {
	fd, err := connect(dir, key)
	if err == nil {
		defer unix.Close(fd)
		if err = unix.Sendmsg(fd, []byte("stop"), nil, nil, unix.MSG_NOSIGNAL); err == nil {
			_, _, err = receive(fd, stopPatience)
			if err == unix.ECONNRESET {
				err = nil
			}
		}
	}
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("stop template %s: %w", key, err)
	}
	return nil
}
