# An interpreter that is kept: it serves one request after the other, all of one user. Globals,
# modules, the current directory and everything else stay. Each request has its own pipes for stdout
# and stderr, its own events and its own reply. The other side is sandbox.Resident.
#
# Between two requests nothing of the code's runs. This thread waits with all signals blocked; if
# there are other threads or processes, the launcher has them stopped.

import posix, sys

from . import events, imports, memory, own
from .before import modules
from .constants import FILE_PERIODS, REPLY_EXIT
from .ending import leave
from .program import bind, code_starts, execute, main_program, syntax_trees, tell
from .replies import finish, put

CMSG_CLOEXEC = 0x40000000  # MSG_CMSG_CLOEXEC
CUT = 8  # MSG_CTRUNC: the kernel has dropped descriptors for which this process has no number free
DUPLICATE, DUPLICATE_CLOEXEC = 0, 1030  # F_DUPFD, F_DUPFD_CLOEXEC

null, null_device = -1, None  # /dev/null, open for writing


def serve(first, template, prepared):
    """Serves requests until the launcher closes the socket. Only a forked child of the code returns,
    and the program itself, if the code has closed the socket: with SystemExit."""
    signals, sockets = own("_signal"), own("_socket")
    mask, everything = signals.pthread_sigmask(signals.SIG_BLOCK, signals.valid_signals()), signals.valid_signals()
    control = socket_of(first + FILE_PERIODS, sockets)
    streams, names = Streams(), None
    syntax_trees()  # it compiles again and again
    if template is not None:
        from . import preloading
        from .worker import first_import
    while True:
        data, extra, flags, _ = control.recvmsg(1, sockets.CMSG_SPACE(16), CMSG_CLOEXEC)
        if not data:
            end()
        fds = [fd for _, _, raw in extra for fd in memoryview(raw).cast("i")]
        if len(fds) < 2 or flags & CUT:  # without the new memory, the request of before would run again
            posix._exit(1)
        try:
            receive(fds)
            request = memory.request()
        except Exception:  # the code has used up descriptors or memory: the launcher starts another interpreter
            posix._exit(1)
        events.reads = request["reads"]
        events.begin_again(), imports.begin_again()
        if template is not None:
            imports.first_import = preloading.first_import = first_import()  # this request has imports of its own
        names = namespace(request, names)
        streams.begin(request["stdin"])  # before the output has somewhere to go
        connect(fds)
        try:
            signals.pthread_sigmask(signals.SIG_SETMASK, mask)  # a handler of the code's may run here
            status = perform(request, names)
            status = streams.flush(status)
            mask = signals.pthread_sigmask(signals.SIG_BLOCK, everything)
        except BaseException as error:  # of a handler that ran after the code
            signals.pthread_sigmask(signals.SIG_BLOCK, everything)
            report(error, request)
            status = streams.flush(1)
        del request
        disconnect(first)
        if posix.getpid() == memory.process:
            sys.settrace(None), sys.setprofile(None)
            try:
                control.send(status.to_bytes(4, sys.byteorder) + streams.dropped.to_bytes(4, sys.byteorder))
                continue
            except OSError:  # the code has closed the socket
                pass
        signals.pthread_sigmask(signals.SIG_SETMASK, mask)
        leave(status, prepared)
        raise SystemExit(status)


def socket_of(number, sockets):
    """The socket. It is the standard input, too, which is empty from here on."""
    posix.set_inheritable(number, False)
    empty()
    return sockets.socket(fileno=number)


def empty():
    null = posix.open("/dev/null", posix.O_RDONLY)
    if null:
        posix.dup2(null, 0)
        posix.close(null)


def receive(fds):
    """Takes the descriptors of a request: stdout, stderr, and perhaps another shared memory and stdin."""
    for i, fd in enumerate(fds):
        if fd < 3:  # the code has closed its streams
            fds[i] = memory.fcntl(fd, DUPLICATE, 3)
            posix.close(fd)
    if len(fds) > 2:
        memory.attach(fds[2])
    if memory.reserve.closed:
        memory.keep_reserve()


def connect(fds):
    """Puts the streams of a request in place."""
    for to, fd in (1, fds[0]), (2, fds[1]), *((0, fd) for fd in fds[3:]):
        posix.dup2(fd, to)
        posix.close(fd)


def disconnect(first):
    """From here on nobody reads the pipes. A thread that still prints must get no error by that."""
    try:
        if null < 0 or posix.fstat(null).st_rdev != null_device:
            raise OSError
    except OSError:  # this is the first request, or the code has closed the descriptor
        keep_null(first)
    try:
        posix.dup2(null, 1), posix.dup2(null, 2)
    except OSError:  # the code has used up all descriptors
        pass


def keep_null(first):
    """Opens /dev/null for disconnect, once: the launcher watches who opens files for writing, so to open it after each
    request would wake it. The descriptor gets the highest number below first: the code's files have those that they always had."""
    global null, null_device
    null = -1
    try:
        opened = posix.open("/dev/null", posix.O_WRONLY)
        null, null_device = opened, posix.fstat(opened).st_rdev
        null = memory.fcntl(opened, DUPLICATE_CLOEXEC, min(n for n in (posix.sysconf("SC_OPEN_MAX"), first) if n > 0) - 1)  # -1: no limit
        posix.close(opened)
    except Exception:  # there is no such number any more, or no fcntl
        pass


