# The practice run of a template, from which it learns which memory a run touches.

import marshal, posix, sys, time, _signal, _socket

from .constants import EVENTS_SIZE, GATE_OPEN, SETUP_AFTER, WORD_REQUEST, WORKER_INIT
from .forgetting import forget
from .initprocess import supervise
from .messages import receive
from .pages import compared, end_with_parent, listed, memory_of_self
from .syscalls import Polls, load, poll, run
from .worker import await_lease

PATIENCE, LIFE = 5, 10  # seconds


def scout(t):
    """Returns the memory that a run touches, in init and in the program; nothing, if the preloaded
    modules prevent the practice run. In that run's program it returns what ends the program."""
    ends = posix.pipe(), posix.pipe()
    pid = posix.fork()
    if not pid:
        end = None
        try:
            end = practise(t, ends[0][1], ends[1][1])
        finally:
            if end is None:
                posix._exit(0)
        return None, end
    ranges, deadline = [], time.monotonic() + PATIENCE
    for read, write in ends:
        posix.close(write)
    for read, write in ends:
        text = read_all(read, deadline)
        posix.close(read)
        try:
            ranges.append(listed(marshal.loads(text)))
        except (EOFError, ValueError):
            ranges.append([])
    try:
        posix.kill(pid, _signal.SIGKILL)  # what it has started ends with it
        posix.waitpid(pid, 0)
    except OSError:
        pass
    return ranges, None


def read_all(pipe, deadline):
    polls = Polls()
    words = memoryview(polls).cast("B").cast("i")
    text = b""
    while True:
        words[0], words[1] = pipe, 1  # POLLIN
        if not poll(polls, 1, max(0, int((deadline - time.monotonic()) * 1000))):
            return text
        piece = posix.read(pipe, 1 << 16)
        if not piece:
            return text
        text += piece


def practise(t, of_init, of_program):
    """Runs a few lines like a run, but without a launcher and a sandbox."""
    end_with_parent()
    posix.setsid()
    for number in _signal.SIGALRM, _signal.SIGCHLD:
        _signal.signal(number, _signal.SIG_DFL)
    _signal.alarm(LIFE)
    t.forgotten.append(forget(t.closers))
    request, calls = t.practice
    null = posix.open("/dev/null", posix.O_RDWR)
    shared = posix.memfd_create("py3run-practice")
    posix.ftruncate(shared, EVENTS_SIZE + len(request) + (2 << 20))
    posix.pwrite(shared, len(request).to_bytes(4, sys.byteorder), 4 * WORD_REQUEST)
    posix.pwrite(shared, request, EVENTS_SIZE)
    (gate, opener), (done, ready) = posix.pipe(), posix.pipe()
    lifeline = posix.pipe()[0]  # its other end stays open
    posix.write(opener, bytes((GATE_OPEN,)))

    def leased(*fds):
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        fds = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
        ours.sendmsg([calls], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds)])
        return theirs

    _signal.pthread_sigmask(_signal.SIG_SETMASK, _signal.valid_signals())
    pid = posix.fork()
    if not pid:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        end_with_parent()
        posix.close(ready)
        written = compared(memory_of_self())

        def practised(code):
            try:
                written(of_program)
            finally:
                posix._exit(0)

        await_lease(t, leased(null, null, null, shared, null, gate, null), done)
        return practised
    files = memory_of_self()
    signals = run(t.calls[SETUP_AFTER], t.memory, WORKER_INIT)
    written = compared(files)
    data, fds = receive(leased(lifeline, null))
    lists, kept = load(data)
    run(lists[0], kept, WORKER_INIT)
    posix.write(ready, b"\1")
    posix.close(ready)
    supervise(pid, signals, fds[0], -1)
    written(of_init)
