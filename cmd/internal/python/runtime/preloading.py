# The imports of a template, ahead of its runs.
#
# A run that imports a preloaded module should show the same events as a run that loads it: also the
# imports that loading the module causes. So a template notes which module has imported which. The
# spec of each preloaded module gets a class that reports the first import of it in a run, by the
# same means as in imports.py.

import gc, posix, sys

from . import interpreter_import

early = set()  # modules that were loaded before the preloading
brought = {}  # by the name of a module: the modules that it has imported
kinds = {}
loading = False
first_import = None  # in a worker: called with the module's name

# The objects of these libraries hold memory only. Nobody knows what others do when a process ends
# and its interpreter is not finalized.
harmless = "/lib-dynload/", "/numpy/", "/scipy/", "/pandas/", "/bottleneck/", "/numexpr/"
harmful = "_curses", "_dbm", "_gdbm", "_sqlite3", "_tkinter", "readline"


class Recorder:
    def find_spec(name, path=None, target=None):
        f = sys._getframe(1)
        while f and f.f_code.co_filename[:1] == "<":
            f = f.f_back
        brought.setdefault(f and f.f_globals.get("__name__"), []).append(name)


class Recording:
    """While this lasts, imports of modules that are loaded already are noted, too."""

    def __enter__(self):
        global loading
        loading = True

    def __exit__(self, *error):
        global loading
        loading = False


def begin():
    early.update(sys.modules)
    sys.meta_path.insert(0, Recorder)


def watch(spec):
    Plain = type(spec)
    kind = kinds.get(Plain)
    if kind is None:
        def get(spec):
            if first_import is not None:
                spec.__class__ = Plain
                first_import(spec.name)
            elif loading:
                Recorder.find_spec(spec.name)
            return spec.__dict__.get("_initializing", False)

        def put(spec, value):
            spec.__dict__["_initializing"] = value

        body = {"__module__": Plain.__module__, "__qualname__": Plain.__qualname__, "_initializing": property(get, put)}
        kind = kinds[Plain] = type(Plain.__name__, (Plain,), body)
    try:
        spec.__class__ = kind
    except TypeError:  # a spec whose class cannot change
        pass


def watch_flagged(flagged):
    for module in set(flagged).intersection(sys.modules):
        if getattr(sys.modules[module], "__spec__", None) is not None:
            watch(sys.modules[module].__spec__)


def preload(modules, control, end):
    """Imports modules. If one fails, it reports that and ends the template. Returns the descriptors
    that the modules have opened, the objects that remove their temporary files, and end; None instead
    of end if the interpreter of a run has to end by itself."""
    held = descriptors()
    gc.freeze()
    with Recording():
        try:
            for module in modules:
                interpreter_import(module)
        except BaseException as e:
            control.send(b"failed %s: %s" % (module.encode(), ("%s: %s" % (type(e).__name__, e)).encode("utf-8", "replace")[:2000]))
            posix._exit(1)
        held = descriptors() - held
        temporary = sys.modules.get("tempfile")
        if temporary is not None and getattr(temporary, "tempdir", None) in ("/tmp", "/var/tmp", "/usr/tmp", "/"):
            temporary.tempdir = None  # found before the run's TMPDIR was known
        sys.meta_path.remove(Recorder)
    if not watch_loaded():
        end = None
    closer = getattr(temporary, "_TemporaryFileCloser", None)
    closers = [x for x in gc.get_objects() if type(x) is closer]
    for handler in list(getattr(sys.modules.get("logging"), "_handlerList", ())):  # else it would be in a run's output
        try:
            handler().flush()
        except Exception:
            pass
    for kind in set(map(type, gc.get_objects())):  # an object that does something when it dies; ending.py looks at those of the run only
        if any("__del__" in vars(base) for base in type.__dict__["__mro__"].__get__(kind)):
            end = None
    return held, closers, end


def watch_loaded():
    """Watches what was preloaded, and nothing else any more. Tells whether a process with these modules
    may end without finalizing the interpreter."""
    all_harmless = True
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if spec is not None and name in early and type(spec) in kinds.values():
            spec.__class__ = type(spec).__mro__[1]
        if spec is not None and name not in early:
            watch(spec)
        file = getattr(module, "__file__", None)
        if name in harmful or type(file) is str and file[-3:] == ".so" and not any(part in file for part in harmless):
            all_harmless = False
    return all_harmless


def descriptors():
    found = set()
    for n in posix.listdir("/proc/self/fd"):
        try:
            posix.fstat(int(n))
            found.add(int(n))
        except OSError:  # the descriptor of the directory itself
            pass
    return found