def namespace(request, names):
    """The namespace of __main__, with what the request brings. The variable result of an earlier request
    must not be taken for the result of this one. The code still finds it, as a built-in name."""
    builtins = vars(modules["builtins"])
    if names is None or request["fresh"]:
        builtins.pop("result", None)
        names = main_program(request)
    else:
        if "result" in names:
            builtins["result"] = names.pop("result")
        bind(request, names)
    sys.argv = request["argv"]
    imports.path = request["path"]
    linecache = modules.get("linecache")
    if linecache is not None:
        try:
            linecache.cache.pop(imports.path, None)  # it was the file of an earlier request
        except Exception:
            pass
    return names


def perform(request, names):
    """Does what the request asks for, replies, and returns what would be the exit code."""
    code_starts()
    try:
        execute(request, names)
    except SystemExit as asked:
        memory.reserve.close()
        if request["command"] == "execute" and posix.getpid() == memory.process:
            try:
                finish(request, names, REPLY_EXIT)
            except Exception:  # a value that cannot be encoded does not change how the request ended
                put('{"kind":"%s","absent":false}' % REPLY_EXIT, "null")
        return exit_code(asked.code)
    except BaseException as error:
        memory.reserve.close()
        report(error, request)
        return 1
    return 0


def report(error, request):
    try:
        tell(error, request)
    except BaseException:  # of an excepthook of the code's, when the reply is there
        sys.__excepthook__(type(error), error, error.__traceback__)


def exit_code(code):
    """What the interpreter makes of the code of SystemExit."""
    if code is None:
        return 0
    if isinstance(code, int):
        try:
            return int(code) & 255
        except Exception:
            return 255
    try:
        sys.stderr.write("%s\n" % (code,))
    except Exception:
        pass
    return 1


class Streams:
    """stdout and stderr. A thread that an earlier request has started, and that prints during a later one, would print into the
    output of that one. So what it prints by these streams is dropped and counted."""

    def __init__(self):
        io = modules["_io"]
        self.io, self.Stream, self.get_ident = io, type("TextIOWrapper", (io.TextIOWrapper,), {"__module__": "_io"}), own("_thread").get_ident
        self.like = [(s.encoding, s.errors) for s in (sys.__stdout__, sys.__stderr__)]
        self.late, self.dropped = {}, 0
        self.pair = [None, None]
        self.with_input = False  # the last request had one

    def open(self, i):
        raw = self.io.FileIO(i + 1, "w", closefd=False)
        raw.name = ("<stdout>", "<stderr>")[i]
        encoding, errors = self.like[i]
        stream = self.Stream(self.io.BufferedWriter(raw), encoding=encoding, errors=errors, newline="\n", line_buffering=True)
        stream.mode = "w"
        return stream

    def begin(self, with_input):
        """The code may have replaced its streams, or closed them. Each request begins with usual ones."""
        if with_input or self.with_input:
            self.begin_input(with_input)
        for i, stream in enumerate(self.pair):
            try:
                usable = stream is not None and not stream.closed
            except ValueError:  # detached
                usable = False
            if not usable:
                self.pair[i] = self.open(i)
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__ = self.pair
        self.dropped = 0
        active = getattr(modules.get("threading"), "_active", None)
        me = self.get_ident()
        self.late = {id(t): t for ident, t in list(active.items()) if ident != me} if type(active) is dict else {}
        if self.late:
            self.Stream.write = self.guarded(active)
        elif "write" in vars(self.Stream):
            del self.Stream.write
        for stream in self.pair:  # what is still in it is of nobody
            try:
                stream.flush()
            except Exception:
                pass

    def begin_input(self, given):
        if not given:
            empty()
        self.with_input = given
        encoding, errors = self.like[0]
        sys.stdin = sys.__stdin__ = self.io.open(0, encoding=encoding, errors=errors, newline=None, closefd=False)
        sys.stdin.buffer.raw.name = "<stdin>"
        sys.stdin.mode = "r"

    def guarded(self, active):
        write, get_ident, late = self.io.TextIOWrapper.write, self.get_ident, self.late

        def guard(stream, text):
            if id(active.get(get_ident())) in late:
                self.dropped += len(text)
                return len(text)
            return write(stream, text)

        return guard

    def flush(self, status):
        """Flushes what the code has printed. As at the end of an interpreter, 120 says that this failed."""
        for stream in {id(s): s for s in (sys.stdout, *self.pair, sys.stderr)}.values():
            try:
                stream.flush()
            except Exception:
                if stream is sys.stdout and not status and stream in self.pair and not stream.closed:
                    status = 120
        return status


def end():
    """Ends the interpreter. Nothing of the code's runs any more, since no request would account for it;
    but what open files have in their buffers is written."""
    io = modules["_io"]
    kinds = io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom
    try:
        found = [x for x in own("gc").get_objects() if type(x) in kinds]
        for x in sorted(found, key=lambda x: kinds.index(type(x))):  # texts first
            try:
                if type(x) is not io.TextIOWrapper or type(x.buffer) in kinds:
                    if type(getattr(getattr(x, "buffer", x), "raw", None)) is io.FileIO:
                        x.flush()
            except Exception:
                pass
    finally:
        posix._exit(0)
