# The program of a worker: from its fork to where it goes on as if it was an interpreter of its own.

import posix, sys, _signal, _socket

from . import imports, is_silent, own, preloading
from .constants import (
    EVENT_INDIRECT, FILE_COUNT, FILE_MEMORY, MSG_MISSING, MSG_READY, SETUP_PROGRAM, STEP_GROUP, WORKER_INIT, WORKER_PROGRAM, WORKER_RULESET)
from .forgetting import forget
from .messages import put, receive, tell
from .pages import prepare
from .syscalls import O_PATH, Failed, load, run


def program(t, done):
    """Gets ready, and waits for a launcher. done is a pipe: init is done, too. True: the run begins."""
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
    prepare(t.ranges[1])  # in the group, which these pages count in
    control = _socket.socket(fileno=WORKER_PROGRAM)
    tell(WORKER_PROGRAM, MSG_READY, 0, 0)
    claim(t, control, done)
    return True


def flush(t):
    """What preloaded modules have left in buffers is in no run's output."""
    for stream in sys.stdout, t.streams[1], sys.stderr:
        try:
            stream.flush()
        except Exception:
            pass


def claim(t, control, done):
    """Waits for a launcher; then all is as after the start of an interpreter of its own."""
    t.claiming = True
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
    """A run's file under a number that a module believes to be its own would get what the module writes."""
    try:
        null = posix.open("/dev/null", O_PATH)  # whatever is done with it fails, as if it was closed
        for n in numbers - {null}:
            if 2 < n < first:
                posix.dup2(null, n)
        if null not in numbers:
            posix.close(null)
    except OSError:
        posix._exit(127)


def settle(t, request):
    """Gives the run its environment and its standard input, and what each of several runs has of its own. Returns the stream that the
    program prints to: modules may have put something else in its place."""
    environ = own("os").environ  # what the interpreter and modules have made of the environment stays
    for n in t.environ.keys() - request["environ"].keys():
        environ.pop(n, None)
    for n, v in request["environ"].items():
        if t.environ.get(n) != v:
            environ[n] = v
    quiet, printed = t.streams
    if sys.stdin is quiet and not quiet.closed:  # else a module has put its own there
        sys.stdin = sys.__stdin__ = sys.modules["_io"].open(0, encoding=quiet.encoding, errors=quiet.errors, newline="\n", closefd=False)
        sys.stdin.buffer.raw.name = "<stdin>"
        sys.stdin.mode = "r"
    try:
        if "threading" in sys.modules:  # its number outside of the namespace
            sys.modules["threading"].main_thread()._set_native_id()
        if "multiprocessing.process" in sys.modules:  # a secret
            sys.modules["multiprocessing.process"].current_process().authkey = posix.urandom(32)
    except AttributeError:  # somebody has put something else in their place
        pass
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()  # random does so by itself
    imports.first_import = preloading.first_import = first_import()
    return printed


def first_import():
    """Makes what is told of the first import of a module: it brings what loading it has brought."""
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
