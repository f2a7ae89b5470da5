# A template: an interpreter that has imported modules, waits, and forks workers. These are children
# with namespaces and control groups of their own, ready before a run needs them. The other side is
# sandbox/preforked_linux.go. A worker serves one run.
#
#   template ──fork──► (not root: enter_user_namespace ──fork──►) init (pid 1) ──fork──► program
#
# What is the same for every run happens once, in the template: run (program.py) calls serve, which
# returns only in the programs of workers.
#
# Init and the program make system calls that package sandbox has prepared
# (sandbox/syscalllist_linux.go): some at once, the rest when a launcher takes the worker. Then init
# supervises the run, and the program goes on in run.
#
# The audit hook keeps these modules alive until the end of the process, and therefore the object in
# the variable kept. That is intended: what preloaded modules have registered or opened must not be
# finalized during a run.

import gc, marshal, posix, sys, _signal

from . import interpreter_import, preloading
from .constants import (
    EXIT_NO_START, SETUP_BACK, SETUP_START, WORKER_CONTROL, WORKER_GROUPS, WORKER_INIT, WORKER_OWN_PID, WORKER_PROGRAM,
    WORKER_RULESET)

RLIMIT_NOFILE = 7


class Template:
    """What a template and its workers know."""

    def __init__(self, first, control, reserved, hello):
        self.first, self.control, self.reserved, self.process = first, control, reserved, posix.getpid()
        self.flagged, self.ahead, self.user_namespace = hello["flagged"], len(hello["import_path"]), hello["user_namespace"]
        self.practice = hello["practice"]  # a request, and a syscall list that changes nothing
        self.streams, self.environ = (sys.stdin, sys.stdout), environment()
        self.ranges, self.groups, self.forgotten = [], [], []
        self.leasing = self.began = False
        self.held, self.closers, self.end = set(), [], None  # see preloading.preload
        self.calls, self.memory = [], None  # of the syscall list of the set-up

    def serve(self):
        """The life of the template. It returns only in the program of a worker that a launcher has taken:
        the function that ends it, or None."""
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
                gc.unfreeze()  # else nothing that can be reached from here is ever finalized
                self.closers.clear()
                raise SystemExit  # now comes what its modules have registered for the end
            if self.fork_worker(fds):
                return self.end

    def fork_worker(self, fds):
        """Forks a worker. fds are its two sockets and the files of its control groups. Returns True in the
        program of the worker, when a launcher has taken it, else False."""
        from .initprocess import enter_user_namespace, init
        from .messages import place
        from .syscalls import Failed, run
        from .worker import flush

        flush(self)
        self.groups[:] = range(WORKER_GROUPS, WORKER_GROUPS + len(fds) - 2)
        place(fds, [WORKER_INIT, WORKER_PROGRAM, *self.groups])
        try:
            if not self.user_namespace:
                run(self.calls[SETUP_START], self.memory, WORKER_INIT)
            pid = posix.fork()
            if not pid:
                self.control.close()
                posix.close(WORKER_OWN_PID)
                return enter_user_namespace(self) if self.user_namespace else init(self)
            if not self.user_namespace:
                run(self.calls[SETUP_BACK], self.memory, WORKER_INIT)
        except Failed:
            if posix.getpid() != self.process:
                posix._exit(1)
        for fd in (WORKER_INIT, WORKER_PROGRAM, *self.groups):
            posix.dup2(self.reserved, fd, False)
        if self.user_namespace:
            posix.waitpid(pid, 0)
        else:
            try:  # reap init processes that have ended; the last one may wait for the next time
                while posix.waitpid(-1, posix.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass
        return False

    def settle(self, request):
        """In the program: gives the run what runs must not share, and returns its standard output."""
        from .worker import settle

        return settle(self, request)

    def code_begins(self):
        """From here on, a failure is one of the run."""
        self.began = True


def reserve():
    """Occupies the numbers at which a template puts descriptors later. So no file that a thread of a
    preloaded module opens ever gets one of them: that file would be replaced under its thread, which
    would then read, in its place, the message that a launcher sends to a worker."""
    null = posix.open("/dev/null", posix.O_PATH | posix.O_CLOEXEC)
    for number in range(WORKER_CONTROL, WORKER_RULESET):
        posix.dup2(null, number, False)
    return null


def live(first, control):
    """Runs a template, and in its forks the workers. Requests come on the socket control. The files of a
    run begin after the descriptor first."""
    global kept
    reserved = reserve()  # before any module can start a thread
    for module in "mmap", "faulthandler", "time", "_json", "_weakref", "fcntl":  # every run needs these: once, not in each worker
        try:
            interpreter_import(module)
        except ImportError:
            pass
    preloading.begin()
    import _socket

    from .messages import place, receive

    control = _socket.socket(fileno=control)
    hello = marshal.loads(receive(control)[0])
    sys.path[:0] = hello["import_path"]
    preloading.watch_flagged(hello["flagged"])
    with preloading.Recording():
        from . import syscalls

    usual_state()
    t = kept = Template(first, control, reserved, hello)
    t.held, t.closers, t.end = preloading.preload(hello["preload"], control, syscalls.exit)
    t.calls, t.memory = syscalls.load(hello["setup"])
    own = posix.open("/proc/self/ns/pid", posix.O_RDONLY)
    place([control.fileno(), own], [WORKER_CONTROL, WORKER_OWN_PID])
    control.detach()
    t.control = _socket.socket(fileno=WORKER_CONTROL)

    from .program import run

    try:
        run(first, t)
    except BaseException:
        if t.leasing and not t.began:  # the launcher starts another interpreter: nothing of this belongs to the run
            posix._exit(EXIT_NO_START)
        raise


def usual_state():
    """Resets signals that the starter ignores or blocks. Python's own handlers stay."""
    from .syscalls import raise_limit

    for number in _signal.valid_signals():
        if number not in (_signal.SIGPIPE, _signal.SIGXFSZ) and _signal.getsignal(number) == _signal.SIG_IGN:
            _signal.signal(number, _signal.default_int_handler if number == _signal.SIGINT else _signal.SIG_DFL)
    raise_limit(RLIMIT_NOFILE)  # descriptors of a run can be above the usual limit; each run gets its own limit
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def environment():
    """The environment that the template was started with; modules may have changed it."""
    given = posix.open("/proc/self/environ", posix.O_RDONLY)
    text = b""
    while piece := posix.read(given, 1 << 16):
        text += piece
    posix.close(given)
    return dict(e.decode("utf-8", "surrogateescape").partition("=")[::2] for e in text.split(b"\0") if e)
