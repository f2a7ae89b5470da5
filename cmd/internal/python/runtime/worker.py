# The program of a worker, from its fork to the point where it is like a new interpreter.

import posix, sys, _signal, _socket

from . import imports, is_silent, own, preloading
from .constants import (
    EVENT_INDIRECT, FILE_COUNT, FILE_MEMORY, MSG_MISSING, MSG_READY, SETUP_PROGRAM, STEP_GROUP, WORKER_INIT, WORKER_PROGRAM, WORKER_RULESET)
from .forgetting import forget
from .messages import put, receive, tell
from .pages import prepare
from .syscalls import O_PATH, Failed, load, run


def program(t, done):
    """Gets ready, and waits for a launcher. On the pipe done, init tells that it is done. Returns True
    when the run begins."""
    posix.close(WORKER_INIT)
    for fd in t.groups:
        try:
            posix.write(fd, b"0")
        except OSError as e:
            tell(WORKER_PROGRAM, MSG_MISSING, STEP_GROUP, e.errno)
        posix.close(fd)
    posix.setsid()
    t.forgotten.append(forget(t.closers))
    run(t.calls[SETUP_PROGRAM], t.memory, WORKER_PROGRAM)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    prepare(t.ranges[1])  # after entering the control group: the pages count there
    control = _socket.socket(fileno=WORKER_PROGRAM)
    tell(WORKER_PROGRAM, MSG_READY, 0, 0)
    await_lease(t, control, done)
    return True


def flush(t):
    """Flushes what preloaded modules have left in buffers: else it would be in the output of a run."""
    for stream in sys.stdout, t.streams[1], sys.stderr:
        try:
            stream.flush()
        except Exception:
            pass


def await_lease(t, control, done):
    """Waits for a launcher, and sets the process up for its run."""
    t.leasing = True
    flush(t)
    calls, fds = receive(control)
    if not calls:
        posix._exit(0)
    files = range(t.first + FILE_MEMORY, t.first + FILE_COUNT)
    put(fds, [0, 1, 2, *files, WORKER_RULESET][:len(fds)])
    posix.set_inheritable(0, True), posix.set_inheritable(1, True), posix.set_inheritable(2, True)
    if not posix.read(done, 1):
        posix._exit(0)
    posix.close(done)
    lists, kept = load(calls)
    try:
        run(lists[0], kept, WORKER_PROGRAM)
    except Failed:
        posix._exit(127)
    control.close()
    if t.held:
        occupy(t.held, t.first)


def occupy(numbers, first):
    """Occupies the descriptors that preloaded modules have opened. Else a file of the run could get one of
    these numbers, and what the module writes."""
    try:
        null = posix.open("/dev/null", O_PATH)  # every operation on it fails, as on a closed one
        for n in numbers - {null}:
            if 2 < n < first:
                posix.dup2(null, n)
        if null not in numbers:
            posix.close(null)
    except OSError:
        posix._exit(127)


def settle(t, request):
    """Gives the run its environment, its standard input, and what two runs must not share. Returns the
    real standard output: a module may have put something else in the place of sys.stdout."""
    environ = own("os").environ  # changes by the interpreter and by modules stay
    for n in t.environ.keys() - request["environ"].keys():
        environ.pop(n, None)
    for n, v in request["environ"].items():
        if t.environ.get(n) != v:
            environ[n] = v
    quiet, printed = t.streams
    if sys.stdin is quiet and not quiet.closed:  # else a module has put something else there
        sys.stdin = sys.__stdin__ = sys.modules["_io"].open(0, encoding=quiet.encoding, errors=quiet.errors, newline="\n", closefd=False)
        sys.stdin.buffer.raw.name = "<stdin>"
        sys.stdin.mode = "r"
    try:
        if "threading" in sys.modules:  # the one that it has is of another pid namespace
            sys.modules["threading"].main_thread()._set_native_id()
        if "multiprocessing.process" in sys.modules:  # a secret, which runs must not share
            sys.modules["multiprocessing.process"].current_process().authkey = posix.urandom(32)
    except AttributeError:  # a module has replaced them
        pass
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()  # random does this itself after a fork
    imports.first_import = preloading.first_import = first_import()
    return printed


def first_import():
    """Makes the function that is called at the first import of a preloaded module: it counts and notes
    what loading the module has imported."""
    met = set()

    def imported(module):
        todo = [] if is_silent() or imports.events.child else [module]
        while todo:
            m = todo.pop()
            if m not in met:
                met.add(m)
                imports.counted()
                if m in imports.flagged and m != module:
                    imports.events.note(EVENT_INDIRECT, m)
                todo += preloading.brought.get(m, ())

    return imported
