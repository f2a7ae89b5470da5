# A template: an interpreter that waits, with modules imported, and forks workers: children that sit
# in namespaces and groups of their own before anybody needs them (sandbox/preforked_linux.go has
# the other side). A worker is used once.
#
#   template ──fork──► (a user's: stage ──fork──►) init (pid 1) ──fork──► program
#
# All of a run that is the same for every run happens once, in the template: run (program.py) calls
# serve, which returns in programs only.
#
# Init and the program make system calls that the launcher's own code has prepared
# (sandbox/syscalllist_linux.go): some now, the rest when a launcher takes them. Then init does what
# the launcher's own init does, and the program goes on in run.
#
# What preloaded modules have registered and hold is kept until nobody can tell any more that it
# dies: the audit hook keeps these modules.

import gc, marshal, posix, sys, _signal

from . import interpreter_import, preloading
from .constants import (
    EXIT_NO_START, SETUP_BACK, SETUP_START, WORKER_CONTROL, WORKER_GROUPS, WORKER_INIT, WORKER_OWN_PID, WORKER_PROGRAM)

RLIMIT_NOFILE = 7


class Template:
    """What a template knows, and its workers with it."""

    def __init__(self, first, control, hello):
        self.first, self.control, self.process = first, control, posix.getpid()
        self.flagged, self.ahead, self.user_namespace = hello["flagged"], len(hello["import_path"]), hello["user_namespace"]
        self.practice = hello["practice"]  # a request, and calls that change nothing
        self.streams, self.environ = (sys.stdin, sys.stdout), environment()
        self.ranges, self.groups, self.forgotten = [], [], []
        self.claiming = self.began = False
        self.held, self.closers, self.end = set(), [], None  # see preloading.preload
        self.calls, self.memory = [], None  # of the set-up

    def serve(self):
        """The life of the template. In the program of a worker it returns, when a launcher has taken that: what ends it."""
        from .messages import receive
        from .practice import scout
        from .syscalls import page

        gc.collect()
        gc.freeze()
        self.ranges, practised = scout(self)
        if practised:
            return practised
        self.control.send(b"ready %d %d" % tuple(sum(total for _, _, total, _ in lists) // page for lists in self.ranges))
        while True:
            data, fds = receive(self.control)
            if not data:
                gc.unfreeze()  # else what can be reached from here is never taken apart
                self.closers.clear()
                raise SystemExit  # now comes what its modules have registered for an end
            if self.fork_worker(fds):
                return self.end

    def fork_worker(self, fds):
        """Makes a worker with the descriptors of its sockets and control groups. True in its program, which somebody has taken."""
        from .initprocess import init, stage
        from .messages import put
        from .syscalls import Failed, run
        from .worker import flush

        flush(self)
        self.groups[:] = range(WORKER_GROUPS, WORKER_GROUPS + len(fds) - 2)
        put(fds, [WORKER_INIT, WORKER_PROGRAM, *self.groups])
        try:
            if not self.user_namespace:
                run(self.calls[SETUP_START], self.memory, WORKER_INIT)
            pid = posix.fork()
            if not pid:
                self.control.close()
                posix.close(WORKER_OWN_PID)
                return stage(self) if self.user_namespace else init(self)
            if not self.user_namespace:
                run(self.calls[SETUP_BACK], self.memory, WORKER_INIT)
        except Failed:
            if posix.getpid() != self.process:
                posix._exit(1)
        for fd in (WORKER_INIT, WORKER_PROGRAM, *self.groups):
            posix.close(fd)
        if self.user_namespace:
            posix.waitpid(pid, 0)
        else:
            try:  # those that have ended since; the last stays a little
                while posix.waitpid(-1, posix.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass
        return False

    def settle(self, request):
        """In the program: makes its own what runs share otherwise, and returns the stream that it prints to."""
        from .worker import settle

        return settle(self, request)

    def code_begins(self):
        """From here on what fails is the run's."""
        self.began = True


def live(first, control):
    """Runs a template, and what it forks. Requests come on the socket control; a run's files will begin at the descriptor first."""
    global kept
    for module in "mmap", "faulthandler", "time", "_json", "_weakref", "fcntl":  # of every run: once, not in each worker
        try:
            interpreter_import(module)
        except ImportError:
            pass
    preloading.begin()
    import _socket

    from .messages import put, receive

    control = _socket.socket(fileno=control)
    hello = marshal.loads(receive(control)[0])
    sys.path[:0] = hello["import_path"]
    preloading.watch_flagged(hello["flagged"])
    with preloading.Recording():
        from . import syscalls

    usual_state()
    t = kept = Template(first, control, hello)
    t.held, t.closers, t.end = preloading.preload(hello["preload"], control, syscalls.exit)
    t.calls, t.memory = syscalls.load(hello["setup"])
    own = posix.open("/proc/self/ns/pid", posix.O_RDONLY)
    put([control.fileno(), own], [WORKER_CONTROL, WORKER_OWN_PID])
    control.detach()
    t.control = _socket.socket(fileno=WORKER_CONTROL)

    from .program import run

    try:
        run(first, t)
    except BaseException:
        if t.claiming and not t.began:  # the code has not begun, and the launcher starts another interpreter: nothing of this is the run's
            posix._exit(EXIT_NO_START)
        raise


def usual_state():
    """Undoes what the starter has ignored or blocked; Python's own handlers stay."""
    from .syscalls import raise_limit

    for number in _signal.valid_signals():
        if number not in (_signal.SIGPIPE, _signal.SIGXFSZ) and _signal.getsignal(number) == _signal.SIG_IGN:
            _signal.signal(number, _signal.default_int_handler if number == _signal.SIGINT else _signal.SIG_DFL)
    raise_limit(RLIMIT_NOFILE)  # the descriptors of a run may be above the usual number; it gets its own limit
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def environment():
    """The environment that the template was started with, whatever has become of it."""
    given = posix.open("/proc/self/environ", posix.O_RDONLY)
    text = b""
    while piece := posix.read(given, 1 << 16):
        text += piece
    posix.close(given)
    return dict(e.decode("utf-8", "surrogateescape").partition("=")[::2] for e in text.split(b"\0") if e)
