# Init of a worker: process 1 of its pid namespace. It does the same as the init of a run without a
# template (sandbox/childinit_linux.go).

import posix, _signal, _socket

from .constants import (
    LIFELINE_ENDED, LIFELINE_GO, LIFELINE_STOP, MSG_ENDED, MSG_READY, SETUP_AFTER, SETUP_INIT, SETUP_START, WORKER_INIT, WORKER_PROGRAM)
from .messages import receive, tell
from .pages import prepare
from .syscalls import Polls, Usage, call, errno, getrusage, kill, load, poll, run, waitpid
from .worker import program

PIDFD_OPEN = 434
CHILDREN = -1  # RUSAGE_CHILDREN
EINTR, SIGKILL, SIGCONT, SIGSTOP, WNOHANG = 4, 9, 18, 19, 1
POLLIN = 1
LAST_WAITS = 10  # of 10 ms each, until a tracer that does not let go of an ended program is killed


def enter_user_namespace(t):
    """Enters a user namespace, and starts init in it. It returns only in the program."""
    me = posix.geteuid(), posix.getegid()
    run(t.calls[SETUP_START], t.memory, WORKER_INIT)
    for name, text in ("setgroups", "deny"), ("gid_map", "%d %d 1" % (me[1], me[1])), ("uid_map", "%d %d 1" % (me[0], me[0])):
        fd = posix.open("/proc/self/" + name, posix.O_WRONLY)
        posix.write(fd, text.encode())
        posix.close(fd)
    if posix.fork():
        posix._exit(0)
    return init(t)


def init(t):
    """Starts the program, waits for a launcher, and serves it until the end of the run. It returns
    only in the program."""
    me = int(posix.readlink("/proc/self"))  # this is still the maker's /proc: the number of init there
    posix.setsid()
    _signal.pthread_sigmask(_signal.SIG_SETMASK, _signal.valid_signals())
    run(t.calls[SETUP_INIT], t.memory, WORKER_INIT)
    done, ready = posix.pipe()  # tells the program that init is done
    pid = posix.fork()
    if not pid:
        posix.close(ready)
        return program(t, done)
    control = _socket.socket(fileno=WORKER_INIT)  # after the fork: else the program's copy would close whatever has this number then
    posix.close(done)
    posix.close(WORKER_PROGRAM)
    for fd in t.groups:
        posix.close(fd)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)  # if a preloaded module ignores it, nobody hears of the program's end
    signals = run(t.calls[SETUP_AFTER], t.memory, WORKER_INIT)
    handle = call(PIDFD_OPEN, pid, 0, 0, 0, 0, 0)
    prepare(t.ranges[0])
    tell(WORKER_INIT, MSG_READY, 0, me)
    calls, fds = receive(control)
    if not calls:
        posix._exit(0)
    lists, kept = load(calls)
    run(lists[0], kept, WORKER_INIT)
    posix.write(ready, b"\1")
    posix.close(ready)
    control.close()
    lifeline, status = fds[:2]
    how = supervise(pid, signals, lifeline, handle)
    if how is None or posix.getpid() != 1:
        posix._exit(0)
    finish(how, signals, lifeline, status)


def finish(how, signals, lifeline, status):
    """Reports how the program has ended, and ends when nothing of the run is left."""
    left = collect()
    tell(status, MSG_ENDED, left, how)
    if left:
        await_left(signals, lifeline)
        while True:  # no child left means nothing left. Not by posix: both fail at last, and exceptions are slow
            kill(-1, SIGKILL)
            if waitpid(-1, None, 0) < 0 and errno() != EINTR:
                break
    usage = Usage()
    getrusage(CHILDREN, usage)
    posix.write(status, usage.raw)  # the launcher takes this as the end of the namespace
    posix._exit(0)


def collect():
    """Reaps what has ended, and tells whether anything is left of the process tree: an orphan is a
    child of init."""
    while True:
        ended = waitpid(-1, None, WNOHANG)
        if not ended:
            return 1
        if ended < 0 and errno() != EINTR:
            return 0


def await_left(signals, lifeline):
    """Waits until all processes have ended, or until the launcher does not want to wait."""
    polls = Polls()
    words = memoryview(polls).cast("B").cast("i")
    while True:
        words[0], words[1], words[2], words[3] = signals, POLLIN, lifeline, POLLIN
        poll(polls, 2, -1)
        if polls[7] and not posix.read(lifeline, 1):
            return
        if polls[3]:
            posix.read(signals, 128)
            if not collect():
                return


def supervise(pid, signals, lifeline, handle):
    """Passes signals on and reaps, until the program has ended. Returns its wait status, or None if
    the launcher has ended first. When a traced program ends, its tracer is told first. handle, a
    pidfd, is readable at once, and a tracer that then does not let go is killed."""
    polls = Polls()
    words = memoryview(polls).cast("B").cast("i")
    waits = 0
    while True:
        words[0], words[1], words[2], words[3], words[4], words[5] = signals, POLLIN, lifeline, POLLIN, handle, POLLIN
        poll(polls, 3, 10 if waits else -1)
        if polls[7]:
            byte = posix.read(lifeline, 1)
            if not byte:
                return None
            if byte[0] in (LIFELINE_STOP, LIFELINE_GO):
                if posix.getpid() == 1:
                    kill(-1, SIGSTOP if byte[0] == LIFELINE_STOP else SIGCONT)
                continue
            if byte[0] == LIFELINE_ENDED:  # the launcher has seen it
                waits = LAST_WAITS
            try:
                posix.kill(pid, byte[0])
            except OSError:
                pass
        if polls[3]:
            posix.read(signals, 128)
        patience = posix.WNOHANG
        if polls[11] or waits:
            handle, waits = -1, waits + 1
            if waits > LAST_WAITS and posix.getpid() == 1:
                kill(-1, SIGKILL)
                patience = 0
        while True:
            try:
                ended, how = posix.waitpid(-1, patience)
            except OSError:
                break
            if not ended:
                break
            if ended == pid:
                return how
