# What runs in front of the user's code, in the same interpreter. Everything here is on the path of every run:
# only modules that cost nothing are imported (no json, no os, no traceback: see report.py, which imports them when an
# exception has to be told). All names are local to one call, so that nothing of it shows in the user's __main__ and
# nothing the user rebinds reaches it. What the reply cannot do without is at hand before the user's code begins: afterwards
# there may be no descriptor and no memory left, and modules, built-in names and the import system are what the code made of them.
#
# Descriptors, all at numbers that no file of the user's can ever get (see sandbox.Spec.FirstFile):
#   first + 0  this code               first + 3  the gate: a byte when the start record is durable
#   first + 1  the shared memory       first + 4  the dump pipe, for faulthandler
#   first + 2  the pipe for events of forked children
#
# The shared memory (memory.go reads it):
#   0        words of 32 bits: see W_* below, then one counter for each distinct event
#   TEXT     the events, a line each: "id kind field\tfield\n", fields in unicode_escape
#   EVENTS   the request (marshal), and behind it the reply: its description (JSON), then its value (JSON)
#
# What it says is data for the launcher, never a verdict.


def start(first, cold, claim, end, flagged, preloaded):
    import sys, posix, marshal, mmap, faulthandler, time, gc, _imp, _json, _warnings, _weakref
    from itertools import chain, count
    from _codecs import unicode_escape_encode as escape  # by name, codecs would be imported in the middle of an event

    try:
        from fcntl import fcntl
    except ImportError:
        fcntl = None
    W_DROPPED, W_IMPORTS, W_COMMITTED, W_ABOUT, W_VALUE, W_REQUEST, W_START, COUNTERS = 0, 1, 2, 3, 4, 5, 6, 64
    TEXT, EVENTS, DISTINCT = 16384, 1 << 20, 4000

    # --- events -----------------------------------------------------------------------------------------

    seen, ids, drops, imports = {}, count(), count(1), count(1)
    children = first + 2
    child = False  # a forked copy: events go through the pipe
    silent = True  # nothing is told yet; later: we are importing something ourselves

    def note(kind, *fields):
        fields = [f if type(f) is str else str(f) for f in fields]
        line = kind + "\t".join(fields)
        known = seen.get(line)
        if known is not None:
            words[known[0]] = next(known[1])
            return
        # tabs of their own are escaped; within PIPE_BUF, so that lines of several children do not mix
        text = b"\t".join([escape(f)[0] for f in fields])
        if len(text) > 4000:
            fields[0] = shortened(fields[0], len(escape(fields[0])[0]) + 3990 - len(text))
            text = b"\t".join([escape(f)[0] for f in fields])
        text = b"%s%s\n" % (kind.encode(), text)
        if child:
            try:
                posix.write(children, text)
            except Exception:
                words[W_DROPPED] += 1
            return
        number = next(ids)
        try:
            if number >= DISTINCT:
                raise ValueError
            write(text)
        except ValueError:  # full
            words[W_DROPPED] = next(drops)
            return
        words[COUNTERS + number] = 1
        seen[line] = COUNTERS + number, count(2)

    def shortened(field, room):
        """The beginning of a text, with an ellipsis, that has so much room when it is escaped."""
        kept = field
        while len(escape(kept)[0]) > max(room, 0):
            kept = kept[:len(kept) * room // len(escape(kept)[0])] if room > 0 else ""
        return kept + "\u2026"

    def forked():
        nonlocal child
        child = True
        seen.clear()

    def name(path, directory=-1):
        if type(path) is not str:
            path = path.decode("utf-8", "surrogateescape") if isinstance(path, (bytes, bytearray)) else str(path)
        if path[:1] != "/":
            path = place("fd/%d" % directory if type(directory) is int and directory >= 0 else "cwd") + "/" + path
        return path

    def place(link):
        try:
            return posix.readlink("/proc/self/" + link)
        except OSError as e:
            # Deeper than a path can be long: the C library's getcwd would look for each name on the way, which takes a second where a thousand are.
            return posix.getcwd() if link == "cwd" and e.errno != 36 else "?"  # ENAMETOOLONG

    def text(value):
        return value.decode("utf-8", "surrogateescape") if isinstance(value, (bytes, bytearray)) else str(value)

    def cached(path):
        """Whether it is byte code that the import system keeps in a cache of its own, which is not the user's doing."""
        if ".pyc" not in path and path[-12:] != "/__pycache__" or sys._getframe(3).f_globals is not external:
            return False
        prefix = getattr(sys, "pycache_prefix", None)
        return "/__pycache__" in (path[-12:], path.rpartition("/")[0][-12:]) or bool(prefix) and path.startswith(prefix)

    def opened(a):
        # O_WRONLY | O_RDWR | O_CREAT | O_TRUNC
        if a[2] & 0o1103 and type(a[0]) is not int:
            path = text(a[0])
            # The event of os.open, which has no mode, does not have dir_fd: who names that may mean any directory.
            if path[:1] != "/" and a[1] is None and any(type(c) is tuple and "dir_fd" in c for c in sys._getframe(2).f_code.co_consts):
                note("W", "?/" + path)
                return
            path = name(path)
            if path != "/dev/null" and not cached(path):
                note("A" if a[2] & 0o2000 else "W", path)  # O_APPEND

    def written(a):
        if type(a[0]) is not int:
            note("W", name(a[0]))

    def linked(a):
        note("W", name(a[1], a[-1] if len(a) > 2 else -1))

    def made(a):
        path = name(a[0], a[2] if len(a) > 2 else -1)
        if not cached(path):
            note("M", path)

    def deleted(a):
        path = name(a[0], a[1] if len(a) > 1 else -1)
        if not cached(path):
            note("D", path)

    def renamed(a):
        source, target = name(a[0], a[2] if len(a) > 2 else -1), name(a[1], a[3] if len(a) > 3 else -1)
        if not (cached(source) and cached(target)):
            note("D", source)
            note("W", target)

    def connected(a, kind="C"):
        to = a[1]
        if type(to) is tuple and len(to) > 1:
            note(kind, text(to[0]), to[1])
        elif isinstance(to, (str, bytes)) and to:
            to = text(to)
            note(kind, "unix:" + ("@" + to[1:] if to[0] == "\0" else to))

    def program(path, args):
        if isinstance(args, (str, bytes)):
            args = [args]
        args = [text(x) for x in list(args)[1:]]
        path, shown, short, room = text(path), [], 0, 3900
        if len(path) > 200:
            room -= len(escape(path)[0])
            if room < 1900:
                path, room = shortened(path, 1990), 1900
        for x in args[:16]:
            kept = x[:300]
            room -= len(escape(kept)[0]) + 1
            if room < 0:
                break
            shown.append(kept)
            short += kept != x
        if short or len(shown) < len(args):
            note("Q", len(args) - len(shown), short, path, *shown)
        else:
            note("P", path, *shown)

    def executed(a):
        if type(a[0]) is int or posix.access(a[0], 1):  # execvp tries each directory of PATH
            program(a[0], a[1])

    def spawned(a):
        if sys._getframe(2).f_globals.get("__name__") != "subprocess":  # which has told already
            program(a[0], a[1])

    def unseen(a):  # an interpreter within this one has no hook
        words[W_DROPPED] = next(drops)

    events = {
        "open": opened, "os.truncate": written, "os.link": linked, "os.symlink": linked, "os.mkdir": made,
        "cpython.PyInterpreterState_New": unseen,
        "os.remove": deleted, "os.rmdir": deleted, "os.rename": renamed,
        "socket.connect": connected, "socket.sendto": connected, "socket.sendmsg": connected, "socket.bind": lambda a: connected(a, "B"),
        "subprocess.Popen": lambda a: program(a[0], a[1]), "os.exec": executed,
        "os.posix_spawn": spawned, "os.spawn": lambda a: program(a[1], a[2]), "os.system": lambda a: program("/bin/sh", ["sh", "-c", a[0]]),
    }

    def hook(event, args, events=events):
        if event in events:
            try:
                events[event](args)
            except Exception:  # an exception here would end the user's operation; what signal handlers raise is not ours
                words[W_DROPPED] = next(drops)

    # --- flagged imports --------------------------------------------------------------------------------
    # An import of a loaded module raises no audit event, but it does read _initializing of the module's spec. A
    # spec of a flagged module therefore gets a class whose _initializing is a property.

    def watch(spec):
        Plain = type(spec)

        def look(spec):
            if silent:
                return
            if preloaded:
                imported(spec.name)
            f = sys._getframe(2)  # past the import system, and past code from a string to who executed it
            while f and (f.f_code.co_filename[:1] == "<" or f.f_globals.get("__name__") == "importlib"):
                f = f.f_back
            if f and f.f_code.co_filename == path:
                note("J", spec.name)
                spec.__class__ = Plain  # nothing more to learn
            else:
                note("I", spec.name)

        def get(spec):
            try:
                look(spec)
            except Exception:
                pass
            return spec.__dict__.get("_initializing", False)

        def put(spec, value):
            if value:
                get(spec)
            spec.__dict__["_initializing"] = value

        body = {"__module__": Plain.__module__, "__qualname__": Plain.__qualname__, "_initializing": property(get, put)}
        spec.__class__ = type(Plain.__name__, (Plain,), body)

    def finder():
        def find_spec(fullname, where=None, target=None):
            if not child and not silent:
                words[W_IMPORTS] = next(imports)
                if fullname == unheard:  # from Python 3.13 on no event tells of a new interpreter
                    unseen(None)
            if site is not None and fullname in shows_site:
                found = site(fullname)
                if found is not None:
                    return found
            if carried and fullname in workers:
                carry()
            if fullname in flagged:
                for other in list(sys.meta_path):
                    find = getattr(other, "find_spec", None)
                    if find is None or find is find_spec:
                        continue
                    spec = find(fullname, where, target)
                    if spec is not None:
                        try:
                            watch(spec)
                        except TypeError:  # a spec of another make
                            note("I", fullname)
                        return spec
            return None

        return type("py3run", (), {"find_spec": staticmethod(find_spec)})

    def watch_imports():
        for module in flagged:
            spec = getattr(modules.get(module), "__spec__", None)
            if spec is not None:
                try:
                    watch(spec)
                except TypeError:
                    pass
        sys.meta_path.insert(0, finder())

    # --- variables in workers -----------------------------------------------------------------------------
    # A worker of multiprocessing's that is not forked imports the code again, and misses the request's variables: see report.py.

    carried = False  # there are variables, and nothing of multiprocessing that starts workers yet
    workers = frozenset(("multiprocessing.forkserver", "multiprocessing.popen_forkserver", "multiprocessing.popen_spawn_posix"))

    def carry():
        nonlocal carried
        carried = False
        __import__("multiprocessing.spawn")  # which those import first of all
        spawn = modules["multiprocessing.spawn"]
        plain = spawn.get_preparation_data

        def get_preparation_data(name):
            if spawn.get_preparation_data is get_preparation_data:
                spawn.get_preparation_data = plain
                rest()["workers"](bound())
            return spawn.get_preparation_data(name)

        spawn.get_preparation_data = get_preparation_data

    # --- lazy site ----------------------------------------------------------------------------------------
    # Started with -S, the interpreter does what site does when it is missed: when an import finds nothing, or shows what site has done.

    site = None  # loads it; None: it is there
    shows_site = frozenset((
        "site", "sysconfig", "pkgutil", "runpy", "importlib.machinery", "importlib.metadata", "importlib.util", "pkg_resources", "multiprocessing", "venv"))
    # What the standard library itself looks for, for other systems: no package has such a name.
    never = frozenset(getattr(sys, "stdlib_module_names", ("nt", "msvcrt", "winreg", "_winapi", "_winreg", "_overlapped"))) | {"org", "java", "vms_lib"}

    def lazy_site():
        nonlocal site
        import _imp
        from _thread import RLock

        lock = RLock()  # who misses something meanwhile waits

        def load(wanted):
            nonlocal site
            held = 0
            try:  # a finder is asked under the import lock, and other threads may import
                while True:
                    _imp.release_lock()
                    held += 1
            except RuntimeError:
                pass
            try:
                with lock:
                    if site is not None:
                        site = None
                        sys.meta_path[:] = [f for f in sys.meta_path if f is not last]
                        # site sorts the whole path: it gets the interpreter's, and what it adds to that comes behind the code's
                        path, sys.path = sys.path, before["path"].copy()
                        try:
                            quietly(own("site").main)
                        finally:
                            added, sys.path = sys.path, path
                            path += [p for p in added if p not in before["path"] and p not in path]
            finally:
                for _ in range(held):
                    _imp.acquire_lock()
            module = modules.get(wanted)
            if module is None:
                return None
            kept = module.__spec__  # site has brought it: it is not made again

            class Loader:
                def create_module(spec):
                    return module

                def exec_module(module):
                    module.__spec__ = kept

            module.__spec__ = type(sys.__spec__)(wanted, Loader)  # importlib looks there, and would make the module again
            return module.__spec__

        def find_spec(fullname, where=None, target=None):
            if type(where) is list or fullname in never:  # of a package that was found: site adds nothing to it
                return None
            spec = load(fullname)
            if spec is not None:
                return spec
            for other in list(sys.meta_path):
                spec = other.find_spec(fullname, where, target) if hasattr(other, "find_spec") and other is not last else None
                if spec is not None:
                    return spec
            return None

        names, builtins = own("_sitebuiltins"), sys.modules["builtins"]
        builtins.quit, builtins.exit = (names.Quitter(n, "Ctrl-D (i.e. EOF)") for n in ("quit", "exit"))
        builtins.help = names._Helper()
        last = type("py3run", (), {"find_spec": staticmethod(find_spec)})
        sys.meta_path.append(last)
        site = load

    # --- the reply ----------------------------------------------------------------------------------------

    def quietly(call, *args):
        """Calls what may import for us, which is not the user's doing and not told."""
        nonlocal silent
        before, silent = silent, True
        try:
            return call(*args)
        finally:
            silent = before

    def own(module):
        quietly(__import__, module)
        return sys.modules[module]

    def refuse(value):
        raise TypeError

    make_encoder, quote = _json.make_encoder, _json.encode_basestring_ascii

    def encode(value):
        return "".join(make_encoder({}, refuse, quote, None, ":", ",", False, False, False)(value, 0))

    scalars = frozenset((int, str, bool, float, type(None)))
    containers = frozenset((list, dict))
    plain = scalars | containers
    words_of = frozenset((str,))

    def simple(value, most):
        """Whether the C encoder gives this value exactly: only JSON's own types, names that are strings, not deep, not endless."""
        level = [value]
        for depth in range(60):
            most -= sum(map(len, level))
            if most < 0:
                return False
            dicts = [v for v in level if type(v) is dict]
            if not words_of.issuperset(map(type, chain.from_iterable(dicts))):
                return False
            lists = [v for v in level if type(v) is list] if dicts else level
            below = lambda: chain(chain.from_iterable(lists), chain.from_iterable(map(dict.values, dicts)))
            types = set(map(type, below()))  # not as a list: that may be as large as the value
            if not types <= plain:
                return False
            if not types & containers:
                return True
            level = [v for v in below() if type(v) in containers]
        return False

    def rest():
        """What is only needed now and then, from report.py. An audit hook of the user's can refuse it, nothing else."""
        names = {"__name__": "py3run", "sys": sys, "own": own, "name_of": name_of, "builtins": globals()["__builtins__"],
                 "system": before, "loaded": loaded, "prefixes": prefixes}
        exec(marshal.loads(cold), names)
        return names

    def put(about, value=""):
        """Leaves the reply, two texts in ASCII, in the shared memory. about may be what a text is made of."""
        if posix.getpid() != me:
            return
        if type(about) is not str:
            about = encode(about)
        at = words[W_REQUEST]
        if at + len(about) + len(value) > len(space):
            about, value = '{"kind":"value"}', value[:most + 1]  # the launcher measures what is there, and believes nothing else
        if len(value) > 1 << 18:
            try:
                space.madvise(23, at & -4096, len(value))  # MADV_POPULATE_WRITE: all pages at once, not a fault for each
            except Exception:  # before Linux 5.14
                pass
        for part in about, value:
            for i in range(0, len(part), 1 << 16):  # in pieces: a copy of all would be memory that may not be there
                piece = part[i:i + (1 << 16)].encode("ascii")
                space[at:at + len(piece)] = piece
                at += len(piece)
        words[W_ABOUT], words[W_VALUE] = len(about), len(value)
        words[W_COMMITTED] = 1

    digits = getattr(sys, "get_int_max_str_digits", int("4300").__int__)

    def reply(value, kind="value"):
        worker.close()
        about = {"kind": kind, "type": name_of(type(value))}
        if request["result_format"] == "plain" and 0 < digits() <= 4300:  # longer numbers are no JSON to the launcher
            try:
                if type(value) in scalars or type(value) in containers and simple(value, most):
                    raw = encode(value)
                    if "\\ud" not in raw:  # a surrogate: perhaps a lone one
                        put(about, raw)
                        return
            except (ValueError, TypeError, RecursionError):
                pass
        try:
            report = rest()
        except Exception as e:
            about["warnings"] = [["inexact_value", "result: reading it failed with " + name_of(type(e))]]
            put(about, encode("<%s object>" % name_of(type(value))))
            return
        put(about, report["value"](value, request["result_format"], most, about, encode))

    # --- the run ------------------------------------------------------------------------------------------

    name_of = type.__dict__["__name__"].__get__  # a metaclass may have another idea of it
    modules = sys.modules
    external = vars(modules["_frozen_importlib_external"])
    unheard = "_interpreters" if sys.version_info >= (3, 13) else None
    before = {  # what imports depend on, while the path is the interpreter's alone
        "modules": modules, "path": sys.path.copy(), "meta_path": sys.meta_path.copy(), "path_hooks": sys.path_hooks.copy()}
    loaded = modules.copy()
    loaded.pop("__main__", None)
    prefixes = sys.prefix + "/lib", sys.base_prefix + "/lib"
    worker = mmap.mmap(-1, 4 << 20, mmap.MAP_PRIVATE | 0x20)  # never touched: what the reply can be made from when memory is out
    if claim:
        watch_imports()
        end = claim()  # a template stays here, and its workers go on: see template.py
    else:
        for fd in range(first, first + 5):
            posix.set_inheritable(fd, False)
        posix.close(first)
    me = posix.getpid()
    posix.register_at_fork(after_in_child=forked)
    shared = first + 1
    extra = {"trackfd": False} if sys.version_info >= (3, 13) else {}  # else mmap keeps a copy of the descriptor
    ring = mmap.mmap(shared, EVENTS, **extra)
    space = mmap.mmap(shared, 0, offset=EVENTS, **extra)
    try:  # that copy has a low number, which the user may write to: seal the memory against write(2)
        fcntl(shared, 1033, 0x10)  # F_ADD_SEALS, F_SEAL_FUTURE_WRITE
    except Exception:
        pass
    words, write = memoryview(ring).cast("I"), ring.write
    ring.seek(TEXT)
    posix.close(shared)
    silent = False
    faulthandler.enable(file=first + 4)
    faulthandler.register(63, file=first + 4)  # the launcher asks where the program is
    faulthandler.register(24, file=first + 4)  # SIGXCPU: the processor time is over, the kill follows

    request = marshal.loads(memoryview(space)[:words[W_REQUEST]])
    most = request["most"]
    path, command = request["path"], request["command"]
    ahead = 0
    if not claim:
        flagged = request["flagged"]
        watch_imports()
        if request["lazy_site"]:
            lazy_site()
    else:
        brought, tell, given, (quiet, printed), ahead = preloaded
        environ = own("os").environ  # what the interpreter and modules have made of the environment stays
        for n in given.keys() - request["environ"].keys():
            environ.pop(n, None)
        for n, v in request["environ"].items():
            if given.get(n) != v:
                environ[n] = v
        if sys.stdin is quiet and not quiet.closed:  # else a module has put its own there
            sys.stdin = sys.__stdin__ = modules["_io"].open(0, encoding=quiet.encoding, errors=quiet.errors, newline="\n", closefd=False)
            sys.stdin.buffer.raw.name = "<stdin>"
            sys.stdin.mode = "r"
        try:
            if "threading" in modules:  # its number outside of the namespace
                modules["threading"].main_thread()._set_native_id()
            if "multiprocessing.process" in modules:  # a secret
                modules["multiprocessing.process"].current_process().authkey = posix.urandom(32)
        except AttributeError:  # somebody has put something else in their place
            pass
        if "numpy.random" in modules:
            modules["numpy.random"].seed()  # random does so by itself
        met = set()

        def imported(module):
            """The first import of what the template has loaded brings what loading it has brought."""
            todo = [] if silent or child else [module]
            while todo:
                m = todo.pop()
                if m not in met:
                    met.add(m)
                    words[W_IMPORTS] = next(imports)
                    if m in flagged and m != module:
                        note("I", m)
                    todo += brought.get(m, ())

        tell[0] = imported
    sys.argv = request["argv"]
    sys.path[:0] = request["import_path"][:len(request["import_path"]) - ahead]  # the rest is the template's, where modules have left it
    if not claim:
        printed = sys.stdout  # else what modules have put in its place may go there
    if not printed.closed:
        printed.reconfigure(line_buffering=True)  # what was printed before a kill is kept

    main = type(sys)("__main__")
    names = main.__dict__

    def bound():
        """The variables, as the request has them and not as the code has changed them since."""
        variables = marshal.loads(memoryview(space)[:words[W_REQUEST]])["variables"]
        if "".join(variables).isascii():
            return variables
        normalize = own("unicodedata").normalize  # code looks names up after NFKC
        return {normalize("NFKC", n): v for n, v in variables.items()}

    variables = request["variables"]
    if variables:
        if not "".join(variables).isascii():
            variables = bound()
        names.update(variables)
        carried = True
        if not modules.keys().isdisjoint(workers):
            carry()
    names.update(__name__="__main__", __file__=path, __builtins__=sys.modules["builtins"], __package__=None, __cached__=None,
                 __loader__=sys.modules["_frozen_importlib_external"].SourceFileLoader("__main__", path))
    if sys.version_info < (3, 14):
        names["__annotations__"] = {}
    sys.modules["__main__"] = main

    def compiled(source, mode):
        """As compile(), whose first call makes the types of all syntax trees: a sixth of an interpreter's start. exec and eval
        compile without them, but name every text "<string>": so they are stopped in front of its first instruction."""
        code, scope = None, {}

        def stop(frame, event, arg):
            nonlocal code
            if frame.f_globals is scope:
                code = frame.f_code
                raise StopIteration

        # A file may name its coding in the first two lines: codecs are code that would run in here.
        known = type(source) is str or b"coding" not in b"".join(source.split(b"\n", 2)[:2])
        if known and sys.gettrace() is None and hasattr(_warnings, "_filters_mutated"):
            filters = modules.get("warnings", _warnings).filters
            filters.insert(0, ("error", None, Warning, None, 0))  # else a warning would come with that name
            _warnings._filters_mutated()
            try:
                sys.settrace(stop)
                (exec if mode == "exec" else eval)(source, scope)
            except KeyboardInterrupt:
                raise
            except BaseException:  # if not ours, it comes again
                pass
            finally:
                sys.settrace(None)
                del filters[0]
                _warnings._filters_mutated()
        if code is None:
            return compile(source, path, mode, 0, True)
        _imp._fix_co_filename(code, path)
        return code

    def execute():
        if command == "execute":
            code = request["code"]
            if type(code) is str and code[:1] == "\ufeff":  # as in a file
                code = code[1:]
            if request["result_from"] == "last_expression":
                tree = compile(code, path, "exec", 0x400, True)  # PyCF_ONLY_AST
                last = tree.body.pop() if tree.body and type(tree.body[-1]).__name__ == "Expr" else None
                body = compile(tree, path, "exec", 0, True)
                if last is not None:
                    last = compile(own("_ast").Expression(last.value), path, "eval", body.co_flags & 0x1ff0000, True)
                exec(body, names)
                return reply(eval(last, names) if last is not None else None)
            exec(compiled(code, "exec"), names)
            worker.close()  # here: without memory even the next call would fail
            return finish("value")
        if command == "evaluate":
            return reply(eval(compiled(request["code"].lstrip(" \t"), "eval"), names))
        if command == "call_module":
            __import__(request["module"])
            call = sys.modules[request["module"]]
            for part in request["function"].split("."):
                call = getattr(call, part)
            value = call(*request["args"], **request["kwargs"])
            kind = type(value)
            if hasattr(kind, "__await__") or kind is type(x for x in ()) and value.gi_code.co_flags & 0x100:  # CO_ITERABLE_COROUTINE
                value = rest()["awaited"](value)
            return reply(value)
        return reply(rest()["command"](command, request))

    def finish(kind):
        wanted = request["result_from"]
        if wanted == "none" or "result" not in names:
            put('{"kind":"%s","absent":%s}' % (kind, "true" if wanted == "auto" else "false"), "null")
        else:
            reply(names["result"], kind)

    # --- the end ------------------------------------------------------------------------------------------
    # To take an interpreter apart costs a tenth of its start, and after most programs nobody can tell whether it was done. leave does
    # the rest of what the interpreter does at its end, in its order, and then ends the process, unless something is left that could tell: an
    # object that does something when it dies, a library with buffers or exit functions of its own. Then the interpreter ends by itself.

    unknown = frozenset((  # what the C libraries below them do at an exit is not known
        "_ctypes", "_curses", "_curses_panel", "_dbm", "_gdbm", "_interpreters", "_sqlite3", "_testcapi", "_tkinter", "_xxsubinterpreters", "readline"))
    mro_of, vars_of = type.__dict__["__mro__"].__get__, type.__dict__["__dict__"].__get__
    get_objects, referents, tracked, weak = gc.get_objects, gc.get_referents, gc.is_tracked, _weakref.ref
    stdout, stderr, audited = sys.stdout, sys.stderr, False

    def audits(a):
        nonlocal audited
        audited = True

    events["sys.addaudithook"] = audits  # another hook than ours hears of the end, too

    def silent_end():
        for module in modules.keys() - loaded.keys():
            file = getattr(modules[module], "__file__", None)
            if module in unknown or type(file) is str and file[-3:] == ".so" and "/lib-dynload/" not in file:
                return False
        left = get_objects()
        while left:
            size = len(left)
            for x in left:
                kind = type(x)
                if kind in containers or kind is tuple or kind is set:
                    size += len(x)
                elif weak in mro_of(kind):
                    call = x.__callback__
                    if type(call) is type(start) and call.__module__ not in ("weakref", "_weakrefset"):
                        return False
            if size > 20000:
                return False
            for kind in set(map(type, left)):
                for base in mro_of(kind):
                    if "__del__" in vars_of(base):  # files, sockets, generators and coroutines have one as well
                        return False
            left = [x for x in referents(*left) if not tracked(x)]  # what holds no containers is tracked by nobody
        return True

    def leave(code):
        try:
            if posix.getpid() == me and (code is None or type(code) is int):
                depart(code or 0)
        except Exception:
            pass
        gc.unfreeze()  # else what can be reached from here is never taken apart

    def depart(code):
        if audited or not end or sys.modules is not modules or sys.stdout is not stdout or sys.stderr is not stderr:
            return
        threading, atexit = modules.get("threading"), modules.get("atexit")
        if threading is not None:
            if len(threading._active) != 1 or threading._limbo:
                return
            threading._shutdown()
        if atexit is not None and atexit._ncallbacks():
            try:
                atexit._run_exitfuncs()
            except BaseException:  # it was printed
                pass
        if silent_end():
            stdout.flush()
            stderr.flush()
            end(code)

    sys.addaudithook(hook)
    gc.freeze()  # what is there from now on is the code's
    gate = first + 3  # opened when the start record is durable; until then nothing of the user's is even compiled
    if posix.read(gate, 1) != b"\1":
        posix._exit(125)
    posix.close(gate)
    if claim:
        tell[1] = True  # from here on what fails is the run's
    now = time.monotonic_ns()
    words[W_START], words[W_START + 1] = now & 0xFFFFFFFF, now >> 32
    failed = False
    try:
        execute()
    except SystemExit as asked:
        worker.close()
        if command == "execute" and posix.getpid() == me:
            try:
                finish("exit")
            except Exception:  # a value that cannot be told does not change how the program ended
                put('{"kind":"exit","absent":false}', "null")
        leave(asked.code)
        raise
    except BaseException as error:
        worker.close()
        about = {"kind": "error", "type": name_of(type(error)), "memory": isinstance(error, MemoryError)}
        try:
            show = quietly(lambda: rest()["failure"](error, request, about))
        except BaseException:  # no memory, or an audit hook that refuses all: the least that can be told
            least = name_of(type(error))
            try:
                least = "%s: %s" % (least, str(error)[:4000])
                least = least.encode("utf-8", "replace").decode()
            except BaseException:
                pass
            about.setdefault("error", least)
            about.setdefault("traceback", "Traceback (most recent call last):\n" + least + "\n")
            show = lambda: sys.__excepthook__(type(error), error, error.__traceback__)
        put(about)
        if request["show"] or posix.getpid() != me or sys.excepthook is not sys.__excepthook__:
            show()
        failed = True
    leave(int(failed))
    if failed:
        raise SystemExit(1)


start(first, cold, claim, end, flagged, preloaded)
