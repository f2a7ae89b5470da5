# A template: an interpreter that waits, with modules imported, and forks workers: children that sit in namespaces and groups of their
# own before anybody needs them (sandbox/preforked_linux.go has the other side). A worker is used once.
#
#   template ──fork──► (a user's: stage ──fork──►) init (pid 1) ──fork──► program
#
# All of bootstrap.py that is the same for every run happens once, in the template: it calls serve, which returns in programs only.
#
# Init and the program make system calls that the launcher's own code has prepared (sandbox/syscalllist_linux.go): some
# now, the rest when a launcher takes them. Then init does what the launcher's own init does, and the program goes on in bootstrap.py.
#
# Descriptors:
#    8  messages to the template          11     messages of and to the program
#    9  the template's pid namespace      12...  of control groups, to be entered
#   10  messages of and to init           20     a Landlock ruleset


def template(first, control, hot, cold):
    import sys, posix, marshal, builtins, gc, _signal
    import mmap, faulthandler, time, _json, _weakref  # of bootstrap.py: once, not in each worker

    try:
        import fcntl
    except ImportError:
        pass

    # A run that imports what the template has loaded does what loading it does: the imports that came with it are its own. Who has imported what is noted
    # here, and a module's spec gets a class that tells of the first import (bootstrap.py explains why by _initializing).
    early, brought, told = set(sys.modules), {}, [None, False]

    class Recorder:
        def find_spec(name, path=None, target=None):
            f = sys._getframe(1)
            while f and f.f_code.co_filename[:1] == "<" and f.f_code is not template.__code__:
                f = f.f_back
            brought.setdefault(f and f.f_globals.get("__name__"), []).append(name)

    def watch(spec):
        Plain = type(spec)
        kind = kinds.get(Plain)
        if kind is None:
            def get(spec):
                if told[0] is not None:
                    spec.__class__ = Plain
                    told[0](spec.name)
                elif loading:
                    Recorder.find_spec(spec.name)
                return spec.__dict__.get("_initializing", False)

            def put(spec, value):
                spec.__dict__["_initializing"] = value

            body = {"__module__": Plain.__module__, "__qualname__": Plain.__qualname__, "_initializing": property(get, put)}
            kind = kinds[Plain] = type(Plain.__name__, (Plain,), body)
        try:
            spec.__class__ = kind
        except TypeError:  # a spec of another make
            pass

    kinds, loading = {}, False
    sys.meta_path.insert(0, Recorder)
    import _socket

    FAILED, MISSING, ENDED, READY = 1, 2, 3, 6
    OPTIONAL, QUIET, WITH_PREV, WANT_ONE, IF_PREV, TO_SEND, RULE = 1, 2, 4, 8, 16, 32, 64
    CONTROL, OWN_PID, INIT, PROGRAM, GROUPS, RULESET, GROUP_STEP = 8, 9, 10, 11, 12, 20, 1

    def receive(socket):
        data, extra, _, _ = socket.recvmsg(1 << 17, _socket.CMSG_SPACE(4 * 32), 0x40000000)  # MSG_CMSG_CLOEXEC
        fds = []
        for _, _, raw in extra:
            fds += memoryview(raw[:len(raw) // 4 * 4]).cast("i").tolist()
        return data, fds

    control = _socket.socket(fileno=control)
    data, fds = receive(control)
    hello = marshal.loads(data)
    sys.path[:0] = hello["import_path"]
    for module in set(hello["flagged"]).intersection(sys.modules):
        if getattr(sys.modules[module], "__spec__", None) is not None:
            watch(sys.modules[module].__spec__)
    loading = True
    import ctypes

    loading = False
    libc = ctypes.CDLL(None, use_errno=True)
    call = libc.syscall
    call.restype, call.argtypes = ctypes.c_long, [ctypes.c_long] * 7
    errno, char, poll, getrusage, leave = ctypes.get_errno, ctypes.c_char, libc.poll, libc.getrusage, libc.exit
    prctl, kill, waitpid, EINTR = libc.prctl, libc.kill, libc.waitpid, 4
    madvise, page = libc.madvise, posix.sysconf("SC_PAGESIZE")
    madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    Polls, Usage = ctypes.c_short * 12, ctypes.c_char * 144

    def tell(to, kind, step, value):
        posix.write(to, bytes((kind, 0)) + step.to_bytes(2, sys.byteorder) + value.to_bytes(4, sys.byteorder, signed=True))

    class Failed(Exception):
        pass

    def load(image):
        """The lists of an image, its calls ready to be made, and what has to live as long as they do."""
        memory = bytearray(image)
        base = ctypes.addressof((char * len(memory)).from_buffer(memory))
        words = memoryview(memory).cast("B").cast("Q")
        lists, relocations, rights = words[0], words[1], words[2]
        sizes = [words[4 + i] for i in range(lists)]
        at = 4 + lists
        calls = []
        for size in sizes:
            ops = []
            for _ in range(size):
                nr, *args, mode, pointers = words[at:at + 9]
                args = [base + a if pointers >> i & 1 else a - (1 << 64) if a >> 63 else a for i, a in enumerate(args)]
                ops.append((nr, args, mode & 0xFF, mode >> 8))
                at += 9
            calls.append(ops)
        for i in range(relocations):
            words[words[at + i] // 8] += base
        return calls, (memory, base, base + rights)

    def at_address(address, size):
        return (char * size).from_address(address)

    def run(ops, memory, to):
        """Makes calls as sandbox/childinit_linux.go does, and returns the last result."""
        prev, failed = 0, False
        for nr, args, mode, step in ops:
            if failed and mode & IF_PREV:
                continue
            if mode & RULE:
                allow(nr, args, step, to)
                continue
            if mode & WITH_PREV:
                args = [prev, *args[1:]]
            prev = call(nr, *args)
            failed = prev < 0 or mode & WANT_ONE and prev != 1
            if not failed:
                if mode & TO_SEND:
                    at_address(memory[2] + 16, 4)[:] = prev.to_bytes(4, sys.byteorder)
                continue
            if mode & QUIET:
                continue
            tell(to, MISSING if mode & OPTIONAL else FAILED, step, errno())
            if not mode & OPTIONAL:
                raise Failed
        return prev

    def allow(nr, args, step, to):
        """Adds a rule to the Landlock ruleset. A place that does not exist needs none."""
        ruleset, kind, attr, flags, path, of_files = args
        try:
            fd = posix.open(ctypes.string_at(path), 0o12000000)  # O_PATH | O_CLOEXEC
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as e:
            tell(to, FAILED, step, e.errno)
            raise Failed
        at_address(attr + 8, 4)[:] = fd.to_bytes(4, sys.byteorder)
        if call(nr, ruleset, kind, attr, flags, 0, 0) < 0:
            access = int.from_bytes(at_address(attr, 8).raw, sys.byteorder) & of_files
            at_address(attr, 8)[:] = access.to_bytes(8, sys.byteorder)  # a file, which has no rights of a directory's
            if call(nr, ruleset, kind, attr, flags, 0, 0) < 0:
                tell(to, FAILED, step, errno())
                raise Failed
        posix.close(fd)

    def put(fds, numbers):
        """Puts descriptors at numbers, and leaves none at the old ones. Both may overlap."""
        high = max(fds + numbers) + 1
        for i, fd in enumerate(fds):
            posix.dup2(fd, high + i, False)
        for fd in fds:
            posix.close(fd)
        for i, to in enumerate(numbers):
            posix.dup2(high + i, to, False)
            posix.close(high + i)

    # --- memory ahead of time -----------------------------------------------------------------------------
    # A fork shares its memory with the template until it writes: then each page costs a fault, and a run of one line writes a hundred. Which these are is
    # learned once, from a run of nothing. A worker makes them its own while nobody waits for it.

    def touched(maps, pagemap):
        """What a process has written of the memory it got from its parent, and the files it has mapped: address, size and advice for madvise(2)."""
        text = b""
        while piece := posix.read(maps, 1 << 16):
            text += piece
        ranges = []
        for line in text.splitlines():
            place, rights, _, device, *_ = line.split()
            start, end = (int(x, 16) for x in place.split(b"-"))
            written, mapped = rights == b"rw-p", rights in (b"r--p", b"r-xp") and device != b"00:00"
            if not written and not mapped or start >> 63:
                continue
            entries = memoryview(posix.pread(pagemap, (end - start) // page * 8, start // page * 8)).cast("Q")
            last = None
            for i, entry in enumerate(entries):
                # 63: present; 61: of a file; 56: nobody else has it
                if entry >> 63 and (mapped or entry >> 56 & 1 and not entry >> 61 & 1):
                    if last is not None and i - last <= (64 if mapped else 1):  # a page more to map is cheap, one to copy is not
                        ranges[-1][1] = start + (i + 1) * page - ranges[-1][0]
                    else:
                        ranges.append([start + i * page, page, 22 if mapped else 23])  # MADV_POPULATE_READ, MADV_POPULATE_WRITE
                    last = i
        return ranges

    def memory_of_self():
        """To be opened before this process stops being dumpable: then these files are root's."""
        return posix.open("/proc/self/maps", posix.O_RDONLY), posix.open("/proc/self/pagemap", posix.O_RDONLY)

    def compared(files):
        """From here on it counts what is written: another process has all of the memory until the function that comes back has told."""
        read, write = posix.pipe()
        pid = posix.fork()
        if not pid:
            prctl(1, 9, 0, 0, 0)
            posix.close(write)
            posix.read(read, 1)
            posix._exit(0)

        def written(to):
            posix.write(to, marshal.dumps(touched(*files)))
            posix.close(write)
            posix.waitpid(pid, 0)

        return written

    def prepare(lists):
        """What it cannot do, it leaves: kernels before 5.14 do not know the advice, those before 6.14 take one range at a time."""
        for vector, count, total, advice in lists:
            if call(440, -10000, ctypes.addressof(vector), count, advice, 0, 0) != total:  # process_madvise, PIDFD_SELF
                for i in range(0, 2 * count, 2):
                    madvise(vector[i], vector[i + 1], advice)

    def listed(ranges):
        lists = []
        for advice in 22, 23:
            some = [r[:2] for r in ranges if r[2] == advice][:1024]  # IOV_MAX
            flat = [x for r in some for x in r]
            lists.append(((ctypes.c_size_t * len(flat))(*flat), len(some), sum(flat[1::2]), advice))
        return lists

    def scout():
        """What a run touches in init and in the program; nothing, if the preloaded modules are in the way of it. In the program it returns what ends that."""
        ends = posix.pipe(), posix.pipe()
        pid = posix.fork()
        if not pid:
            end = None
            try:
                end = practise(ends[0][1], ends[1][1])
            finally:
                if end is None:
                    posix._exit(0)
            return None, end
        ranges, end = [], time.monotonic() + 5
        for read, write in ends:
            posix.close(write)
        polls = Polls()
        words = memoryview(polls).cast("B").cast("i")
        for read, write in ends:
            text = b""
            while True:
                words[0], words[1] = read, 1
                if not poll(polls, 1, max(0, int((end - time.monotonic()) * 1000))):
                    break
                piece = posix.read(read, 1 << 16)
                if not piece:
                    break
                text += piece
            posix.close(read)
            try:
                ranges.append(listed(marshal.loads(text)))
            except (EOFError, ValueError):
                ranges.append([])
        try:
            posix.kill(pid, _signal.SIGKILL)  # and with it what it has started
            posix.waitpid(pid, 0)
        except OSError:
            pass
        return ranges, None

    def practise(of_init, of_program):
        """A run of a few lines of ours, without a launcher and without a sandbox, but otherwise the same."""
        prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG
        posix.setsid()
        for number in _signal.SIGALRM, _signal.SIGCHLD:
            _signal.signal(number, _signal.SIG_DFL)
        _signal.alarm(10)
        forget()
        request, image = hello["practice"]
        null = posix.open("/dev/null", posix.O_RDWR)
        shared, events = posix.memfd_create("py3run-practice"), 1 << 20
        posix.ftruncate(shared, events + len(request) + (2 << 20))
        posix.pwrite(shared, len(request).to_bytes(4, sys.byteorder), 4 * 5)
        posix.pwrite(shared, request, events)
        (gate, opener), (lifeline, keep), (done, ready) = posix.pipe(), posix.pipe(), posix.pipe()
        posix.write(opener, b"\1")

        def claimed(*fds):
            ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
            fds = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
            ours.sendmsg([image], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds)])
            return theirs

        _signal.pthread_sigmask(_signal.SIG_SETMASK, _signal.valid_signals())
        pid = posix.fork()
        if not pid:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
            prctl(1, 9, 0, 0, 0)
            posix.close(ready)
            written = compared(memory_of_self())

            def practised(code):
                try:
                    written(of_program)
                finally:
                    posix._exit(0)

            claim(claimed(null, null, null, shared, null, gate, null), done)
            return practised
        files = memory_of_self()
        signals = run(calls[4], memory, INIT)
        written = compared(files)
        data, fds = receive(claimed(lifeline, null))
        lists, kept = load(data)
        run(lists[0], kept, INIT)
        posix.write(ready, b"\1")
        posix.close(ready)
        supervise(pid, signals, fds[0], -1)
        written(of_init)

    # --- in the worker -------------------------------------------------------------------------------------

    def forget():
        """What the template's modules have registered for an end is for the template's own: in each worker it would remove what the next one needs. What
        the standard library does at an end with whatever is there then stays, for what the run brings. Nothing dies here: that could do something."""
        module, forgotten = sys.modules.get, []

        def empty(things):
            forgotten.append(list(things.items() if hasattr(things, "items") else things))
            things.clear()

        def exits():
            atexit, threading = module("atexit"), module("threading")
            if atexit is not None:
                forgotten.append(gc.get_referents(atexit))
                atexit._clear()
            early = getattr(atexit, "register", None)
            if hasattr(threading, "_threading_atexits"):  # from Python 3.9 on
                empty(threading._threading_atexits)
                early = threading._register_atexit
            for register, name, function in (
                    (getattr(atexit, "register", None), "logging", "shutdown"), (getattr(atexit, "register", None), "multiprocessing.util", "_exit_function"),
                    (early, "concurrent.futures.thread", "_python_exit"), (early, "concurrent.futures.process", "_python_exit")):
                if module(name) is not None:
                    register(getattr(module(name), function))

        def finalizers():
            finalize = getattr(module("weakref"), "finalize", None)
            if finalize is not None:
                empty(finalize._registry)
                finalize._registered_with_atexit = False
            for name, things in (
                    ("multiprocessing.util", "_finalizer_registry"), ("multiprocessing.process", "_children"),
                    ("concurrent.futures.thread", "_threads_queues"), ("concurrent.futures.process", "_threads_wakeups")):
                if module(name) is not None:
                    empty(getattr(module(name), things))
            for closer in closers:
                closer.delete = False

        def helpers():  # the run makes its own
            if module("multiprocessing.process") is not None:
                module("multiprocessing.process").current_process()._config.pop("tempdir", None)
            tracker = getattr(module("multiprocessing.resource_tracker"), "_resource_tracker", None)
            if tracker is not None:
                tracker._fd = tracker._pid = None
            server = getattr(module("multiprocessing.forkserver"), "_forkserver", None)
            if server is not None:
                server._forkserver_address = server._forkserver_alive_fd = server._forkserver_pid = None

        for part in exits, finalizers, helpers:
            try:
                part()
            except Exception:  # a module has put something else in the place of what is known here
                pass
        forgets.append(forgotten)

    def stage():
        """In a user namespace of its own: starts init."""
        me = posix.geteuid(), posix.getegid()
        run(calls[0], memory, INIT)
        for name, text in ("setgroups", "deny"), ("gid_map", "%d %d 1" % (me[1], me[1])), ("uid_map", "%d %d 1" % (me[0], me[0])):
            fd = posix.open("/proc/self/" + name, posix.O_WRONLY)
            posix.write(fd, text.encode())
            posix.close(fd)
        if posix.fork():
            posix._exit(0)
        return init()

    def init():
        me = int(posix.readlink("/proc/self"))  # still the /proc of the maker: its number there
        posix.setsid()
        _signal.pthread_sigmask(_signal.SIG_SETMASK, _signal.valid_signals())
        run(calls[2], memory, INIT)
        done, ready = posix.pipe()  # to the program, that init is done
        pid = posix.fork()
        if not pid:
            posix.close(ready)
            return program(done)
        control = _socket.socket(fileno=INIT)  # not before the fork: the program's copy would close whatever has this number at its end
        posix.close(done)
        posix.close(PROGRAM)
        for fd in groups:
            posix.close(fd)
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)  # a preloaded module may ignore it, and nobody would hear of the program's end
        signals = run(calls[4], memory, INIT)
        handle = call(434, pid, 0, 0, 0, 0, 0)  # pidfd_open
        prepare(ranges[0])
        tell(INIT, READY, 0, me)
        image, fds = receive(control)
        if not image:
            posix._exit(0)
        lists, kept = load(image)
        run(lists[0], kept, INIT)
        posix.write(ready, b"\1")
        posix.close(ready)
        control.close()
        how = supervise(pid, signals, fds[0], handle)
        if how is None or posix.getpid() != 1:
            posix._exit(0)
        left = collect()
        tell(fds[1], ENDED, left, how)
        if left:
            await_left(signals, fds[0])
            while True:  # when no child is left, nothing is. Both calls fail in the end, and exceptions take their time
                kill(-1, 9)
                if waitpid(-1, None, 0) < 0 and errno() != EINTR:
                    break
        usage = Usage()
        getrusage(-1, usage)
        posix.write(fds[1], usage.raw)  # the launcher takes this for the end of the namespace
        posix._exit(0)

    def collect():
        """Collects what has ended, and tells whether anything is left of the tree: whoever loses its parent is a child of init."""
        while True:
            ended = waitpid(-1, None, 1)  # WNOHANG
            if not ended:
                return 1
            if ended < 0 and errno() != EINTR:
                return 0

    def await_left(signals, lifeline):
        """Waits until all have ended, or the launcher has had enough of it."""
        polls = Polls()
        words = memoryview(polls).cast("B").cast("i")
        while True:
            words[0], words[1], words[2], words[3] = signals, 1, lifeline, 1
            poll(polls, 2, -1)
            if polls[7] and not posix.read(lifeline, 1):
                return
            if polls[3]:
                posix.read(signals, 128)
                if not collect():
                    return

    def supervise(pid, signals, lifeline, handle):
        """Passes signals on and reaps, until the program has ended, whose status it gives, or the launcher. The end of a traced program is its tracer's
        first: handle, a pidfd, tells of it at once, and what then does not let go of it is ended (sandbox/childinit_linux.go)."""
        polls = Polls()
        words = memoryview(polls).cast("B").cast("i")
        waits = 0
        while True:
            words[0], words[1], words[2], words[3], words[4], words[5] = signals, 1, lifeline, 1, handle, 1
            poll(polls, 3, 10 if waits else -1)
            if polls[7]:
                byte = posix.read(lifeline, 1)
                if not byte:
                    return None
                if byte[0] == 255:  # the launcher has seen that it has ended
                    waits = 10
                try:
                    posix.kill(pid, byte[0])
                except OSError:
                    pass
            if polls[3]:
                posix.read(signals, 128)
            patience = posix.WNOHANG
            if polls[11] or waits:
                handle, waits = -1, waits + 1
                if waits > 10 and posix.getpid() == 1:
                    kill(-1, 9)
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

    def program(done):
        posix.close(INIT)
        for fd in groups:
            try:
                posix.write(fd, b"0")
            except OSError as e:
                tell(PROGRAM, MISSING, GROUP_STEP, e.errno)
            posix.close(fd)
        posix.setsid()
        forget()
        run(calls[3], memory, PROGRAM)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        prepare(ranges[1])  # in the group, which these pages count in
        control = _socket.socket(fileno=PROGRAM)
        tell(PROGRAM, READY, 0, 0)
        claim(control, done)
        return end

    def flush():
        """What preloaded modules have left in buffers is in no run's output."""
        for stream in sys.stdout, streams[1], sys.stderr:
            try:
                stream.flush()
            except Exception:
                pass

    def claim(control, done):
        """Waits for a launcher; then all is as after the start of an interpreter of its own."""
        nonlocal claiming
        claiming = True
        flush()
        image, fds = receive(control)
        if not image:
            posix._exit(0)
        numbers = [0, 1, 2, *range(first + 1, first + 5), RULESET][:len(fds)]
        put(fds, numbers)
        posix.set_inheritable(0, True), posix.set_inheritable(1, True), posix.set_inheritable(2, True)
        if not posix.read(done, 1):
            posix._exit(0)
        posix.close(done)
        lists, kept = load(image)
        try:
            run(lists[0], kept, PROGRAM)
        except Failed:
            posix._exit(127)
        control.close()
        if held:  # a run's file under a number that a module believes to be its own would get what the module writes
            try:
                null = posix.open("/dev/null", 0o12000000)  # O_PATH: whatever is done with it fails, as if it was closed
                for n in held - {null}:
                    if 2 < n < first:
                        posix.dup2(null, n)
                if null not in held:
                    posix.close(null)
            except OSError:
                posix._exit(127)

    # --- the template -------------------------------------------------------------------------------------

    for number in _signal.valid_signals():  # what the starter has ignored or blocked; Python's own handlers stay
        if number not in (_signal.SIGPIPE, _signal.SIGXFSZ) and _signal.getsignal(number) == _signal.SIG_IGN:
            _signal.signal(number, _signal.default_int_handler if number == _signal.SIGINT else _signal.SIG_DFL)
    limit = (ctypes.c_ulong * 2)()
    libc.getrlimit(7, limit)  # RLIMIT_NOFILE: the descriptors of a run may be above the usual number; it gets its own limit
    limit[0] = limit[1]
    libc.setrlimit(7, limit)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    me = posix.getpid()
    streams, given = (sys.stdin, sys.stdout), posix.open("/proc/self/environ", posix.O_RDONLY)
    environ = b""
    while piece := posix.read(given, 1 << 16):
        environ += piece
    posix.close(given)
    given = dict(e.decode("utf-8", "surrogateescape").partition("=")[::2] for e in environ.split(b"\0") if e)

    def descriptors():
        found = set()
        for n in posix.listdir("/proc/self/fd"):
            try:
                posix.fstat(int(n))
                found.add(int(n))
            except OSError:  # the directory's own
                pass
        return found

    held = descriptors()
    gc.freeze()
    loading = True
    try:
        for module in hello["preload"]:
            __import__(module)
    except BaseException as e:
        control.send(b"failed %s: %s" % (module.encode(), ("%s: %s" % (type(e).__name__, e)).encode("utf-8", "replace")[:2000]))
        posix._exit(1)
    held = descriptors() - held  # numbers that modules believe to be theirs
    temporary = sys.modules.get("tempfile")
    if temporary is not None and getattr(temporary, "tempdir", None) in ("/tmp", "/var/tmp", "/usr/tmp", "/"):
        temporary.tempdir = None  # looked up before there was a TMPDIR
    sys.meta_path.remove(Recorder)
    loading = False
    end = leave
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if spec is not None and name in early and type(spec) in kinds.values():
            spec.__class__ = type(spec).__mro__[1]
        if spec is not None and name not in early:
            watch(spec)
        # What other libraries than these do when a process ends without its interpreter being taken apart is not known. Objects of these hold memory only.
        file = getattr(module, "__file__", None)
        if name in ("_curses", "_dbm", "_gdbm", "_sqlite3", "_tkinter", "readline") or type(file) is str and file[-3:] == ".so" and not any(
                part in file for part in ("/lib-dynload/", "/numpy/", "/scipy/", "/pandas/", "/bottleneck/", "/numexpr/")):
            end = None
    closer = getattr(temporary, "_TemporaryFileCloser", None)
    closers = [x for x in gc.get_objects() if type(x) is closer]  # what removes a named file
    forgets = []
    for handler in list(getattr(sys.modules.get("logging"), "_handlerList", ())):  # what they hold is in no run's output
        try:
            handler().flush()
        except Exception:
            pass
    for kind in set(map(type, gc.get_objects())):  # what dies with something to do, and is not looked at when a run ends
        if any("__del__" in vars(base) for base in type.__dict__["__mro__"].__get__(kind)):
            end = None
    calls, memory = load(hello["setup"])
    own = posix.open("/proc/self/ns/pid", posix.O_RDONLY)
    put([control.fileno(), own], [CONTROL, OWN_PID])
    control.detach()
    control = _socket.socket(fileno=CONTROL)
    ranges, groups = [], []

    def serve():
        """The life of the template. In the program of a worker it returns, when a launcher has taken that: what ends it."""
        nonlocal ranges
        gc.collect()
        gc.freeze()
        ranges, practised = scout()
        if practised:
            return practised
        control.send(b"ready %d %d" % tuple(sum(total for _, _, total, _ in lists) // page for lists in ranges))
        while True:
            data, fds = receive(control)
            if not data:
                gc.unfreeze()  # else what can be reached from here is never taken apart
                closers.clear()
                raise SystemExit  # now comes what its modules have registered for an end
            flush()
            groups[:] = range(GROUPS, GROUPS + len(fds) - 2)
            put(fds, [INIT, PROGRAM, *groups])
            try:
                if not hello["user_namespace"]:
                    run(calls[0], memory, INIT)
                pid = posix.fork()
                if not pid:
                    control.close()
                    posix.close(OWN_PID)
                    return stage() if hello["user_namespace"] else init()
                if not hello["user_namespace"]:
                    run(calls[1], memory, INIT)
            except Failed:
                if posix.getpid() != me:
                    posix._exit(1)
            for fd in (INIT, PROGRAM, *groups):
                posix.close(fd)
            if hello["user_namespace"]:
                posix.waitpid(pid, 0)
            else:
                try:  # those that have ended since; the last stays a little
                    while posix.waitpid(-1, posix.WNOHANG)[0]:
                        pass
                except ChildProcessError:
                    pass

    claiming = False
    try:
        exec(hot, {"first": first, "cold": cold, "claim": serve, "end": None, "flagged": hello["flagged"], "preloaded": (brought, told, given, streams, len(hello["import_path"])),
                   "__builtins__": {**vars(builtins)}})
    except BaseException:
        if claiming and not told[1]:  # the code has not begun, and the launcher starts another interpreter: nothing of this is the run's
            posix._exit(125)
        raise


template(first, control, hot, cold)
